"""Small experiments beside the claims (E9 to E12): trained runs -> rows of one form, always of the part test.

A row is one figure of one seed: `experiment`, `case` (what is varied), `figure`, `value`, `unit`, `model`, `seed`.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from memlm.data.corpus import Corpus
from memlm.loading import load_model
from memlm.measure.controls import origin
from memlm.measure.embeddings import embed
from memlm.measure.encoders import Encoder, open_encoder
from memlm.measure.scores import score_chunks
from memlm.nn.vocabulary import END
from memlm.objectives.registry import build_objective
from memlm.train.held_out import evaluate

Rows = Iterator[dict[str, Any]]
PART = "test"
_CPU = torch.device("cpu")
FORMS = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4, "int3": 3}


class Place(NamedTuple):
    """Where the runs of a seed are, what they are scored on, and how much of it."""

    out: Path
    corpus: Corpus
    seed: int
    chunks: int

    def folder(self, name: str) -> Path:
        """A run's."""
        return self.out / f"{name}-seed{self.seed}"

    def row(self, experiment: str, case: str, figure: str, value: float, unit: str, model: str) -> dict[str, Any]:
        """A figure and where it is from."""
        told = {"experiment": experiment, "case": case, "figure": figure, "value": float(value), "unit": unit}
        return told | {"model": self.folder(model).name, **origin(self.corpus, PART, self.seed, _CPU)}


def stored(memories_NM: np.ndarray, form: str) -> np.ndarray:
    """Memories as they come back from a store of so many bits a number: integers have one scale a memory."""
    memory = torch.from_numpy(np.array(memories_NM, np.float32))
    if form == "fp32":
        return memory.numpy()
    if form == "bf16":
        return memory.bfloat16().float().numpy()
    most = 2 ** (FORMS[form] - 1) - 1
    scale_N1 = (memory.abs().amax(1, keepdim=True) / most).clamp(min=1e-12)
    return ((memory / scale_N1).round() * scale_N1).numpy()


def codes(place: Place, names: dict[str, str]) -> Rows:
    """E10: text and uniform random tokens by autoencoders that were trained on either."""
    for case, name in names.items():
        encoder = open_encoder(str(place.folder(name)), _CPU)
        held_NT, _ = place.corpus.chunks(PART, encoder.chunk_tokens or 0, place.chunks)
        rng = np.random.default_rng(place.seed)
        random_NT = rng.integers(END + 1, place.corpus.vocab_size, held_NT.shape)
        for what, tokens_NT in (("text", held_NT), ("random tokens", random_NT)):
            right = _right(encoder, embed(encoder, tokens_NT, place.out / "embeddings"), tokens_NT)
            yield place.row("E10", case, f"{what}, tokens right", right[0], "share", name)


def precision(place: Place, names: dict[str, str]) -> Rows:
    """E11: tokens right from memories as they come back from stores of fewer bits."""
    for case, name in names.items():
        encoder = open_encoder(str(place.folder(name)), _CPU)
        held_NT, _ = place.corpus.chunks(PART, encoder.chunk_tokens or 0, place.chunks)
        held_NM = embed(encoder, held_NT, place.out / "embeddings")
        for form in FORMS:
            right, nats = _right(encoder, stored(held_NM, form), held_NT)
            yield place.row("E11", f"{form}, {case}", "tokens right", right, "share", name)
            yield place.row("E11", f"{form}, {case}", "nats a token", nats, "nats", name)


def design(place: Place, names: dict[str, str]) -> Rows:
    """E9: the causal loss, a blank copy and recall of memory models that differ in one thing."""
    for case, name in names.items():
        for objective in ("causal", "blank", "recall"):
            held = _held_out(place, name, objective)
            if objective == "causal":
                yield place.row("E9", case, "causal, nats a token", held.cross_entropy, "nats", name)
            else:
                yield place.row("E9", case, f"{objective}, right", held.token_accuracy, "share", name)


def oracles(place: Place, names: dict[str, str]) -> Rows:
    """E12: the causal loss given a memory of the very chunk, and what this memory itself has in 8 bits a number."""
    for case, name in names.items():
        bits = _held_out(place, name, "causal").cross_entropy / math.log(2)
        model = load_model(str(place.folder(name)))
        own = 8 * model.memory_dim / model.chunk_tokens
        yield place.row("E12", case, "causal, bits a token", bits, "bits", name)
        yield place.row("E12", case, "with the memory’s own at 8 bits a number", bits + own, "bits", name)


def _right(encoder: Encoder, memories_NM: np.ndarray, tokens_NT: np.ndarray) -> tuple[float, float]:
    """Share of tokens right by its own decoder, and nats a token."""
    assert encoder.decode
    scores = score_chunks(encoder.decode, memories_NM, tokens_NT, _CPU)
    return float(scores.right_NT.mean()), float(scores.nats_N.mean()) / tokens_NT.shape[1]


def _held_out(place: Place, name: str, objective: str) -> Any:
    """Figures of a run under an objective, on the part test."""
    model = load_model(str(place.folder(name)))
    T = model.chunk_tokens
    asked = build_objective(objective, place.corpus.vocab_size, 0, T)
    window = asked.window(model.config.read_shape().window_tokens)
    held_NW, _ = place.corpus.chunks(PART, window, place.chunks)
    return evaluate(model, asked, held_NW, T, _CPU)
