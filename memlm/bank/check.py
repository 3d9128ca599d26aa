"""Recall that checks itself: what was recalled is encoded again, and where that is not the memory, others are tried.

The memory of a text is a function of it, and of few texts the same: a memory that is what the recalled tokens encode
to, within the rounding that it was stored with, held these tokens. Where it is not, single tokens are exchanged, the
least certain ones for those that the decoder holds next likeliest; the exchange that brings the two memories nearest
stays, until they agree or none helps. Nothing else is known of the text.
"""

from typing import NamedTuple

import numpy as np
import torch

from memlm.bank.decoder import own_decoder
from memlm.bank.kept import correct, cut, outside
from memlm.bank.memories import Kept, Memories
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.vocabulary import PAD

PLACES, CHOICES, ROUNDS = 16, 4, 16  # tokens that may be exchanged, for so many, one after the other
_BATCH = 256
_AGREE = 1e-9  # share of a memory's squares


class Told(NamedTuple):
    """What K memories give back.

    Attributes:
        ids: int64 [K, T].
        sure: the log-odds that the decoder gives each of these tokens [K, T]; nan beyond those that a memory holds.
        off: how far each memory lies from what its tokens encode to, as a share of its squares [K].
    """

    ids: np.ndarray
    sure: np.ndarray
    off: np.ndarray

    @property
    def agrees(self) -> np.ndarray:
        """Whether the tokens encode to the memory: bool [K]."""
        return self.off <= _AGREE


def as_kept(memories: Memories) -> Kept:
    """How memories are kept, or what they are if that is not told."""
    M = memories.origin.memory_dim
    return memories.kept or Kept("fp32", "repeat", np.full(len(memories), M, np.int32))


def tell(model: TextMemory, vectors_KM: np.ndarray, held_K: np.ndarray, kept: Kept, *, search: bool = False) -> Told:
    """What memories give back, and whether that is what was encoded.

    Args:
        model: with a decoder of single memories.
        vectors_KM: the memories.
        held_K: how many tokens each holds.
        kept: how they are kept.
        search: try other tokens where it is not.

    Raises:
        UsageError: the model has no such decoder.
    """
    ids_KTC, log_KTC = _likeliest(model, vectors_KM)
    ids_KT, log_KT = ids_KTC[..., 0], log_KTC[..., 0]
    if kept.corrections is not None:
        true_KT = correct(ids_KT, kept.corrections)
        log_KT = np.where(true_KT == ids_KT, log_KT, 0)
        ids_KT = true_KT
    apart = _Apart(model, vectors_KM, held_K, kept)
    near_K, off_K = apart(ids_KT)
    if search and (left := np.flatnonzero(off_K > _AGREE)).size:
        ids_KT, log_KT = ids_KT.copy(), log_KT.copy()
        for some in np.array_split(left, -(-len(left) // _BATCH)):
            own = _Apart(model, vectors_KM[some], held_K[some], kept.part(some))
            found = _searched(own, ids_KT[some], near_K[some], ids_KTC[some], log_KTC[some])
            ids_KT[some], log_KT[some], off_K[some] = found
    other_KT = np.log(np.maximum(-np.expm1(np.minimum(log_KT, -1e-12)), 1e-12))
    own_KT = np.arange(ids_KT.shape[1]) < held_K[:, None]
    return Told(ids_KT, np.where(own_KT, log_KT - other_KT, np.nan), off_K)


class _Apart:
    """How far memories are from what tokens encode to: the squared distance, and what rounding does not explain [K]."""

    def __init__(self, model: TextMemory, vectors_KM: np.ndarray, held_K: np.ndarray, kept: Kept):
        self.model, self.vectors_KM, self.held_K, self.kept = model, vectors_KM, held_K, kept

    def __call__(self, ids_KT: np.ndarray, which_K: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Of tokens of all memories, or of these [K, T]."""
        which_K = np.arange(len(ids_KT)) if which_K is None else which_K
        kept, vectors_KM, whole_K1 = self.kept, self.vectors_KM[which_K], np.maximum(self.held_K[which_K], 1)[:, None]
        place_T = np.arange(ids_KT.shape[1])  # what the encoder read was filled up
        again_KT = np.take_along_axis(ids_KT, place_T % whole_K1, 1)
        again_KT = again_KT if kept.fill == "repeat" else np.where(place_T < whole_K1, ids_KT, PAD)
        memory_KM = cut(encoded(self.model, again_KT), kept.numbers[which_K])
        over_KM = outside(memory_KM, vectors_KM, kept.dtype, None if kept.steps is None else kept.steps[which_K])
        size_K = np.maximum((vectors_KM**2).sum(1), 1e-30)
        return ((memory_KM - vectors_KM) ** 2).sum(1), (over_KM**2).sum(1) / size_K


def _searched(
    apart: _Apart, ids_KT: np.ndarray, near_K: np.ndarray, ids_KTC: np.ndarray, log_KTC: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens whose memories are nearest to these, the logs of their probabilities [K, T], how far they are off."""
    K, T, C = ids_KTC.shape
    ids_KT, near_K, choice_KT = ids_KT.copy(), near_K.copy(), np.zeros((K, T), np.int64)
    beyond_KT = np.arange(T) >= apart.held_K[:, None]
    place_KP = np.argsort(np.where(beyond_KT, np.inf, log_KTC[..., 0]), 1, kind="stable")[:, :PLACES]
    left, of_choice_X = np.arange(K), np.tile(np.arange(C), place_KP.shape[1])
    for _ in range(ROUNDS):
        place_nX = np.repeat(place_KP[left], C, 1)
        tried_nXT = np.repeat(ids_KT[left][:, None], place_nX.shape[1], 1)
        token_nX = ids_KTC[left[:, None], place_nX, of_choice_X]
        np.put_along_axis(tried_nXT, place_nX[..., None], token_nX[..., None], 2)
        near_nX, off_nX = (
            x.reshape(place_nX.shape) for x in apart(tried_nXT.reshape(-1, T), np.repeat(left, place_nX.shape[1]))
        )
        row_n, best_n = np.arange(len(left)), near_nX.argmin(1)
        nearer_n = near_nX[row_n, best_n] < near_K[left] * (1 - 1e-6)
        row_n, best_n, left, agrees_n = (
            row_n[nearer_n],
            best_n[nearer_n],
            left[nearer_n],
            off_nX[row_n, best_n][nearer_n] <= _AGREE,
        )
        ids_KT[left], near_K[left] = tried_nXT[row_n, best_n], near_nX[row_n, best_n]
        choice_KT[left, place_nX[row_n, best_n]] = of_choice_X[best_n]
        left = left[~agrees_n]
        if not len(left):
            break
    return ids_KT, np.take_along_axis(log_KTC, choice_KT[..., None], 2)[..., 0], apart(ids_KT)[1]


@torch.inference_mode()
def encoded(model: TextMemory, tokens_KT: np.ndarray) -> np.ndarray:
    """Chunks of token ids [K, T] -> memories in float32 [K, M]."""
    parts = [np.empty((0, model.memory_dim), np.float32)]
    for start in range(0, len(tokens_KT), _BATCH):
        ids_BT = torch.from_numpy(tokens_KT[start : start + _BATCH]).to(model.device)
        parts.append(model.encode(ids_BT).float().cpu().numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def _likeliest(model: TextMemory, vectors_KM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest tokens of each place and the logs of their probabilities, [K, T, C] each."""
    decoder = own_decoder(model)
    if decoder.together > 1:
        raise UsageError("this model has no decoder of single memories: name an autoencoder with the same encoder.")
    C = min(CHOICES, model.config.vocab_size)
    empty = np.empty((0, model.chunk_tokens, C))
    ids, logs = [empty.astype(np.int64)], [empty]
    for start in range(0, len(vectors_KM), _BATCH):
        vectors_BM = torch.from_numpy(vectors_KM[start : start + _BATCH]).to(model.device)
        best = decoder.decode(vectors_BM).float().log_softmax(-1).topk(C, -1)
        ids.append(best.indices.cpu().numpy())
        logs.append(best.values.cpu().numpy())
    return np.concatenate(ids), np.concatenate(logs)
