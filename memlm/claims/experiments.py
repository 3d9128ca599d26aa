"""Small experiments beside the claims (E9 to E12): trained runs -> rows of one form, always of the part test.

A row is one figure of one seed: `experiment`, `case` (what is varied), `figure`, `value`, `unit`, `model`, `seed`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from memlm.bank.kept import rounded
from memlm.claims.work import Work
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
FORMS = "fp32", "bf16", "int8", "fp8", "int4", "int3"


def _row(work: Work, experiment: str, case: str, figure: str, value: float, unit: str, model: str) -> dict[str, Any]:
    """A figure and where it is from."""
    told = {"experiment": experiment, "case": case, "figure": figure, "value": float(value), "unit": unit}
    return told | {"model": work.folder(model).name, **origin(work.corpus, PART, work.seed, work.device)}


def _encoder(work: Work, name: str) -> tuple[Encoder, Any]:
    """A run's encoder, and the chunks that are scored."""
    encoder = open_encoder(str(work.folder(name)), work.device)
    return encoder, work.corpus.chunks(PART, encoder.chunk_tokens or 0, work.config.budget.chunks)[0]


def _embed(work: Work, encoder: Encoder, tokens_NT: np.ndarray) -> np.ndarray:
    return embed(encoder, tokens_NT, work.config.out / "embeddings")


def stored(memories_NM: np.ndarray, form: str) -> np.ndarray:
    """Memories as they come back from a store of this form; `fp8` (e4m3) and `int3` have one scale a memory."""
    if form not in ("fp8", "int3"):
        return rounded(memories_NM, form)[0]
    memory = torch.from_numpy(np.array(memories_NM, np.float32))
    most = 448.0 if form == "fp8" else 3.0
    scale_N1 = (memory.abs().amax(1, keepdim=True) / most).clamp(min=1e-12)
    told = memory / scale_N1
    return ((told.to(torch.float8_e4m3fn).float() if form == "fp8" else told.round()) * scale_N1).numpy()


def codes(work: Work, names: dict[str, str]) -> Rows:
    """E10: text and uniform random tokens by autoencoders that were trained on either."""
    for case, name in names.items():
        encoder, held_NT = _encoder(work, name)
        rng = np.random.default_rng(work.seed)
        random_NT = rng.integers(END + 1, work.corpus.vocab_size, held_NT.shape)
        for what, tokens_NT in (("text", held_NT), ("random tokens", random_NT)):
            right = _right(work, encoder, _embed(work, encoder, tokens_NT), tokens_NT)
            yield _row(work, "E10", case, f"{what}, tokens right", right[0], "share", name)


def precision(work: Work, names: dict[str, str]) -> Rows:
    """E11: tokens right from memories as they come back from stores of fewer bits."""
    for case, name in names.items():
        encoder, held_NT = _encoder(work, name)
        held_NM = _embed(work, encoder, held_NT)
        for form in FORMS:
            right, nats = _right(work, encoder, stored(held_NM, form), held_NT)
            yield _row(work, "E11", f"{form}, {case}", "tokens right", right, "share", name)
            yield _row(work, "E11", f"{form}, {case}", "nats a token", nats, "nats", name)


def design(work: Work, names: dict[str, str]) -> Rows:
    """E9: the causal loss and a blank copy, by memory models that differ in one thing."""
    for case, name in names.items():
        for objective in ("causal", "blank"):
            held = _held_out(work, name, objective)
            if objective == "causal":
                yield _row(work, "E9", case, "causal, nats a token", held.cross_entropy, "nats", name)
            else:
                yield _row(work, "E9", case, f"{objective}, right", held.token_accuracy, "share", name)


def oracles(work: Work, names: dict[str, str]) -> Rows:
    """E12: the causal loss given a memory of the very chunk, and what this memory itself has in 8 bits a number."""
    for case, name in names.items():
        bits = _held_out(work, name, "causal").cross_entropy / math.log(2)
        model = load_model(str(work.folder(name)))
        own = 8 * model.memory_dim / model.chunk_tokens
        yield _row(work, "E12", case, "causal, bits a token", bits, "bits", name)
        yield _row(work, "E12", case, "with the memory’s own at 8 bits a number", bits + own, "bits", name)


def _right(work: Work, encoder: Encoder, memories_NM: np.ndarray, tokens_NT: np.ndarray) -> tuple[float, float]:
    """Share of tokens right by its own decoder, and nats a token."""
    assert encoder.decode
    scores = score_chunks(encoder.decode, memories_NM, tokens_NT, work.device)
    return float(scores.right_NT.mean()), float(scores.nats_N.mean()) / tokens_NT.shape[1]


def _held_out(work: Work, name: str, objective: str) -> Any:
    """Figures of a run under an objective, on the part test."""
    model = load_model(str(work.folder(name)))
    torch.nn.Module.to(model, work.device)
    T = model.chunk_tokens
    asked = build_objective(objective, work.corpus.vocab_size, 0, T)
    window = asked.window(model.config.read_shape().window_tokens)
    held_NW, _ = work.corpus.chunks(PART, window, work.config.budget.chunks // 2)
    return evaluate(model, asked, held_NW, T, work.device)


MEASURED: dict[str, Callable[[Work, dict[str, str]], Rows]] = {
    **{"E9": design, "E10": codes, "E11": precision, "E12": oracles},
}
