"""Models, data and an output folder -> a finished measurement on disk."""

from pathlib import Path
from typing import Any

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import read_json, write_json
from memlm.measure.access import measure_access
from memlm.measure.attribution import measure_attribution
from memlm.measure.ceilings import ceilings
from memlm.measure.config import MeasureConfig
from memlm.measure.controls import device_of
from memlm.measure.encoders import Encoder, is_ours, open_encoder
from memlm.measure.reading import readable
from memlm.measure.retention import Measurement
from memlm.measure.theirs import PretrainedEncoder, open_theirs
from memlm.provenance import environment
from memlm.records import to_dict


def measure(
    models: list[str], data: Path, out: Path, config: MeasureConfig, *, cache: Path | None = None
) -> dict[str, Any]:
    """Measure models and write `OUT/results.json`, `access.json` and `attribution.json`; asked twice, it is done once.

    Retention is measured of every model that forms memories, ours at its own chunk length, those of others at each
    length that is asked for; access and attribution of every one of ours that reads chunks. Of a recurrent model,
    retention is that of its memory after the first chunk.

    Args:
        models: runs or saved folders of ours, or models of others (`open_pretrained` tells what can be named).
        data: a folder made by memlm prepare.
        out: the measurement's folder.
        config: what is scored and the probe's budget.
        cache: the folder for embeddings, `OUT/embeddings` if not given.

    Returns:
        `results` (a row for each encoder, decoder and control), `samples` (recalled passages), `access` (rows of
        `measure_access`), `attribution` (rows of `measure_attribution`), `ceilings` (rows of `--cram` and `--invert`,
        if asked for), `config`, `environment`.

    Raises:
        UsageError: no models, a model or data that is not there, nothing that can be measured of a model, or `out`
            holds another measurement.
    """
    if not models:
        raise UsageError("name at least one model to measure: a run, a folder or a model of the hub.")
    corpus = Corpus.open(data)
    encoders = [encoder for model in models for encoder in _open(model, corpus, config)]
    names = [encoder.name for encoder in encoders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two of the models are called {twice[0]}: rename a folder, to tell their rows apart.")
    ours = [encoder for encoder in encoders if isinstance(encoder, Encoder)]
    asked = {
        "models": {encoder.name: encoder.fingerprint() for encoder in encoders},
        "data": corpus.hash,
        "measure": to_dict(config),
    }
    done, beside, tokens = (Path(out) / f"{name}.json" for name in ("results", "access", "attribution"))
    if done.exists():
        report = read_json(done)
        if report.get("config") == asked:
            return report | {
                "access": read_json(beside) if beside.exists() else [],
                "attribution": read_json(tokens)["results"] if tokens.exists() else [],
            }
        raise UsageError(f"{out} holds another measurement: name another place.")
    for encoder in ours:
        if not encoder.forms_memories:
            if not config.access:
                raise UsageError(f"{encoder.name} forms no memories, so there is no retention to measure.")
            ui.say(f"{encoder.name} forms no memories: what it gets from its text is measured, and no retention")
    access = [
        row
        for encoder in ours
        if config.access and readable(encoder.model)
        for row in measure_access(encoder.model, corpus, config.access_config, encoder.name)
    ]
    attributed = [
        measure_attribution(encoder.model, corpus, wanted, encoder.name)
        for encoder in ours
        if config.access and (wanted := config.attribution_config) and readable(encoder.model)
    ]
    kept = [encoder for encoder in encoders if not isinstance(encoder, Encoder) or encoder.forms_memories]
    report = _retention(kept, corpus, config, out, cache)
    report |= {"config": asked, "environment": environment(device_of(config.device).type)}
    if access:
        write_json(beside, access)
    attribution = [row for one in attributed for row in one["results"]]
    if attribution:
        write_json(tokens, {"results": attribution, "samples": [s for one in attributed for s in one["samples"]]})
    write_json(done, report)  # the last one: its presence says that all is there
    return report | {"access": access, "attribution": attribution}


def _open(name: str, corpus: Corpus, config: MeasureConfig) -> list[Encoder] | list[PretrainedEncoder]:
    """A model of ours, or one of others as an encoder for every layer and readout."""
    return [open_encoder(name)] if is_ours(Path(name)) else open_theirs(name, corpus, config)


def _retention(
    encoders: list[Encoder | PretrainedEncoder],
    corpus: Corpus,
    config: MeasureConfig,
    out: Path,
    cache: Path | None,
) -> dict[str, Any]:
    """Results and samples, chunk length by chunk length: models of others at each, ours at their own."""
    own = [encoder.chunk_tokens for encoder in encoders if isinstance(encoder, Encoder)]
    theirs = config.chunk_tokens or tuple(own) or (64,)
    results, samples, told = [], [], []
    for tokens in sorted({*own, *(theirs if len(own) < len(encoders) else ())}):
        measurement = Measurement(config, corpus, tokens, cache or Path(out) / "embeddings")
        for encoder in encoders:
            if tokens == encoder.chunk_tokens if isinstance(encoder, Encoder) else tokens in theirs:
                measurement.add(encoder)
        results, samples = results + measurement.results, samples + measurement.samples
        if tokens in theirs:
            told += ceilings([one for one in encoders if isinstance(one, PretrainedEncoder)], corpus, config, tokens)
    return {"results": results, "samples": samples, **({"ceilings": told} if told else {})}
