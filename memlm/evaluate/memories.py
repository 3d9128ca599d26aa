"""Memories of the chunks of many texts: the true ones, each formed once, and random vectors in their place."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.memory.model import TextMemory

Chunk = tuple[int, ...]  # the token ids of one full chunk
_TOKENS = 2**15  # that are encoded at a time


class Memories:
    """What one model remembers of chunks. Texts that begin alike share theirs.

    Args:
        model: forms them with `encode`.
    """

    def __init__(self, model: TextMemory):
        self.model = model
        self._true: dict[Chunk, Tensor] = {}

    @torch.inference_mode()
    def form(self, chunks: Iterable[Chunk]) -> None:
        """Encode those that are not known yet, many at a time."""
        new = [chunk for chunk in dict.fromkeys(chunks) if chunk not in self._true]
        ids_KT = torch.tensor(new, dtype=torch.long).reshape(len(new), self.model.chunk_tokens)
        for part in ids_KT.split(max(1, _TOKENS // self.model.chunk_tokens)) if new else ():
            memory_KM = self.model.encode(part.to(self.model.device)).float().cpu()
            self._true |= dict(zip(map(tuple, part.tolist()), memory_KM, strict=True))

    def true(self, chunks: Iterable[Chunk]) -> Tensor:
        """Their memories [K, M]; they have been formed."""
        return self._stacked([self._true[chunk] for chunk in chunks])

    def random(self, chunks: Iterable[Chunk], spread: tuple[Tensor, Tensor], seed: int) -> Tensor:
        """Random vectors [K, M]: the same one for the same chunk and seed, wherever it stands."""
        mean_M, std_M = spread
        drawn = [np.random.default_rng([seed, *chunk]).standard_normal(len(mean_M), np.float32) for chunk in chunks]
        return self._stacked([mean_M + std_M * torch.from_numpy(normal_M) for normal_M in drawn])

    def spread(self, chunks: Iterable[Chunk]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every dimension over different chunks [M] each; they have been formed.

        Raises:
            UsageError: there is but one: a vector drawn like it would be it.
        """
        different = list(dict.fromkeys(chunks))
        if len(different) == 1:
            raise UsageError("random vectors need two different memories to be drawn like: evaluate more examples.")
        memory_KM = self.true(different)
        return memory_KM.mean(0), memory_KM.std(0)

    def _stacked(self, vectors: list[Tensor]) -> Tensor:
        return torch.stack(vectors) if vectors else torch.empty(0, self.model.memory_dim)
