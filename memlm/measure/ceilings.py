"""What a frozen model of others could give without any probe: one crammed vector, and inversion of its states.

A row is one number of one chunk length, with its interval over chunks: `task` (cram, invert), `mode` (cram:
teacher-forced, free-running; invert: true-prefix, found-prefix, which say what the model reads before the token in
question), `metric`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.measure.bootstrap import interval, share_interval
from memlm.measure.config import MeasureConfig
from memlm.pretrained.cram import cram
from memlm.pretrained.hidden import HiddenReader
from memlm.pretrained.invert import invert
from memlm.pretrained.opening import Pretrained, open_pretrained
from memlm.provenance import commit, machine

Array = np.ndarray
_COUNTED = 4096  # training chunks whose tokens decide which are tried


def ceilings(
    readers: Iterable[HiddenReader], corpus: Corpus, config: MeasureConfig, tokens: int
) -> list[dict[str, Any]]:
    """Rows of `--cram` and `--invert` for every causal model among those of others, at one chunk length."""
    rows: list[dict[str, Any]] = []
    for reader in {reader.opened.name: reader for reader in readers}.values():
        if reader.opened.kind != "causal":
            if config.cram or config.invert:
                ui.say(f"{reader.opened.name} is no causal model: neither crammed nor inverted")
            continue
        if config.cram:
            rows += _crammed(reader, corpus, config, tokens)
        if config.invert:
            for layer in sorted({view.layer for view in reader.views} - {0}):
                rows += _inverted(reader, corpus, config, tokens, layer)
    return rows


def _crammed(reader: HiddenReader, corpus: Corpus, config: MeasureConfig, tokens: int) -> list[dict[str, Any]]:
    ids, _ = reader.ids(corpus.chunks(corpus.valid, tokens, limit=config.cram).tokens)
    opened = reader.opened
    device, precision, quantize = str(opened.model.device), opened.precision, opened.quantize
    headed = open_pretrained(opened.name, head=True, device=device, precision=precision, quantize=quantize)
    found = cram(headed, ids, steps=config.cram_steps)
    tell = _teller(opened, corpus, config, tokens, ids, task="cram", steps=found.steps, layer=0)
    scored_N = found.scored_NT.sum(1)
    told = []
    for mode, right_NT in (("teacher-forced", found.forced_NT), ("free-running", found.free_NT)):
        told += _shares(tell, mode, right_NT.sum(1).cpu().numpy(), scored_N.cpu().numpy(), config.seed)
    gain_N1 = ((found.before_N - found.nats_N) / math.log(2)).cpu().numpy()[:, None].astype(float)
    gained = interval(lambda m: m[:, 0], gain_N1, config.seed)
    told.append(tell("teacher-forced", "bits_gained_per_embedding", float(gain_N1.mean()), gained))
    return told


def _inverted(
    reader: HiddenReader, corpus: Corpus, config: MeasureConfig, tokens: int, layer: int
) -> list[dict[str, Any]]:
    ids, _ = reader.ids(corpus.chunks(corpus.valid, tokens, limit=config.invert).tokens)
    frequent = Counter[int]()
    for row in reader.ids(corpus.chunks(corpus.train, tokens, limit=_COUNTED).tokens)[0]:
        frequent.update(row)
    candidates = torch.tensor([token for token, _ in frequent.most_common(config.invert_candidates)])
    found = invert(reader.opened, ids, layer, candidates)
    what = f"the {len(candidates)} most frequent of the model's tokens in the training text"
    within = float(torch.cat([one.within_T for one in found]).float().mean())
    tell = _teller(
        reader.opened, corpus, config, tokens, ids, task="invert", layer=layer, candidates=what, among_candidates=within
    )
    asked = np.array([len(row) for row in ids])
    true, free = (np.array([int(getattr(one, name).sum()) for one in found]) for name in ("true_T", "found_T"))
    return _shares(tell, "true-prefix", true, asked, config.seed) + _shares(
        tell, "found-prefix", free, asked, config.seed
    )


Tell = Callable[[str, str, float, list[float]], dict[str, Any]]


def _shares(tell: Tell, mode: str, right_N: Array, asked_N: Array, seed: int) -> list[dict[str, Any]]:
    """Tokens and whole chunks that are right."""
    whole_N = (right_N == asked_N).astype(float)
    parts = {
        "token_accuracy": np.stack([right_N, asked_N], 1).astype(float),
        "exact_match": np.stack([whole_N, np.ones_like(whole_N)], 1),
    }
    return [
        tell(mode, metric, float(part[:, 0].sum() / part[:, 1].sum()), share_interval(part, seed))
        for metric, part in parts.items()
    ]


def _teller(
    opened: Pretrained, corpus: Corpus, config: MeasureConfig, tokens: int, ids: list[list[int]], **more: Any
) -> Tell:
    """Everything that the rows of one measurement have in common."""

    def tell(mode: str, metric: str, value: float, ci: list[float]) -> dict[str, Any]:
        ui.say(f"{opened.name}: {more['task']} ({mode}), {tokens} tokens, {metric.replace('_', ' ')} {value:.4g}")
        return {
            "model": opened.name,
            **more,
            "mode": mode,
            "metric": metric,
            "value": value,
            "value_ci": ci,
            "chunk_tokens": tokens,
            "model_tokens": float(np.mean([len(row) for row in ids])),
            "chunks": len(ids),
            "source": opened.source,
            "precision": opened.precision,
            "quantize": opened.quantize,
            "seed": config.seed,
            "data": corpus.hash,
            "device": str(opened.model.device),
            "machine": machine(opened.model.device.type),
            "commit": commit(),
        }

    return tell
