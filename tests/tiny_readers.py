"""A small reader that does all that a reader may do, added as anyone would add one: a file, and a config that names it.

It puts one entry a memory before the tokens, keeps a key and a value of each, adds what a query finds among them to
every block, and mixes a guess from what the last two tokens find into the prediction.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from memlm.ranges import Count
from memlm.readers.config import ReaderConfig
from memlm.readers.reader import Mixed, Reader, Sizes


@dataclass(frozen=True, kw_only=True)
class EverythingReader(ReaderConfig):
    """What it can be told."""

    kind: ClassVar[str] = "everything"
    module: ClassVar[str] = "tiny_readers:Everything"

    key_width: Count = 4


class Everything(Reader):
    """entries, keep, residuals and mix."""

    vectors, recent = 1, 2

    def __init__(self, config: EverythingReader, sizes: Sizes):
        super().__init__(config, sizes)
        d, W = config.key_width, sizes.width
        self.entry = nn.Linear(sizes.memory_dim, W)
        self.key = nn.Linear(sizes.memory_dim, d)
        self.value = nn.Linear(sizes.memory_dim, W)
        self.queries = nn.ModuleList(nn.Linear(W, d) for _ in range(sizes.layers))
        self.word = nn.Embedding(sizes.words.num_embeddings, d)
        self.guess = nn.Linear(W, sizes.words.num_embeddings, bias=False)  # nothing found, nothing said

    def entries(self, memory_BKM):
        return self.entry(memory_BKM)[:, :, None]

    def keep(self, memory_BKM, before=()):
        return self.key(memory_BKM), self.value(memory_BKM)

    def residuals(self, kept, queries):
        return [lambda x_BQW, find=find: self._found(find(x_BQW), kept, queries) for find in self.queries]

    def mix(self, logits_BQV, h_BQW, kept, queries, index=None):
        return Mixed(logits_BQV + self.guess(self._found(self.word(queries.recent).sum(2), kept, queries)))

    def _found(self, query_BQd, kept, queries):
        key_BKd, value_BKW = kept
        score_BQK = (query_BQd @ key_BKd.mT).masked_fill(~queries.sees(key_BKd.shape[1]), -math.inf)
        nothing_BQ1 = score_BQK.new_zeros(*score_BQK.shape[:2], 1)
        return torch.cat([nothing_BQ1, score_BQK], -1).softmax(-1)[..., 1:] @ value_BKW
