"""Which memories are opened for a prediction: those that hold the words before it.

A place p of a memory scores s q.k_p + `PAIR` [its second word agrees], and counts only where the word before it is the
query's; a memory scores as its best place. Opened are the newest `LAST`, the best `top - EARLIER`, and of the rest the
best by the queries of one and two words ago, one and two places on; what is left goes to the newest.

Places are filed by the word before them, so that a look reads one list of a thousandth of the places: `open_all` does
it for a batch; `PlaceIndex` keeps lists, by the word before that one too, on disk where they are many. Both open the
same memories, but for what 4 bits of a key round away.

Suffixes as in readers/pointer.py.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.readers.reader import Kept, Queries

LOOKS = 3  # queries, each a word earlier than the one before it
EARLIER = 4  # memories that are left to the looks of earlier words
LAST = 2  # newest memories, which are always open
PAIR = 5.0  # added to a place's score, for opening alone, where the second word agrees as well
FAR = -1e4  # the score of what is not seen: no share, and gradients stay numbers
UNIT = 14  # 4 bits of a key: its numbers up to a half, in so many parts of one; as much is found as with 32 (LOG.md)
HASH = 0x9E3779B97F4A7C15 - 2**64  # odd; equal sums of words times its powers are equal words
_SORTED = 2**20  # places whose keys are put in order at a time


@torch.no_grad()
def open_all(
    query_of: Callable[[Tensor], Tensor],
    recent_BQn: Tensor,
    words_BKT: Tensor,
    key_BPd: Iterable[Tensor],
    queries: Queries,
    words: int,
    top: int,
) -> tuple[Tensor, Tensor]:
    """Numbers of the memories that are opened [B, Q, k], and s q.k of their places [B, Q, k T], seen or not.

    Args:
        query_of: words before predictions [N, n], the nearest first -> what places are looked for by, times s [N, d].
        recent_BQn: the words before each prediction, the nearest first.
        words_BKT: of the memories; no place is found where there is none.
        key_BPd: of their places.
        queries: what each sees.
        words: so many of them make a query.
        top: memories that are opened beside the newest.
    """
    B, K = words_BKT.shape[:2]
    number_K = torch.arange(K - 1, -1, -1, device=words_BKT.device)
    unseen_RQK = ~queries.sees(K).flip(-1)
    newest_RQK = number_K >= queries.before[..., None] - LAST
    parts = [
        _open(query_of, *of_row, words, top)
        for of_row in zip(
            recent_BQn, words_BKT, key_BPd, newest_RQK.expand(B, -1, -1), unseen_RQK.expand(B, -1, -1), strict=True
        )
    ]
    number_Bk, near_BJ = zip(*parts, strict=True)
    return torch.stack(number_Bk), torch.stack(near_BJ)


def _open(
    query_of: Callable[[Tensor], Tensor],
    recent_Qn: Tensor,
    words_KT: Tensor,
    key_Pd: Tensor,
    newest_QK: Tensor,
    unseen_QK: Tensor,
    words: int,
    top: int,
) -> tuple[Tensor, Tensor]:
    """`open_all` of one text. A look of words ago is mostly another prediction's own: each is made once.

    Memories stand the newest first: in the order in which those without any place are preferred, topk is twice as fast.
    """
    (K, T), many = words_KT.shape, top + LAST
    look_Xn = recent_Qn.unfold(-1, words, 1)[:, :LOOKS].flatten(0, 1)
    code_X = (look_Xn * HASH ** torch.arange(words, device=look_Xn.device)).sum(-1)  # modulo 2^64
    code_U, look_X = code_X.unique(return_inverse=True)
    looks_Un = torch.empty_like(look_Xn[: len(code_U)]).index_copy_(0, look_X, look_Xn)
    look_QL = look_X.view(len(recent_Qn), -1)
    score_UP = query_of(looks_Un) @ key_Pd.mT
    number_Qk = torch.arange(K, device=words_KT.device).expand(len(recent_Qn), K)
    if many < K:
        best = _best(score_UP, looks_Un, words_KT)
        best_QK = best[0][look_QL[:, 0]].masked_fill_(newest_QK, math.inf).masked_fill_(unseen_QK, -math.inf)
        own_Qk = best_QK.topk(many - EARLIER, -1)[1]
        best_QK = best[1][look_QL[:, 1]]  # apart from the own: few of many are found faster
        for ago in range(2, LOOKS):
            best_QK = torch.maximum(best_QK, best[ago][look_QL[:, ago]])
        best_QK = best_QK.masked_fill_(unseen_QK, -1e30).scatter_(-1, own_Qk, -math.inf)
        number_Qk = K - 1 - torch.cat([own_Qk, best_QK.topk(EARLIER, -1)[1]], -1)
    return number_Qk, score_UP[look_QL[:, :1], places(number_Qk, T)]


def _best(score_UP: Tensor, looks_Un: Tensor, words_KT: Tensor) -> list[Tensor]:
    """The best place of each memory after the same word, the newest first [U, K], for looks of 0, 1 and 2 words ago.

    Found in lists: the places in the order of the words before them. Of memories without any the newer is better.
    """
    (K, T), words_P, U = words_KT.shape, words_KT.flatten(), len(looks_Un)
    first_P, second_P = F.pad(words_P, (1, 0))[:-1], F.pad(words_P, (2, 0))[:-2]
    code_P = first_P.long().masked_fill(words_P == 0, -1) * (K * T) + torch.arange(K * T, device=words_P.device)
    # As numbers of their own; numpy's sort is seven times as fast as torch's.
    code_P = torch.from_numpy(np.sort(code_P.numpy())) if code_P.device.type == "cpu" else code_P.sort()[0]
    first_P, order_P = code_P.div(K * T, rounding_mode="floor"), code_P % (K * T)
    first_U = looks_Un[:, 0].contiguous()
    start_U, end_U = (torch.searchsorted(first_P, first_U, right=right) for right in (False, True))
    count_U = end_U - start_U
    look_N = torch.arange(U, device=words_P.device).repeat_interleave(count_U)
    shift_U = start_U - count_U.cumsum(0) + count_U
    place_N = order_P[torch.arange(len(look_N), device=words_P.device) + shift_U[look_N]]
    score_N = score_UP[look_N, place_N] + PAIR * (second_P[place_N] == looks_Un[look_N, 1])
    newer_K = FAR - torch.arange(K + 1, device=words_P.device).double()
    best = []
    for ago in range(LOOKS):
        number_N = (place_N + ago) // T  # K: beyond the last
        best_X = newer_K.repeat(U).scatter_reduce_(
            0, look_N * (K + 1) + K - number_N, ranked(score_N - ago, number_N), "amax"
        )
        best.append(best_X.view(U, K + 1)[:, 1:])
    return best


def places(number_BQk: Tensor, T: int) -> Tensor:
    """The places of memories [..., k T]."""
    return (number_BQk[..., None] * T + torch.arange(T, device=number_BQk.device)).flatten(-2)


def ranked(score: Tensor, number: Tensor) -> Tensor:
    """Scores to a 64th, and the newer memory of two that are equal: what is opened depends on no rounding."""
    return (64 * score).round().double() / 64 + number / 2**32


def taken(words_BP: Tensor, place: Tensor) -> Tensor:
    """The words at places [B, ...], 0 at those before the first."""
    rows = torch.arange(len(words_BP), device=place.device).view(-1, *[1] * (place.ndim - 1))
    inside = place.clamp(0, words_BP.shape[1] - 1)
    return words_BP[rows, inside].masked_fill(place < 0, 0).long()


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

        At least `most` where there are as many, and of equal ones all. The query is made of the words: what they found
        is remembered, since the look of a word ago was the look of the prediction before.
        """
        if words not in self.looked:
            (place_n, score_n), (a, b) = self.after(words[0], query_d), self.start_V[words[0] : words[0] + 2].tolist()
            second_n = self.second_P[a:b]
            c, d = torch.searchsorted(second_n, torch.tensor([words[1], words[1] + 1], dtype=second_n.dtype)).tolist()
            score_n[c:d] += PAIR
            if len(score_n) > most:
                some = (score_n >= score_n.topk(most)[0][-1] - 1 / 32).nonzero()[:, 0]
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


def open_indexed(index: PlaceIndex, tail: Tail, queries_nd: Tensor, recent_n: Tensor, words: int, top: int) -> Tensor:
    """`open_all` for one prediction of one sequence, which sees all memories: their numbers [k].

    Args:
        index: of all but the last memories.
        tail: these.
        queries_nd: of no, one and two words ago, times s.
        recent_n: the words before the prediction, the nearest first.
        words: so many of them make a query.
        top: memories that are opened beside the newest.
    """
    (K, T), many = index.words_KT.shape, top + LAST
    K += len(tail.words_KT)
    if many >= K:
        return torch.arange(K)
    found = dict.fromkeys(range(K - 1, K - 1 - LAST, -1))
    own, earlier = looked(index, tail, queries_nd, recent_n, words, many * T)
    _fill(found, own, many - EARLIER, K)
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
