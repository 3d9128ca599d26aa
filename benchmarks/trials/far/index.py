"""The same memories opened without a look at all of them: places in lists by word, read a list at a time.

Places are sorted by the word before them, then by the one before that: the list of a word is one slice, and the part of
it that shares the second word another. A look reads its own list alone, and that of a word ago was read a step ago (it
may be kept). New memories wait in a tail that every look reads too, and join the lists when it is an eighth of them.
Opens exactly what `CopyReader.open` does, for one query of one sequence. Keys of 8 bits change scores by a thousandth.
"""

import torch
from reader import FAR, PAIR, CopyReader, Opened, Recent, ranked
from torch import Tensor

UNIT = 254  # 8 bits of a key: numbers of a vector of unit length up to a half


class PlaceIndex:
    """Words, keys and lists of one sequence's memories.

    Args:
        reader: whose keys they are.
        words_KT: words of the memories so far, at least one.
        bits: 32 or 8, of a key's number.
    """

    def __init__(self, reader: CopyReader, words_KT: Tensor, bits: int = 32):
        self.reader, self.bits = reader, bits
        self.table, self.scale = reader.table(reader.query), reader.sharpness().item()
        kept = reader.keep(words_KT[None])
        self.words_KT, self.before_KTn, self.key_Pd = (
            kept.words_BKT[0],
            kept.before_BKTn[0],
            self._rounded(kept.key_BPd[0]),
        )
        self._sort()

    @property
    def nbytes(self) -> int:
        """Bytes of keys and of the order of places; words are recalled, or kept beside."""
        return self.key_Pd.nbytes + 4 * len(self.place_P)

    def append(self, words_KT: Tensor) -> None:
        """More memories after those that are there."""
        last_n = torch.cat([self.before_KTn[-1, -1].flip(-1), self.words_KT[-1, -1:]])[None, 1:]
        kept = self.reader.keep(words_KT[None], last_n)
        self.words_KT = torch.cat([self.words_KT, kept.words_BKT[0]])
        self.before_KTn = torch.cat([self.before_KTn, kept.before_BKTn[0]])
        self.key_Pd = torch.cat([self.key_Pd, self._rounded(kept.key_BPd[0])])
        if self.words_KT.numel() > 1.125 * len(self.place_P):
            self._sort()

    def open(self, recent: Recent) -> Opened:
        """What is open for one query [1, 1, ...]."""
        s, (K, T) = self.reader.shape, self.words_KT.shape
        number_k = torch.arange(K)
        if s.top + s.last < K:
            found = dict.fromkeys(range(K - 1, K - 1 - s.last, -1))
            self._take(found, self._look(recent, 0), s.top + s.last - s.earlier)
            earlier: dict[int, float] = {}
            for ago in range(1, s.looks):
                for number, score in self._look(recent, ago).items():
                    earlier[number] = max(score - ago, earlier.get(number, -1e9))
            self._take(found, earlier, s.top + s.last)
            number_k = torch.tensor(list(found))
        words_J, before_Jn = self.words_KT[number_k].flatten(), self.before_KTn[number_k].flatten(0, 1)
        query_d = self._query(recent, 0)
        near_J = self._dot(self.key_Pd.view(K, T, -1)[number_k].flatten(0, 1), query_d)
        return Opened(*(x[None, None] for x in (number_k, words_J, before_Jn, near_J)))

    def _take(self, found: dict[int, None], score: dict[int, float], many: int) -> None:
        """Fill `found` up to `many`: the best first, then the newest."""
        for number in sorted(score, key=score.__getitem__, reverse=True):
            if len(found) == many:
                return
            found.setdefault(number)
        number = len(self.words_KT) - 1
        while len(found) < many:
            found.setdefault(number)
            number -= 1

    def _look(self, recent: Recent, ago: int) -> dict[int, float]:
        """The best scores of memories whose places are after the same word, `ago` places on; all that may be opened."""
        first, second = recent.words_BNn[0, 0, ago : ago + 2].tolist()
        a, b = self.start_V[first], self.start_V[first + 1]
        query_d, tail_p = self._query(recent, ago), self._tail(first)
        score_p = self._dot(self.listed_Pd[a:b], query_d)
        c, d = torch.searchsorted(self.second_P[a:b], torch.tensor([second, second + 1])).tolist()
        score_p[c:d] += PAIR
        place_p = self.place_P[a:b]
        if len(tail_p):
            more_p = self._dot(self.key_Pd[tail_p], query_d)
            more_p = more_p + PAIR * (self.before_KTn.flatten(0, 1)[tail_p, 1] == second)
            score_p, place_p = torch.cat([score_p, more_p]), torch.cat([place_p, tail_p])
        T = self.words_KT.shape[1]
        if len(score_p) > (most := (self.reader.shape.top + self.reader.shape.last) * min(T, 8)):
            at_p = (score_p >= score_p.topk(most)[0][-1] - 1 / 32).nonzero()[:, 0]
            score_p, place_p = score_p[at_p], place_p[at_p]
        number_p = (place_p + ago) // T
        found: dict[int, float] = {}
        for number, score in zip(number_p.tolist(), ranked(score_p, number_p).tolist(), strict=True):
            if number < len(self.words_KT):  # the last words look one place on, into what is not there yet
                found[number] = max(score, found.get(number, FAR))
        return found

    def _tail(self, word: int) -> Tensor:
        n = len(self.place_P)
        return (self.before_KTn.flatten(0, 1)[n:, 0] == word).nonzero()[:, 0] + n

    def _sort(self) -> None:
        before_P2 = self.before_KTn.flatten(0, 1)[:, :2]
        V = self.reader.shape.vocab_size
        self.place_P = (before_P2[:, 0] * V + before_P2[:, 1]).argsort(stable=True)
        self.start_V = [0, *torch.bincount(before_P2[:, 0], minlength=V).cumsum(0).tolist()]
        self.listed_Pd, self.second_P = self.key_Pd[self.place_P], before_P2[self.place_P, 1].contiguous()

    def _query(self, recent: Recent, ago: int) -> Tensor:
        return self.reader.unit(recent.words_BNn[0, :, ago:], self.table)[0]

    def _dot(self, key_Pd: Tensor, query_d: Tensor) -> Tensor:
        if self.bits == 8 and len(key_Pd) > 16:
            return torch._int_mm(key_Pd, self._rounded(query_d)[:, None])[:, 0] * (self.scale / UNIT**2)
        return key_Pd.float() @ query_d * (self.scale / UNIT if self.bits == 8 else self.scale)

    def _rounded(self, key_Pd: Tensor) -> Tensor:
        return (key_Pd * UNIT).round().clamp(-127, 127).to(torch.int8) if self.bits == 8 else key_Pd
