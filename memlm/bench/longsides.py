"""What is read of a long text by the sides of a benchmark: all, passages by keys or by BM25, what a head copies."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.bench.longtext import Recalled
from memlm.pretrained.copying import NEXT, Copying, apart, in_passages, opened_words, queries_of
from memlm.readers.finding import PlaceIndex
from memlm.readers.reader import Kept, logp_of

Told = tuple[Tensor, Tensor]  # logits, hidden states


@dataclass
class Remembered:
    """A text that was read as memories, or kept as token ids."""

    words_KT: Tensor
    index: PlaceIndex
    kept: Kept
    bm25: Any = None  # made when it is asked


@dataclass
class Bench:
    """The model and what the sides share; sums of each row's figures, by example."""

    model: Copying
    tokenizer: Any
    recalled: Recalled
    sizes: Any
    ends: float
    sums: dict[tuple[Any, ...], list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, key: tuple[Any, ...], top: float, below: float = 1.0) -> None:
        """One example of a row."""
        self.sums.setdefault(key, []).append((top, below))

    def remember(self, ids_N: Tensor) -> Remembered:
        """What is kept of words."""
        words_KT = in_passages(ids_N, self.model.chunk_tokens)
        index = self.model.reader.index_words(words_KT, torch.zeros(0, 1))
        return Remembered(words_KT, index, self.model.reader.keep_words(words_KT[None].to(self.model.device)))

    def after(
        self, before: Sequence[Tensor], texts: Sequence[Tensor], last: Sequence[int], lora: bool = False
    ) -> list[Told]:
        """The base's logits [1, Q, V] and hidden states of the last tokens of texts, each after what else is read; by
        the adapter, if it has one and is told to.
        """
        rows = [torch.cat([before_P, text_N]) for before_P, text_N in zip(before, texts, strict=True)]
        read_BP = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        opened_B = torch.tensor([len(words_P) for words_P in before]) if lora else None
        h_BPW = self.model.states(self.model.begun(read_BP)[:, :-1], None, opened_B)[
            0
        ]  # padding is at the right: nothing sees it
        found = []
        for h_PW, row, Q in zip(h_BPW, rows, last, strict=True):
            h_1QW = h_PW[None, max(0, len(row) - Q - 8) : len(row)]
            found.append((self.model.told(h_1QW), h_1QW))
        return found

    def copied(self, told: Told, text_N: Tensor, held: Remembered, last: int) -> Tensor:
        """Logits of the last tokens of a text with what the head copies."""
        logits_1QV, h_1QW = told
        ids_1N, K = text_N[None].to(self.model.device), len(held.words_KT)
        Q = min(logits_1QV.shape[1], ids_1N.shape[1])
        logp_1N = torch.zeros_like(ids_1N, dtype=logits_1QV.dtype)
        logp_1N[:, -Q:] = logp_of(logits_1QV[:, -Q:], ids_1N[:, -Q:])
        queries = queries_of(ids_1N, K, logp_1N).part(slice(-last, None))
        return self.model.reader.mix(logits_1QV[:, -last:], h_1QW[:, -last:], held.kept, queries).logits

    def opened(self, held: Remembered, question_N: Tensor, many: int) -> Tensor:
        """The words of the best passages by the head's keys."""
        numbers = self.model.reader.passages(held.index, question_N, many, self.model.shape.segment)
        return opened_words(held.index, numbers)

    def by_bm25(self, held: Remembered, question_N: Tensor, many: int) -> Tensor:
        """The words of as many passages, each with the next one, by BM25 over the same tokens."""
        bm25s: Any = import_module("bm25s")
        if held.bm25 is None:
            held.bm25 = bm25s.BM25()
            held.bm25.index([[str(i) for i in row if i] for row in held.words_KT.tolist()], show_progress=False)
        asked = map(str, question_N[-self.model.shape.segment :].tolist())
        known = [word for word in asked if word in held.bm25.vocab_dict]
        if not known:
            return question_N[:0]
        score_K = torch.from_numpy(np.asarray(held.bm25.get_scores(known), np.float32).copy())
        return opened_words(held.index, apart(score_K + NEXT * F.pad(score_K, (0, 1))[1:], many))

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() > self.ends
