"""How a decoder reads a memory: one vector -> the S vectors that stand for it in the decoder's sequence.

The reader `select` puts none there: it is read beside the sequence (memory/select.py). A new reader is a class here,
its name in `ReaderKind` and a row in `READERS`.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.memory.bridge import BRIDGES
from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.models.shapes import MemoryShape
from memlm.nn.stack import Beside
from memlm.nn.vocabulary import token_embedding
from memlm.readers.select import SLOT_KEY, Held, Look, Where


class Reader(nn.Module):
    """Memories [B, C, M] -> [B, C, S, W]; `vectors` is S, and `reads` whether memories are read at all.

    A subclass is made from the model's shape and from the decoder's word embeddings [V, W], which stay the model's own.
    """

    vectors: int
    reads = True
    held_bytes = 0  # kept of a memory beside its entries in the decoder's cache

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """Memories [B, C, M] -> what the decoder reads [B, C, S, W]."""
        raise TypeError(f"{type(self).__name__} has no forward")


class Nothing(Reader):
    """Reads no memory: the baselines, of a chunk alone (`none`) or of all tokens (`full`)."""

    reads = False

    def __init__(self, shape: MemoryShape, words: nn.Embedding):
        super().__init__()
        self.vectors, self.width = 0, shape.decoder.width

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, 0, W]."""
        return memory_BCM.new_empty(*memory_BCM.shape[:2], 0, self.width)


class Vector(Reader):
    """The paper's: a memory is one position of the decoder, by a projection to its width; or a few (`vectors`)."""

    def __init__(self, shape: MemoryShape, words: nn.Embedding):
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

    def __init__(self, shape: MemoryShape, words: nn.Embedding):
        super().__init__()
        self.vectors, self.shift = shape.chunk_tokens, shape.shift
        self.bridge = BRIDGES[shape.bridge](shape.chunk_tokens, shape.memory_dim, shape.bridge_width)
        self.project = nn.Linear((1 + shape.shift) * shape.bridge_width, shape.decoder.width)

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, T, W]."""
        return self.project(unrolled(self.bridge, memory_BCM, self.shift))


class Soft(Reader):
    """Ours: a memory is read as the tokens that it holds, each as the decoder's own vector for that token.

    The decoder of the memory's autoencoder says which tokens those are; what is read is the expected word embedding, so
    that what the model learns about tokens of its own chunk holds for those of memories too (LOG.md: next tokens gain
    from memories nearly what they gain from the text itself, which slots do not give them). `shift` is as of `Slots`.
    """

    def __init__(self, shape: MemoryShape, words: nn.Embedding):
        super().__init__()
        T, W = shape.chunk_tokens, shape.decoder.width
        self.vectors = T
        self.text = ChunkDecoder(T, shape.memory_dim, shape.bridge, shape.unroll, words.num_embeddings)
        self.place = token_embedding(T, W)
        self.before = nn.Linear(W, W, bias=False) if shape.shift else None
        self._words = (words,)  # in a tuple: not a part of the reader, which would be saved twice

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, T, W]."""
        share_XTV = self.text(memory_BCM.flatten(0, 1)).softmax(-1)
        soft_BCTW = (share_XTV @ self._words[0].weight).unflatten(0, memory_BCM.shape[:2])
        read_BCTW = soft_BCTW + self.place.weight
        return read_BCTW if self.before is None else read_BCTW + F.pad(self.before(soft_BCTW), (0, 0, 1, -1))


class Select(Nothing):
    """Ours: memories are no entries; each layer's tokens unroll and attend to the few that they choose.

    It reads what `Slots` reads, with a cache that is nearly as small as that of `Vector`.
    """

    reads = True

    def __init__(self, shape: MemoryShape, words: nn.Embedding):
        super().__init__(shape, words)
        self.top, self.shift = shape.select, shape.shift
        self.bridge = BRIDGES[shape.bridge](shape.chunk_tokens, shape.memory_dim, shape.bridge_width)
        slot_width = (1 + shape.shift) * shape.bridge_width
        self.looks = nn.ModuleList(Look(shape, slot_width) for _ in range(shape.decoder.layers))
        key_numbers = shape.key_width + shape.chunk_tokens * SLOT_KEY
        self.held_numbers = shape.memory_dim + shape.decoder.layers * key_numbers

    @property
    def held_bytes(self) -> int:
        """Bytes kept of a memory: of itself, and of its key in each layer."""
        return self.held_numbers * next(self.parameters()).element_size()

    def unroll(self, memory_XM: Tensor) -> Tensor:
        """Memories [..., M] -> slots [..., T, S] of length 1 a number."""
        slots_XTS = unrolled(self.bridge, memory_XM, self.shift)
        return F.rms_norm(slots_XTS, slots_XTS.shape[-1:])

    def hold(self, memory_BKM: Tensor, number_RK: Tensor) -> Held:
        """What has to be kept of memories with these numbers, one row for all sequences or one for each."""
        slots_BKTS = self.unroll(memory_BKM)
        return Held(memory_BKM, torch.stack([look.keys(slots_BKTS, number_RK) for look in self._looks()], 2))

    def beside(self, held: Held, where: Where) -> Sequence[Beside]:
        """What each layer's entries are given of memories: few are unrolled for each entry, many once for all."""
        K, entries = held.memory_BKM.shape[1], where.before.shape[1]
        if not K:
            return ()
        if 0 < self.top * entries < K:
            return [
                lambda x_BQW, i=i, look=look: look.of_few(x_BQW, held, i, self.unroll, where)
                for i, look in enumerate(self._looks())
            ]
        slots_BKTS = self.unroll(held.memory_BKM)
        return [
            lambda x_BQW, i=i, look=look: look.of_all(x_BQW, held.key_BKLX[:, :, i], slots_BKTS, where)
            for i, look in enumerate(self._looks())
        ]

    def _looks(self) -> list[Look]:
        return cast(list[Look], list(self.looks))


READERS: dict[str, type[Reader]] = {
    "none": Nothing,
    "full": Nothing,
    "vector": Vector,
    "slots": Slots,
    "soft": Soft,
    "select": Select,
}


def unrolled(bridge: nn.Module, memory_XM: Tensor, shift: bool) -> Tensor:
    """Memories [..., M] -> slots [..., T, d]; with `shift` each beside the one before it, [..., T, 2d]."""
    slots_XTd = bridge(memory_XM.flatten(0, -2)).unflatten(0, memory_XM.shape[:-1])
    if not shift:
        return slots_XTd
    return torch.cat([slots_XTd, F.pad(slots_XTd, (0, 0, 1, 0))[..., :-1, :]], -1)


def spread(tokens: int, vectors: int) -> Tensor:
    """At which of a chunk's tokens each of its vectors stands: the last of its share. Long [S]."""
    return (torch.arange(1, vectors + 1) * tokens) // max(1, vectors) - 1
