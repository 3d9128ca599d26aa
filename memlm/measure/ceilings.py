"""What a frozen model of others could give without any probe: one crammed vector, and inversion of its states.

A row is one number of one chunk length, with its interval over chunks: `task` (cram, invert), `mode` (cram:
teacher-forced, free-running; invert: true-prefix, found-prefix, which say what the model reads before the token in
question), `metric`.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError, refusing
from memlm.huggingface import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from memlm.measure.config import MeasureConfig
from memlm.measure.controls import origin
from memlm.measure.intervals import ratio
from memlm.pretrained.cram import cram
from memlm.pretrained.hidden import HiddenReader
from memlm.pretrained.invert import invert
from memlm.pretrained.opening import open_pretrained

Array = np.ndarray
Figures = dict[tuple[str, str], dict[str, Any]]  # mode and metric -> value and interval
_COUNTED = 4096  # training chunks whose tokens decide which are tried


def ceilings(
    readers: Iterable[HiddenReader], corpus: Corpus, config: MeasureConfig, tokens: int
) -> list[dict[str, Any]]:
    """Rows of `--cram` and `--invert` for every causal model among those of others, at one chunk length."""
    rows: list[dict[str, Any]] = []
    for reader in {reader.opened.name: reader for reader in readers}.values():
        opened = reader.opened
        if opened.kind != "causal":
            if config.cram or config.invert:
                ui.say(f"{opened.name} is no causal model: neither crammed nor inverted")
            continue
        asked = [(config.cram, _crammed, 0)]
        asked += [(config.invert, _inverted, layer) for layer in sorted({view.layer for view in reader.views} - {0})]
        for chunks, find, layer in asked:
            if not chunks:
                continue
            ids, _ = reader.ids(corpus.chunks(config.part, tokens, limit=chunks).tokens)
            made = {name: getattr(opened, name) for name in ("source", "precision", "quantize")}
            made |= {"chunk_tokens": tokens, "model_tokens": float(np.mean([len(row) for row in ids]))}
            made |= origin(corpus, config.part, config.seed, opened.model.device)
            about, figures = find(reader, ids, layer, corpus, config, tokens)
            for (mode, metric), figure in figures.items():
                said = f"{about['task']} ({mode}), {tokens} tokens, {metric.replace('_', ' ')} {figure['value']:.4g}"
                ui.say(f"{opened.name}: {said}")
                of = {"mode": mode, "metric": metric, **figure}
                rows.append({"model": opened.name, "layer": layer, **about, **of, **made, "chunks": len(ids)})
    return rows


def refuse_impossible(readers: Iterable[HiddenReader], config: MeasureConfig) -> None:
    """Try what `--cram` and `--invert` need of a causal model on three tokens, before anything is measured.

    Raises:
        UsageError: a model keeps nothing that could be gone on with, or something else than its states.
    """
    for reader in readers:
        opened, ids = (
            reader.opened,
            [reader.filler] * 2 + [(reader.filler + 1) % reader.opened.embedding.weight.shape[0]],
        )
        if opened.kind == "causal" and config.cram:
            with refusing(f"{opened.name} cannot be crammed", ": leave --cram out"), torch.no_grad():
                if opened.model.config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
                    raise UsageError(f"{opened.name} predicts no tokens, so it cannot be crammed: leave --cram out.")
                x_13D = opened.embedding(torch.tensor([ids], device=opened.model.device))
                past = opened.model(inputs_embeds=x_13D, attention_mask=x_13D[..., 0] == x_13D[..., 0], use_cache=True)
                opened.model(inputs_embeds=x_13D[:, :1], past_key_values=past.past_key_values, use_cache=True)
        if opened.kind == "causal" and config.invert:
            layers = {view.layer for view in reader.views} - {0}
            with refusing(f"{opened.name} cannot be inverted", ": leave --invert out"):
                found = [invert(opened, [ids], layer, torch.tensor(sorted(set(ids)))) for layer in layers]
            if not all(bool(one.true_T.all()) for some in found for one in some):
                raise UsageError(f"{opened.name} gives other states when it goes on from a prefix: leave --invert out.")


def _crammed(
    reader: HiddenReader, ids: list[list[int]], layer: int, corpus: Corpus, config: MeasureConfig, tokens: int
) -> tuple[dict[str, Any], Figures]:
    opened = reader.opened
    device, precision, quantize = str(opened.model.device), opened.precision, opened.quantize
    headed = open_pretrained(opened.name, head=True, device=device, precision=precision, quantize=quantize)
    found = cram(headed, ids, steps=config.cram_steps)
    asked_N = found.scored_NT.sum(1).cpu().numpy()
    modes = {"teacher-forced": found.forced_NT, "free-running": found.free_NT}
    figures = _shares({mode: right_NT.sum(1).cpu().numpy() for mode, right_NT in modes.items()}, asked_N, config.seed)
    gain_N = ((found.before_N - found.nats_N) / math.log(2)).cpu().numpy().astype(float)
    gained = ratio(np.stack([gain_N, np.ones_like(gain_N)], 1), config.seed, share=False)
    return {"task": "cram", "steps": found.steps}, {**figures, ("teacher-forced", "bits_gained_per_embedding"): gained}


def _inverted(
    reader: HiddenReader, ids: list[list[int]], layer: int, corpus: Corpus, config: MeasureConfig, tokens: int
) -> tuple[dict[str, Any], Figures]:
    frequent = Counter[int]()
    for row in reader.ids(corpus.chunks("train", tokens, limit=_COUNTED).tokens)[0]:
        frequent.update(row)
    candidates = torch.tensor([token for token, _ in frequent.most_common(config.invert_candidates)])
    found = invert(reader.opened, ids, layer, candidates)
    right = {
        "true-prefix": np.array([int(one.true_T.sum()) for one in found]),
        "found-prefix": np.array([int(one.found_T.sum()) for one in found]),
    }
    what = f"the {len(candidates)} most frequent of the model's tokens in the training text"
    within = float(torch.cat([one.within_T for one in found]).float().mean())
    figures = _shares(right, np.array([len(row) for row in ids]), config.seed)
    return {"task": "invert", "candidates": what, "among_candidates": within}, figures


def _shares(right: dict[str, Array], asked_N: Array, seed: int) -> Figures:
    """Tokens and whole chunks that are right, by what the model read."""
    figures = {}
    for mode, right_N in right.items():
        tokens_N2 = np.stack([right_N, asked_N], 1).astype(float)
        whole_N2 = np.stack([right_N == asked_N, np.ones_like(asked_N)], 1).astype(float)
        figures[mode, "token_accuracy"] = ratio(tokens_N2, seed, share=True)
        figures[mode, "exact_match"] = ratio(whole_N2, seed, share=True)
    return figures
