"""How likely what memories give back is right: for each memory, and for each of its tokens.

agrees   whether the recalled tokens encode to the memory (bank/check.py); of those that do, hardly any is wrong, unless
         there are fewer bits than the text has
off      how far they are from it, of those that do not
sure     the log-odds that the decoder gives each token

The share of right ones among those that agree, for each size and type (`CALIBRATED`), and logistic functions of the
rest are fitted on the part tune when an autoencoder is trained, with what a search finds and without. They are saved in
its config.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from memlm.bank.check import Told, tell
from memlm.bank.kept import Stored, cut, rounded
from memlm.bank.memories import Kept, Memories
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.records import from_dict

CALIBRATED: tuple[Stored, ...] = ("fp32", "int8", "int4")
_AS = {"bf16": "int8", "fp16": "int8"}  # which are rounded less
CHUNKS = 256  # of tune, that the functions are fitted on
_MOST = 15.0  # log-odds beyond which nothing is told apart


class Confidence(NamedTuple):
    """Of K memories.

    Attributes:
        ids: the tokens that they give back, int64 [K, T].
        memories: the probability that all of one's tokens are right [K].
        tokens: the probability that each is [K, T]; nan beyond those that a memory holds.
        agrees: whether the tokens encode to the memory [K].
    """

    ids: np.ndarray
    memories: np.ndarray
    tokens: np.ndarray
    agrees: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns the signs into probabilities, and what it was fitted on."""

    agreeing: dict[str, float]  # by size and type, as "64 int4"
    memory: tuple[float, ...]
    token: tuple[float, ...]
    part: str
    chunks: int


def confidence(model: TextMemory, memories: Memories, *, search: bool = False) -> Confidence:
    """How likely what memories give back is right; with `search` what is recalled by trying other tokens, too.

    Raises:
        UsageError: the model has no decoder of single memories, or was saved before there was a calibration.
    """
    if model.config.confidence is None:
        raise UsageError(
            "this model does not tell how far its decoder can be trusted: autoencoders trained from memlm 0.3 on do."
        )
    kept = memories.as_kept
    return of_told(model, tell(model, memories.vectors, memories.chunks[:, 2], kept, search=search), kept)


def of_told(model: TextMemory, told: Told, kept: Kept) -> Confidence:
    """The same of what memories gave back, by a model that has a calibration."""
    known = from_dict(Calibration, model.config.confidence, "confidence")
    dtype, sizes = _AS.get(kept.dtype, kept.dtype), np.array(model.memory_sizes)
    size_K = sizes[np.searchsorted(sizes, kept.numbers, "right").clip(1) - 1]  # of one between two the smaller's
    agreeing_K = np.array([known.agreeing[f"{size} {dtype}"] for size in size_K])
    of_memory, of_token = _features(told)
    memory_K = np.where(told.agrees, agreeing_K, _logistic(of_memory @ np.array(known.memory)))
    token_KT = np.where(told.agrees[:, None], agreeing_K[:, None], _logistic(of_token @ np.array(known.token)))
    return Confidence(told.ids, memory_K, np.where(np.isnan(told.sure), np.nan, token_KT), told.agrees)


def calibrate(model: TextMemory, tokens_NT: np.ndarray) -> dict[str, Any]:
    """Fit all of it on chunks of the part tune [N, T]; what a model's config keeps. Sizes and types count alike."""
    tokens_NT = tokens_NT.astype(np.int64)
    held_N, memory_NM = np.full(len(tokens_NT), tokens_NT.shape[1], np.int32), Encoding(model).memories(tokens_NT)
    memories, tokens, agreeing = [], [], {}
    for size, dtype in product(model.memory_sizes, CALIBRATED):
        numbers_N = np.full(len(tokens_NT), size, np.int32)
        vectors_NM, step_NG = rounded(cut(memory_NM, numbers_N), dtype)
        told = tell(model, vectors_NM, held_N, kept := Kept(dtype, "repeat", numbers_N, step_NG))
        ways = [told, tell(model, vectors_NM, held_N, kept, search=True)] if told.searchable.any() else [told]
        for told in ways:
            same_NT, other_N = told.ids == tokens_NT, ~told.agrees
            of_memory, of_token = _features(told)
            memories.append((of_memory[other_N], same_NT.all(1)[other_N]))
            tokens.append((of_token[other_N].reshape(-1, of_token.shape[2]), same_NT[other_N].ravel()))
        right_A = (ways[-1].ids == tokens_NT).all(1)[ways[-1].agrees]
        agreeing[f"{size} {dtype}"] = float(right_A.sum() + 1) / (len(right_A) + 2)  # Laplace's rule: never 1
    memory, token = (_fitted(*map(np.concatenate, zip(*found, strict=True))) for found in (memories, tokens))
    return {"agreeing": agreeing, "memory": memory, "token": token, "part": "tune", "chunks": len(tokens_NT)}


def _features(told: Told) -> tuple[np.ndarray, np.ndarray]:
    """What the functions are of: for memories [K, 3], for tokens [K, T, 4]."""
    sure_KT = np.clip(np.nan_to_num(told.sure, nan=_MOST), -_MOST, _MOST)
    all_K = np.maximum(-np.logaddexp(0, -sure_KT).sum(1), -_MOST)  # log of the probability that all are right
    off_K = np.log10(told.off + 1e-9) + 9
    of_memory = np.stack([np.ones_like(all_K), all_K, off_K], 1)
    columns = np.ones_like(sure_KT), sure_KT, *(np.broadcast_to(x[:, None], sure_KT.shape) for x in (off_K, all_K))
    return of_memory, np.stack(columns, 2)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def _fitted(x_NF: np.ndarray, right_N: np.ndarray) -> list[float]:
    """Weights of a logistic function of greatest likelihood, drawn to 0 a little; by Newton's method."""
    if not len(x_NF):
        return [0.0] * x_NF.shape[1]
    scale_F, ridge = np.maximum(np.abs(x_NF).max(0), 1e-9), 1e-3
    x_NF, weight_F = x_NF / scale_F, np.zeros(x_NF.shape[1])
    for _ in range(50):
        p_N = _logistic(x_NF @ weight_F)
        slope_F = x_NF.T @ (p_N - right_N) + ridge * weight_F
        bend_FF = (x_NF * (p_N * (1 - p_N))[:, None]).T @ x_NF + ridge * np.eye(len(weight_F))
        step_F = np.linalg.solve(bend_FF, slope_F)
        step_F *= min(1.0, 10 / max(np.abs(step_F).max(), 1e-9))
        weight_F = weight_F - step_F
        if np.abs(step_F).max() < 1e-6:
            break
    return (weight_F / scale_F).tolist()
