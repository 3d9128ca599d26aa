"""Places of memories in lists, by the word before them and the one before that: on disk where they are many, and
memory-mapped, so that a look reads one list.

What they open is what `finding.open_all` opens, but for what 4 bits of a key round away; memories that came after an
index was made are its tail. Suffixes as in readers/pointer.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.readers.finding import EARLIER, LAST, LOOKS, NEARBY, PAIR, ranked
from memlm.readers.reader import Kept

UNIT = 14  # 4 bits of a key: its numbers up to a half, in so many parts of one; as much is found as with 32 (LOG.md)
_SORTED = 2**20  # places whose keys are put in order at a time


@dataclass(frozen=True)
class PlaceIndex:
    """The places of one sequence's memories, filed by the words before them; all of it may be on disk.

    Args:
        words_KT: int32.
        key_Pd: uint8 [P, d / 2], keys in the order of the lists, two numbers a byte.
        place_P: int32 or int64, the place that each is of.
        second_P: int32, the word before the word before it.
        start_V: int64 [V + 1]; the list of word w is [start[w], start[w + 1]).
        newest_kM: float32, the newest memories.
        looked: what the last looks found.
    """

    words_KT: Tensor
    key_Pd: Tensor
    place_P: Tensor
    second_P: Tensor
    start_V: Tensor
    newest_kM: Tensor
    looked: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        words_KT: Tensor,
        key_of: Callable[[Tensor], Tensor],
        vocab_size: int,
        newest_kM: Tensor,
        folder: Path | None = None,
    ) -> Self:
        """File the places of memories.

        Args:
            words_KT: what they recall.
            key_of: numbers of places [n] -> their keys [n, d], of unit length.
            vocab_size: V.
            newest_kM: the newest of them.
            folder: where it is written; None: it is not.
        """
        flat_P = words_KT.flatten()
        first_P, second_P = F.pad(flat_P, (1, 0))[:-1], F.pad(flat_P, (2, 0))[:-2]
        place_P = (first_P.long() * vocab_size + second_P).argsort(stable=True)
        place_P = place_P[flat_P[place_P] > 0]
        size = len(place_P), key_of(place_P[:1]).shape[1] // 2
        key_Pd: Any = np.empty(size, np.uint8)
        if folder is not None:
            key_Pd = np.lib.format.open_memmap(folder / "key_Pd.npy", "w+", np.uint8, size)
        for start in range(0, len(place_P), _SORTED):
            some = slice(start, start + _SORTED)
            key_Pd[some] = packed(key_of(place_P[some])).numpy()
        start_V = F.pad(torch.bincount(first_P[place_P], minlength=vocab_size).cumsum(0), (1, 0))
        small = place_P.int() if flat_P.numel() < 2**31 else place_P
        second_P = second_P[place_P].int()
        made = cls(words_KT.int(), torch.from_numpy(key_Pd), small, second_P, start_V, newest_kM.float())
        if folder is not None:
            for name in (name for name in ARRAYS if name != "key_Pd"):
                np.save(folder / f"{name}.npy", getattr(made, name).numpy())
        return made

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-mapped: a look reads what it needs."""
        paths = [folder / f"{name}.npy" for name in ARRAYS]
        arrays: list[Any] = [torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)) for path in paths]
        return cls(*arrays)

    def __len__(self) -> int:
        """K, how many memories."""
        return len(self.words_KT)

    @property
    def last(self) -> Kept:
        """What is kept of the last one, as far as the keys after it need it: words [1, 1, T]."""
        return (self.words_KT[None, -1:].long(),)

    @property
    def nbytes(self) -> int:
        """Bytes of it."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def after(self, word: int, query_d: Tensor) -> tuple[Tensor, Tensor]:
        """All places after a word, and q.k of each: two [n]."""
        a, b = self.start_V[word : word + 2].tolist()
        key_nc = self.key_Pd[a:b]
        score_n = (key_nc & 15).float() @ query_d[::2] + (key_nc >> 4).float() @ query_d[1::2]
        return self.place_P[a:b], (score_n - 8 * query_d.sum()) / UNIT

    def look(self, words: tuple[int, ...], query_d: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The best places after the first of these words, and q.k of each with `PAIR` where the second agrees: two [n].

        At least `most` where there are as many, of equal ones all, and all of the newest `NEARBY` memories. The query
        is made of the words: what they found is remembered, since the look of a word ago was the look of the
        prediction before.
        """
        if words not in self.looked:
            (place_n, score_n), (a, b) = self.after(words[0], query_d), self.start_V[words[0] : words[0] + 2].tolist()
            second_n = self.second_P[a:b]
            c, d = torch.searchsorted(second_n, torch.tensor([words[1], words[1] + 1], dtype=second_n.dtype)).tolist()
            score_n[c:d] += PAIR
            if len(score_n) > most:
                nearby_n = place_n >= self.words_KT.numel() - NEARBY * self.words_KT.shape[1]
                some = (nearby_n | (score_n >= score_n.topk(most)[0][-1] - 1 / 32)).nonzero()[:, 0]
                place_n, score_n = place_n[some], score_n[some]
            while len(self.looked) >= LOOKS:
                del self.looked[next(iter(self.looked))]
            self.looked[words] = place_n.long(), score_n
        return self.looked[words]


ARRAYS = [name for name in PlaceIndex.__dataclass_fields__ if name != "looked"]


@dataclass(frozen=True)
class Tail:
    """Memories that came after an index was made, few: words [K, T], and keys [P, d]."""

    words_KT: Tensor
    key_Pd: Tensor


def open_indexed(
    index: PlaceIndex, tail: Tail, queries_nd: Tensor, recent_n: Tensor, words: int, top: int, near: int = 0
) -> Tensor:
    """`open_all` for one prediction of one sequence, which sees all memories: their numbers [k].

    Args:
        index: of all but the last memories.
        tail: these.
        queries_nd: of no, one and two words ago, times s.
        recent_n: the words before the prediction, the nearest first.
        words: so many of them make a query.
        top: memories that are opened beside the newest.
        near: so many of these are of the newest `NEARBY`.
    """
    (K, T), many = index.words_KT.shape, top + LAST
    K += len(tail.words_KT)
    if many >= K:
        return torch.arange(K)
    found = dict.fromkeys(range(K - 1, K - 1 - LAST, -1))
    own, earlier = looked(index, tail, queries_nd, recent_n, words, many * T)
    _fill(found, own, many - EARLIER - near, K)
    _fill(found, {number: score for number, score in own.items() if number >= K - NEARBY}, many - EARLIER, K)
    _fill(found, earlier, many, K)
    return torch.tensor(list(found))


def looked(
    index: PlaceIndex, tail: Tail, queries_nd: Tensor, recent_n: Tensor, words: int, most: int, looks: int = LOOKS
) -> tuple[dict[int, float], dict[int, float]]:
    """Scores of the memories that the look of no words ago found, and of those that the looks before it did."""
    recent = recent_n.tolist()
    own, earlier = _look(index, tail, queries_nd[0], tuple(recent[:words]), 0, most), dict[int, float]()
    for ago in range(1, looks):
        for number, score in _look(index, tail, queries_nd[ago], tuple(recent[ago : ago + words]), ago, most).items():
            earlier[number] = max(score - ago, earlier.get(number, -math.inf))
    return own, earlier


def _look(
    index: PlaceIndex, tail: Tail, query_d: Tensor, words: tuple[int, ...], ago: int, most: int
) -> dict[int, float]:
    """Scores of the memories whose places are after the same word, `ago` places on; all that may be opened."""
    T = index.words_KT.shape[1]
    place_n, score_n = index.look(words, query_d, most)
    if len(tail.words_KT):
        flat_P = torch.cat([index.words_KT.flatten()[-2:], tail.words_KT.flatten()])
        here = ((flat_P[1:-1] == words[0]) & (flat_P[2:] > 0)).nonzero()[:, 0]
        more = tail.key_Pd[here] @ query_d + PAIR * (flat_P[here] == words[1])
        place_n, score_n = torch.cat([place_n, here + index.words_KT.numel()]), torch.cat([score_n, more])
    number_n = (place_n + ago) // T
    there = number_n < len(index.words_KT) + len(tail.words_KT)  # the last words look beyond what there is
    number_n, score_n = number_n[there], ranked(score_n, number_n)[there]
    order_n = score_n.argsort()  # of a memory's places the best is taken last
    return dict(zip(number_n[order_n].tolist(), score_n[order_n].tolist(), strict=True))


def _fill(found: dict[int, None], score: dict[int, float], many: int, memories: int) -> None:
    """Fill `found` up to `many`: the best first, then the newest."""
    for number in sorted(score, key=score.__getitem__, reverse=True):
        if len(found) == many:
            return
        found.setdefault(number)
    newest = iter(range(memories - 1, -1, -1))
    while len(found) < many:
        found.setdefault(next(newest))


def packed(key_Pd: Tensor) -> Tensor:
    """Keys in 4 bits: uint8 [P, d / 2]."""
    parts_Pd = ((key_Pd * UNIT).round().clamp(-7, 7) + 8).to(torch.uint8)
    return parts_Pd[..., ::2] | parts_Pd[..., 1::2] << 4


def unpacked(key_Pc: Tensor) -> Tensor:
    """What is left of them: float32 [P, d]."""
    return (torch.stack([key_Pc & 15, key_Pc >> 4], -1).flatten(-2).float() - 8) / UNIT
