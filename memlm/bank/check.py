"""Recall that checks itself: what was recalled is encoded again, and where that is not the memory, others are tried.

The memory of a text is a function of it, and of few texts the same: a memory that is what the recalled tokens encode
to, within the rounding that it was stored with, held these tokens. Where it is not, single tokens are exchanged, the
least certain ones for those that the decoder holds next likeliest; the exchange that brings the two memories nearest
stays, until they agree or none helps; then more tokens, and more for each, are tried (`STAGES`). Nothing else is known
of the text. A memory of which the decoder itself expects a third to be wrong, or more than are exchanged, is left.
"""

from typing import NamedTuple

import numpy as np

from memlm.bank.decoder import likeliest, own_decoder
from memlm.bank.kept import correct, cut, outside
from memlm.bank.memories import Kept
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.nn.vocabulary import PAD

STAGES = (16, 4), (16, 16), (64, 16)  # how many tokens may be exchanged, and for which of so many
ROUNDS = 16  # exchanges in a stage
CHOICES = max(choices for _, choices in STAGES)
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

    @property
    def searchable(self) -> np.ndarray:
        """Whether there is something to search for, and the decoder itself expects to be right in most: bool [K]."""
        wrong_KT = 1 / (1 + np.exp(np.clip(np.nan_to_num(self.sure, nan=50.0), -50, 50)))
        few_K = np.minimum(ROUNDS, np.isfinite(self.sure).sum(1) / 3)
        return ~self.agrees & (wrong_KT.sum(1) < few_K)


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
    if own_decoder(model).together > 1:
        raise UsageError("this model has no decoder of single memories: name an autoencoder with the same encoder.")
    ids_KTC, log_KTC = likeliest(model, vectors_KM, CHOICES)
    ids_KT, log_KT = ids_KTC[..., 0], log_KTC[..., 0]
    if kept.corrections is not None:
        true_KT = correct(ids_KT, kept.corrections)
        log_KT = np.where(true_KT == ids_KT, log_KT, 0)
        ids_KT = true_KT
    apart = _Apart(model, vectors_KM, held_K, kept)
    own_KT = np.arange(ids_KT.shape[1]) < held_K[:, None]
    told = Told(ids_KT, np.where(own_KT, _log_odds(log_KT), np.nan), apart(ids_KT))
    if not search or not (worth_K := told.searchable).any():
        return told
    ids_KT, off_K, choice_KT = ids_KT.copy(), told.off, np.zeros_like(ids_KT)
    for places, choices in STAGES:
        left = np.flatnonzero(worth_K & (off_K > _AGREE))
        for some in np.array_split(left, -(-len(left) // _BATCH)) if len(left) else ():
            _search(apart, some, ids_KT, off_K, choice_KT, ids_KTC[..., :choices], log_KTC[..., 0], places)
    chosen_KT = np.take_along_axis(log_KTC, choice_KT[..., None], 2)[..., 0]
    log_KT = np.where(choice_KT > 0, chosen_KT, log_KT)
    return Told(ids_KT, np.where(own_KT, _log_odds(log_KT), np.nan), off_K)


def _log_odds(log_KT: np.ndarray) -> np.ndarray:
    return log_KT - np.log(np.maximum(-np.expm1(np.minimum(log_KT, -1e-12)), 1e-12))


class _Apart:
    """How far memories are from what tokens encode to, beyond what rounding explains: a share of their squares."""

    def __init__(self, model: TextMemory, vectors_KM: np.ndarray, held_K: np.ndarray, kept: Kept):
        self.encoding, self.vectors_KM, self.held_K, self.kept = Encoding(model), vectors_KM, held_K, kept

    def __call__(self, ids_nT: np.ndarray, which_n: np.ndarray | None = None) -> np.ndarray:
        """Of tokens of all memories, or of the memories of these numbers: [n]."""
        which_n = np.arange(len(ids_nT)) if which_n is None else which_n
        kept, vectors_nM, whole_n1 = self.kept, self.vectors_KM[which_n], np.maximum(self.held_K[which_n], 1)[:, None]
        place_T = np.arange(ids_nT.shape[1])  # what the encoder read was filled up
        again_nT = np.take_along_axis(ids_nT, place_T % whole_n1, 1)
        again_nT = again_nT if kept.fill == "repeat" else np.where(place_T < whole_n1, ids_nT, PAD)
        memory_nM = cut(self.encoding.memories(again_nT), kept.numbers[which_n])
        over_nM = outside(memory_nM, vectors_nM, kept.dtype, None if kept.steps is None else kept.steps[which_n])
        return (over_nM**2).sum(1) / np.maximum((vectors_nM**2).sum(1), 1e-30)


def _search(
    apart: _Apart,
    left: np.ndarray,
    ids_KT: np.ndarray,
    off_K: np.ndarray,
    choice_KT: np.ndarray,
    ids_KTC: np.ndarray,
    log_KT: np.ndarray,
    places: int,
) -> None:
    """Exchange tokens of the memories `left` while that brings them nearer; ids, distances and choices are changed."""
    T, C = ids_KTC.shape[1:]
    beyond_nT = np.arange(T) >= apart.held_K[left, None]
    places_nP = np.argsort(np.where(beyond_nT, np.inf, log_KT[left]), 1, kind="stable")[:, :places]
    place_nX, choice_X = np.repeat(places_nP, C, 1), np.tile(np.arange(C), places_nP.shape[1])
    for _ in range(ROUNDS):
        tried_nXT = np.repeat(ids_KT[left][:, None], len(choice_X), 1)
        token_nX = ids_KTC[left[:, None], place_nX, choice_X]
        np.put_along_axis(tried_nXT, place_nX[..., None], token_nX[..., None], 2)
        off_nX = apart(tried_nXT.reshape(-1, T), np.repeat(left, len(choice_X))).reshape(place_nX.shape)
        best_n = off_nX.argmin(1)
        nearer = np.flatnonzero(off_nX.min(1) < off_K[left] * (1 - 1e-6))
        row, best = left[nearer], best_n[nearer]
        ids_KT[row], off_K[row] = tried_nXT[nearer, best], off_nX[nearer, best]
        choice_KT[row, place_nX[nearer, best]] = choice_X[best]
        more = nearer[off_K[row] > _AGREE]
        left, place_nX = left[more], place_nX[more]
        if not len(left):
            return
