"""The rule of chunks that read a common prefix, as a few numbers: no mask as large as the sequence squared.

    [ prefix: m entries in blocks of S | chunk 0: T entries | chunk 1: T entries | ... ]

An entry of the prefix sees its own block and those before it. An entry of a chunk sees its chunk's past, itself
included, and the first entries of the prefix: those of chunk 0 see `first`, those of each next chunk one block more.
Without a prefix one chunk is plain causal order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Which entries see which.

    Args:
        tokens: T, entries of a chunk.
        chunks: how many chunks there are; there may be none.
        prefix: m, entries before the chunks: whole blocks.
        block: S, entries of the prefix that see each other.
        first: entries of the prefix that the first chunk sees: whole blocks.
    """

    tokens: int = 1
    chunks: int = 1
    prefix: int = 0
    block: int = 1
    first: int = 0

    @property
    def entries(self) -> int:
        """P, the length of the sequence."""
        return self.prefix + self.chunks * self.tokens

    def sees(self, q: Tensor, p: Tensor) -> Tensor:
        """Whether the entries of numbers `q` see those of numbers `p` (long, of shapes that broadcast): bool."""
        of_prefix, chunk = q < self.prefix, (q - self.prefix) // self.tokens
        upto = torch.where(of_prefix, (q // self.block + 1) * self.block, self.first + chunk * self.block)
        begin = torch.where(of_prefix, q, self.prefix + chunk * self.tokens)
        return ((p < upto) & (p < self.prefix)) | ((p >= begin) & (p <= q))

    def mask(self, device: torch.device) -> Tensor:
        """All of it at once: bool [P, P]. For short sequences, and for what cannot do without."""
        place = torch.arange(self.entries, device=device)
        return self.sees(place[:, None], place)
