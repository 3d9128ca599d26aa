"""How a decoder reads a memory: one vector -> the S vectors that stand for it in the decoder's sequence.

A new reader is a class here, its name in `ReaderKind` and a row in `READERS`.
"""

import torch
from torch import Tensor, nn

from memlm.memory.bridge import BRIDGES
from memlm.memory.shapes import MemoryShape


class Reader(nn.Module):
    """Memories [B, C, M] -> [B, C, S, W]; `vectors` is S."""

    vectors: int

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """Memories [B, C, M] -> what the decoder reads [B, C, S, W]."""
        raise TypeError(f"{type(self).__name__} has no forward")


class Nothing(Reader):
    """Reads no memory: the baselines, of a chunk alone (`none`) or of all tokens (`full`)."""

    def __init__(self, shape: MemoryShape):
        super().__init__()
        self.vectors, self.width = 0, shape.decoder.width

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, 0, W]."""
        return memory_BCM.new_empty(*memory_BCM.shape[:2], 0, self.width)


class Vector(Reader):
    """The paper's: a memory is one position of the decoder, by a projection to its width; or a few (`vectors`)."""

    def __init__(self, shape: MemoryShape):
        super().__init__()
        self.vectors = shape.vectors
        self.project = nn.Linear(shape.memory_dim, shape.vectors * shape.decoder.width)

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, S, W]."""
        return self.project(memory_BCM).unflatten(-1, (self.vectors, -1))


class Slots(Reader):
    """Ours: the memory is stored as one vector and read as T, one for each of the tokens that it holds.

    The bridge is that of the memory's own autoencoder, so that what the decoder attends to is close to the tokens
    themselves; a single vector would have to be taken apart inside the decoder's own layers (LOG.md: 23 % against
    99.7 % of a blank copy). With `shift` each slot is read beside the one before it: what followed a token can then be
    found by that token in one layer of attention, where it would take two (LOG.md: key-value recall).
    """

    def __init__(self, shape: MemoryShape):
        super().__init__()
        self.vectors, self.shift = shape.chunk_tokens, shape.shift
        self.bridge = BRIDGES[shape.bridge](shape.chunk_tokens, shape.memory_dim, shape.bridge_width)
        self.project = nn.Linear((1 + shape.shift) * shape.bridge_width, shape.decoder.width)

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, T, W]."""
        slots_BCTd = self.bridge(memory_BCM.flatten(0, 1)).unflatten(0, memory_BCM.shape[:2])
        if self.shift:
            slots_BCTd = torch.cat([slots_BCTd, nn.functional.pad(slots_BCTd, (0, 0, 1, 0))[:, :, :-1]], -1)
        return self.project(slots_BCTd)


READERS: dict[str, type[Reader]] = {"none": Nothing, "full": Nothing, "vector": Vector, "slots": Slots}


def spread(tokens: int, vectors: int) -> Tensor:
    """At which of a chunk's tokens each of its vectors stands: the last of its share. Long [S]."""
    return (torch.arange(1, vectors + 1) * tokens) // max(1, vectors) - 1
