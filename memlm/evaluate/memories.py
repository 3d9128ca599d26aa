"""Memories of the chunks of many texts: the true ones, each formed once, and random vectors in their place."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding

Chunk = tuple[int, ...]  # the token ids of one full chunk
_TOKENS = 2**15  # that are encoded at a time


class ChunkMemories:
    """What one model, which forms them with `encode`, remembers of chunks. Texts that begin alike share theirs.

    Those of one call are formed together, whatever was formed before: what comes out does not depend on it.
    """

    def __init__(self, model: TextMemory):
        self.model, self._encoding = model, Encoding(model)
        self._true: dict[tuple[Chunk, ...], dict[Chunk, Tensor]] = {}

    def true(self, chunks: Iterable[Chunk]) -> dict[Chunk, Tensor]:
        """The memory of each [M]; formed once, many at a time."""
        different = tuple(dict.fromkeys(chunks))
        if different not in self._true:
            T = self.model.chunk_tokens
            memory_KM = self._encoding.memories(np.array(different, int).reshape(-1, T), max(1, _TOKENS // T))
            self._true[different] = dict(zip(different, torch.from_numpy(memory_KM), strict=True))
        return self._true[different]

    def random(self, chunks: Iterable[Chunk], seed: int) -> dict[Chunk, Tensor]:
        """In the place of each memory a random vector [M], the same for the same chunk wherever it stands.

        Every dimension has the mean and the standard deviation that it has over the true memories.

        Raises:
            UsageError: there is but one memory: what is drawn like it is it.
        """
        true = self.true(chunks)
        if not true:
            return {}
        if len(true) == 1:
            raise UsageError("random vectors need two different memories to be drawn like: evaluate more examples.")
        memory_KM = torch.stack(list(true.values()))
        mean_M, std_M = memory_KM.mean(0), memory_KM.std(0)

        def drawn(chunk: Chunk) -> Tensor:
            return torch.from_numpy(np.random.default_rng([seed, *chunk]).standard_normal(len(mean_M), np.float32))

        return {chunk: mean_M + std_M * drawn(chunk) for chunk in true}
