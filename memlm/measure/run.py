"""Encoders, data and an output folder -> a finished measurement, on disk if it has a folder."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from memlm import ui
from memlm.api.face import Model
from memlm.api.others import OthersModel
from memlm.api.own import OwnModel
from memlm.data.corpus import Corpus
from memlm.errors import MemlmError, UsageError, WorkError
from memlm.files import check_format, read_json, write_json, write_last
from memlm.loading import is_ours
from memlm.locks import one_writer
from memlm.measure.access import measure_access
from memlm.measure.attribution import measure_attribution
from memlm.measure.brought import SUFFIXES, Vectors, from_callable, from_vectors, read_texts
from memlm.measure.ceilings import ceilings, refuse_impossible
from memlm.measure.config import MeasureConfig
from memlm.measure.encoders import Encoder, encoder_of, open_encoder
from memlm.measure.prior import given_before, open_prior
from memlm.measure.reading import readable
from memlm.measure.retention import Measurement
from memlm.measure.subject import texts_of
from memlm.measure.table import Results
from memlm.measure.texts import GivenTexts
from memlm.measure.theirs import encoders_of, open_theirs
from memlm.models.causal import CausalLM
from memlm.precision import device_of
from memlm.protocol import PROTOCOL
from memlm.provenance import environment
from memlm.records import to_dict

FORMAT = 1  # of results.json
Measurable = Path | str | Model | Vectors | np.ndarray | Tensor


@one_writer
def measure(
    encoders: Sequence[Measurable],
    data: Path | str | None,
    out: Path | str | None,
    config: MeasureConfig,
    *,
    cache: Path | str | None = None,
    texts: Path | str | Sequence[str] | None = None,
    name: str | None = None,
    prior: Path | str | None = None,
) -> Results:
    """Measure encoders, and write `OUT/results.json`, `access.json`, `attribution.json`; asked twice, it is done once.

    Retention is measured of every encoder that forms memories, ours at their own chunk length, others at each length
    that is asked for, unless it shall not be; access and attribution of every model of ours that reads chunks. Of a
    recurrent model, retention is that of its memory after the first chunk.

    Args:
        encoders: anything that `public.measure` takes.
        data: a folder made by memlm prepare; with `texts` it only has their tokenizer, and may be None.
        out: the measurement's folder; None: nothing is kept.
        config: what is scored and the probe's budget.
        cache: the folder for embeddings, `OUT/embeddings` if not given.
        texts: what is asked for in the place of `data`'s (`read_texts`); access is not measured then.
        name: of a function or an array.
        prior: a causal run of ours; then it is also told what vectors add to what that would guess (measure/prior.py).

    Returns:
        `results` (a row for each encoder, decoder and control), `curves` (one for each encoder, family of probes and
        budget), `given` (rows beside a prior, if there is one), `samples` (recalled passages), `access` (rows of
        `measure_access`), `attribution` (rows of `measure_attribution`), `ceilings` (rows of `--cram` and `--invert`,
        if asked for), `config`, `environment`.

    Raises:
        UsageError: nothing to measure, an encoder or data that is not there, nothing that can be measured of a model,
            vectors that are none, `out` holds another measurement, or another process measures there.
        WorkError: a function raises, or what cannot be fetched or kept.
    """
    if not encoders:
        raise UsageError("name at least one model to measure: a run, a folder, a model of the hub, or vectors.")
    corpus = None if texts is not None else Corpus.open(data or "data")
    source = corpus or GivenTexts(read_texts(texts or ()), None if data is None else Corpus.open(data).tokenizer)
    opened = [encoder for one in encoders for encoder in _open(one, source, config, name)]
    names = [encoder.name for encoder in opened]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two of the models are called {twice[0]}: rename one of them, to tell their rows apart.")
    if corpus is not None:
        refuse_impossible([encoder.reader for encoder in opened if encoder.reader], config)
    asked = {
        "protocol": PROTOCOL,
        "models": {encoder.name: encoder.identity for encoder in opened},
        "data": source.hash,
        "measure": to_dict(config),
    }
    guesses = None
    if prior is not None:
        if not config.retention:
            raise UsageError("a prior is for what embeddings hold: leave out --prior or --no-retention.")
        guesses = Path(prior).name, open_prior(Path(prior), source.vocab_size, max(_lengths(opened, config), default=0))
        asked["prior"] = guesses[1].fingerprint()
    if out is not None and (done := _done(Path(out), asked)):
        return done
    readers = [
        (encoder.name, encoder.model, corpus)
        for encoder in opened
        if config.access and corpus and encoder.model and readable(encoder.model)
    ]
    if not config.retention and not config.access:
        raise UsageError("nothing is asked: leave out --no-retention or --no-access.")
    for _, model, text in readers:  # before minutes are spent on shorter ones
        for chunks in config.access_chunks:
            texts_of(text, config.part, chunks * model.chunk_tokens, 2)
    if not config.retention and len(readers) < len(opened):
        raise UsageError("without retention there is nothing to measure of what reads no memories: name memory models.")
    for encoder in opened:
        if not encoder.forms_memories:
            if not (config.access and corpus):
                raise UsageError(f"{encoder.name} forms no memories, so there is no retention to measure.")
            ui.say(f"{encoder.name} forms no memories: what it gets from its text is measured, and no retention")
    access, attributed = [], []
    for called, model, text in readers:
        for wanted in config.access_configs:
            access += measure_access(model, text, wanted, called)
        if wanted := config.attribution_config:
            attributed.append(measure_attribution(model, text, wanted, called))
    with ExitStack() as stack:
        kept = out if out is not None else stack.enter_context(tempfile.TemporaryDirectory())
        held = opened if config.retention else []
        report = _retention(held, source, corpus, config, Path(cache or Path(kept) / "embeddings"), guesses)
    report |= {"format": FORMAT, "config": asked, "environment": environment(device_of(config.device).type)}
    attribution = [row for one in attributed for row in one["results"]]
    if out is not None:
        _write(Path(out), report, access, attribution, [sample for one in attributed for sample in one["samples"]])
    if failed := report.get("ceilings_failed"):
        raise WorkError(f"all was measured but for --cram and --invert: {failed[0]}")
    return Results(report | {"access": access, "attribution": attribution})


def _open(one: Measurable, source: Corpus | GivenTexts, config: MeasureConfig, name: str | None) -> list[Encoder]:
    """An encoder, or of a model of others one for every layer and readout."""
    if isinstance(one, OwnModel):
        return [encoder_of(one.model, name or Path(one.name).name, device_of(config.device))]
    if isinstance(one, OthersModel):
        return encoders_of(replace(one.reader, data=source.tokenizer), [name or one.name], one.reader.opened.kind)
    if isinstance(one, str | Path) and Path(one).suffix not in SUFFIXES:
        if is_ours(Path(one)):
            return [open_encoder(str(one), device_of(config.device))]
        return open_theirs(str(one), source.tokenizer, config)
    if isinstance(one, str | Path | np.ndarray | Tensor):
        called = name or (Path(one).stem if isinstance(one, str | Path) else "vectors")
        if not isinstance(source, GivenTexts):
            raise UsageError(f"{called}: vectors are measured beside the texts they are of: name these with texts.")
        return [from_vectors(one, source, called)]
    function = getattr(one, "encode", one)  # a sentence-transformers model, say
    if not callable(function):
        raise UsageError(f"{type(one).__name__} is nothing to measure: name a model, a function, an array or a file.")
    return [from_callable(function, source.tokenizer, config.batch, name)]


def _done(out: Path, asked: dict[str, Any]) -> Results | None:
    """The measurement that is in a folder already.

    Raises:
        UsageError: it is another one.
    """
    done, beside, tokens = (out / f"{name}.json" for name in ("results", "access", "attribution"))
    if not done.exists():
        return None
    report = read_json(done)
    check_format(report, FORMAT, f"the measurement {out}")
    if not isinstance(report, dict) or not isinstance(report.get("results"), list):
        raise UsageError(f"{done} is damaged: remove {out}, or name another place.")
    if (then := report.get("config")) != asked:
        raise UsageError(f"{out} holds another measurement ({_difference(then, asked)}): name another place.")
    access = read_json(beside) if beside.exists() else []
    told = read_json(tokens) if tokens.exists() else {"results": []}
    if not isinstance(access, list) or not isinstance(told, dict) or not isinstance(told.get("results"), list):
        raise UsageError(f"{beside} or {tokens.name} is damaged: remove {out}, or name another place.")
    return Results(report | {"access": access, "attribution": told["results"]})


def _difference(then: Any, now: dict[str, Any]) -> str:
    """What a measurement was made from, and what is asked for."""
    then = then if isinstance(then, dict) else {}
    if then.get("protocol", 1) != now["protocol"]:
        return f"by protocol {then.get('protocol', 1)}, and this is protocol {now['protocol']}"
    if then.get("data") != now["data"]:
        return f"the data were {str(then.get('data'))[:12]} (SHA-256), and are {now['data'][:12]}"
    before, after = then.get("models"), now["models"]
    if not isinstance(before, dict) or before.keys() != after.keys():
        return f"of {', '.join(before) if before and isinstance(before, dict) else 'nothing'}"
    if changed := next((name for name in after if after[name] != before[name]), None):
        return f"{changed} was {str(before[changed])[:12]} (SHA-256), and is {after[changed][:12]}"
    return "with other settings"


def _write(out: Path, report: dict[str, Any], access: list[Any], attribution: list[Any], samples: list[Any]) -> None:
    """All files; the report is the last one, whose presence says that all is there."""
    parts = {"access.json": access, "attribution.json": attribution and {"results": attribution, "samples": samples}}
    for name, part in parts.items():
        (out / name).unlink(missing_ok=True)  # of another measurement, which was not finished
        if part:
            write_json(out / name, part)
    write_last(out / "results.json", report, [name for name, part in parts.items() if part])


def _lengths(opened: list[Encoder], config: MeasureConfig) -> dict[int, list[Encoder]]:
    """What is measured at each chunk length: ours at their own, others at each that is asked for."""
    encoders = [encoder for encoder in opened if encoder.forms_memories]
    own = [encoder.chunk_tokens for encoder in encoders if encoder.chunk_tokens]
    asked = config.chunk_tokens or tuple(own) or (64,)
    return {
        tokens: [one for one in encoders if tokens == one.chunk_tokens or (not one.chunk_tokens and tokens in asked)]
        for tokens in sorted({*own, *(asked if len(own) < len(encoders) else ())})
    }


def _retention(
    opened: list[Encoder],
    source: Corpus | GivenTexts,
    corpus: Corpus | None,
    config: MeasureConfig,
    cache: Path,
    prior: tuple[str, CausalLM] | None,
) -> dict[str, Any]:
    """Results and samples, chunk length by chunk length."""
    found: dict[str, list[Any]] = {"results": [], "curves": [], "samples": []}
    told, failed = [], []
    for tokens, encoders in _lengths(opened, config).items():
        measurement = Measurement(config, source, tokens, cache)
        for encoder in encoders:
            measurement.add(encoder)
        for name, rows in found.items():
            rows += getattr(measurement, name)
        if prior:
            found.setdefault("given", []).extend(given_before(*prior, measurement))
        others = [one.reader for one in encoders if one.reader]
        if corpus and others:
            try:
                told += ceilings(iter(others), corpus, config, tokens)
            except MemlmError as error:  # after hours, what was measured is kept
                failed.append(str(error))
    report: dict[str, Any] = {**found, **({"ceilings": told} if told else {})}
    return report | ({"ceilings_failed": failed} if failed else {})
