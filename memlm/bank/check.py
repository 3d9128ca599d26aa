"""Recall that checks itself: what was recalled is encoded again, and where that is not the memory, others are tried.

The memory of a text is a function of it, and of few texts the same: a memory that is what the recalled tokens encode
to, within the rounding that it was stored with, held these tokens. Where it is not, others are searched for
(memory/searching.py).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memlm.bank.decoder import likeliest, own_decoder
from memlm.bank.kept import correct, cut, outside
from memlm.bank.memories import Kept
from memlm.errors import UsageError
from memlm.memory.searching import Search
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.nn.vocabulary import PAD

SEARCH = Search(stages=((16, 4), (16, 16), (64, 16)), most=16, nearer=1 - 1e-6, agree=1e-9)


class Told(NamedTuple):
    """What K memories give back.

    Attributes:
        ids: int64 [K, T].
        sure: the log-odds that the decoder gives each of these tokens [K, T]; nan beyond those that a memory holds.
        off: how far each memory lies from what its tokens encode to, as a share of its squares [K].
        searchable: whether others are worth a search, or were, bool [K].
    """

    ids: np.ndarray
    sure: np.ndarray
    off: np.ndarray
    searchable: np.ndarray

    @property
    def agrees(self) -> np.ndarray:
        """Whether the tokens encode to the memory: bool [K]."""
        return self.off <= SEARCH.agree


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
    ids_KTC, log_KTC = likeliest(model, vectors_KM, SEARCH.choices)
    ids_KT, log_KT = ids_KTC[..., 0].copy(), log_KTC[..., 0].copy()
    own_KT = np.arange(ids_KT.shape[1]) < held_K[:, None]
    if kept.corrections is not None:
        true_KT = correct(ids_KT, kept.corrections)
        log_KT[true_KT != ids_KT] = 0
        ids_KT = true_KT
    apart = _Apart(model, vectors_KM, held_K, kept)
    off_K = apart(ids_KT)
    ids, off, doubt = (torch.from_numpy(x) for x in (ids_KT, off_K, np.where(own_KT, log_KT, np.inf)))
    worth = SEARCH.worth(doubt, off)
    if search and worth.any():
        SEARCH.improve(ids, off, worth, torch.from_numpy(ids_KTC), doubt, apart.of_many)  # ids_KT and off_K change
        other_KT = (ids_KT != ids_KTC[..., 0]) & worth.numpy()[:, None]
        choice_KT1 = (ids_KTC == ids_KT[..., None]).argmax(-1)[..., None]
        log_KT = np.where(other_KT, np.take_along_axis(log_KTC, choice_KT1, 2)[..., 0], log_KT)
    return Told(ids_KT, np.where(own_KT, _log_odds(log_KT), np.nan), off_K, worth.numpy())


def _log_odds(log_KT: np.ndarray) -> np.ndarray:
    return log_KT - np.log(np.maximum(-np.expm1(np.minimum(log_KT, -1e-12)), 1e-12))


class _Apart:
    """How far memories are from what tokens encode to, beyond what rounding explains: a share of their squares."""

    def __init__(self, model: TextMemory, vectors_KM: np.ndarray, held_K: np.ndarray, kept: Kept):
        self.encoding, self.vectors_KM, self.held_K, self.kept = Encoding(model), vectors_KM, held_K, kept

    def of_many(self, ids_nXT: Tensor, which_n: Tensor) -> Tensor:
        """Of several tries [n, X, T] for each of these memories: [n, X]."""
        n, X, _ = ids_nXT.shape
        off_n = self(ids_nXT.flatten(0, 1).numpy(), np.repeat(which_n.numpy(), X))
        return torch.from_numpy(off_n).view(n, X)

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
