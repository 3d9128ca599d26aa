"""Where memories and tokens stand in the decoder's sequence, and what each may see.

A chunk's tokens see the memories before them and their own chunk's past. The same rule is laid out in two ways that
give the same numbers: folded, every chunk its own sequence (batch x chunk, C + T positions each, paper), and packed,
all memories and all tokens in one sequence by the rule of chunks (C + N positions in the place of C(C + T)).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from memlm.nn.chunks import Chunks
from memlm.nn.layout import Layout
from memlm.readers.config import PositionScheme


@dataclass(frozen=True)
class Placing:
    """The rule for one model.

    Args:
        chunk_tokens: T.
        vectors: S, positions of a memory.
        scheme: `original` (where the text itself stood), `variable` (tokens right after the memories) or `fixed`
            (tokens after room for `most` memories; the only one for mixers).
        most: how many memories there is room for under `fixed`.
        hidden: index of a memory to ablate: none but itself sees it; positions do not change.
    """

    chunk_tokens: int
    vectors: int
    scheme: PositionScheme
    most: int
    hidden: int | None = None

    @property
    def length(self) -> int:
        """Positions that a decoder with fixed positions needs."""
        return self.most * self.vectors + self.chunk_tokens

    def memories(self, number: Tensor) -> Tensor:
        """Positions of the memories of these numbers [...]: long [..., S]."""
        if self.scheme == "original":
            # The last token of each vector's share of the chunk.
            last_S = torch.arange(1, self.vectors + 1, device=number.device) * self.chunk_tokens
            return number[..., None] * self.chunk_tokens + last_S // max(1, self.vectors) - 1
        return number[..., None] * self.vectors + torch.arange(self.vectors, device=number.device)

    def tokens(self, memories: Tensor) -> Tensor:
        """Positions of the tokens of chunks with so many memories [...] before them: long [..., T]."""
        step = {"original": self.chunk_tokens, "variable": self.vectors, "fixed": 0}[self.scheme]
        first = memories * step + (self.most * self.vectors if self.scheme == "fixed" else 0)
        return first[..., None] + torch.arange(self.chunk_tokens, device=memories.device)


@lru_cache(maxsize=64)
def packed(placing: Placing, memories: int, chunks: int, device: torch.device, read: bool = True) -> Layout:
    """All memories, then the tokens of all chunks: P = memories * S + chunks * T entries.

    The chunks are the last ones: chunk c sees the first `memories - chunks + 1 + c` memories. With `read` False the
    tokens stand where they would, and the memories are left out.
    """
    T, visible_C, memory_m = _counts(placing, memories, chunks, read)
    memories_m = placing.memories(torch.arange(memories)).flatten()[: len(memory_m)]
    positions = torch.cat([memories_m, placing.tokens(visible_C).flatten()])
    S = max(1, placing.vectors)
    rule = Chunks(tokens=T, chunks=chunks, prefix=len(memory_m), block=S, first=S * (memories - chunks + 1))
    mask = rule if placing.hidden is None else _hide(placing, memory_m, rule.mask(positions.device))
    return _on(device, positions, mask, len(memory_m))


@lru_cache(maxsize=64)
def folded(placing: Placing, memories: int, chunks: int, batch: int, device: torch.device, read: bool = True) -> Layout:
    """A sequence for every chunk (batch first, then chunk), each with all memories and its own tokens.

    Memories that come after a chunk stand in its sequence too and are seen by none of its tokens.
    """
    T, visible_C, memory_m = _counts(placing, memories, chunks, read)
    m = len(memory_m)
    mask_CPP = torch.zeros(chunks, m + T, m + T, dtype=torch.bool)
    mask_CPP[:, :m, :m] = memory_m[:, None] >= memory_m
    mask_CPP[:, m:, :m] = (visible_C[:, None] > memory_m)[:, None]
    mask_CPP[:, m:, m:] = torch.ones(T, T, dtype=torch.bool).tril()
    memory_Cm = placing.memories(torch.arange(memories)).flatten()[:m].expand(chunks, -1)
    positions_CP = torch.cat([memory_Cm, placing.tokens(visible_C)], 1)
    mask_CPP = _hide(placing, memory_m, mask_CPP)
    return _on(device, positions_CP.repeat(batch, 1), mask_CPP.repeat(batch, 1, 1), m)


class Placed(Protocol):
    """A model whose memories and tokens stand by a rule."""

    placing: Placing


@contextmanager
def hiding(model: Placed, memory: int) -> Iterator[None]:
    """In the block, forward passes read as if the memory of this number were not there; caches know nothing of it."""
    placing = model.placing
    model.placing = replace(placing, hidden=memory)
    try:
        yield
    finally:
        model.placing = placing


def _hide(placing: Placing, memory_m: Tensor, mask: Tensor) -> Tensor:
    """A mask [..., P, P] whose first m entries are of these memories: only its own entries see the hidden one."""
    if placing.hidden is not None:
        m, hidden_m = len(memory_m), memory_m == placing.hidden
        mask[..., :m] &= ~hidden_m
        mask[..., :m, :m] |= hidden_m[:, None] & hidden_m  # every entry must see one
    return mask


def _counts(placing: Placing, memories: int, chunks: int, read: bool) -> tuple[int, Tensor, Tensor]:
    """T, how many memories each chunk sees [C], and of which memory each memory entry is [m]."""
    before = memories - chunks + 1
    memory_m = torch.arange(memories if read else 0).repeat_interleave(placing.vectors)
    return placing.chunk_tokens, torch.arange(before, before + chunks), memory_m


def _on(device: torch.device, positions: Tensor, mask: Tensor | Chunks, prefix: int) -> Layout:
    """Made outside of inference mode: first asked for while evaluating, a layout must serve training all the same."""
    with torch.inference_mode(False):
        mask = mask if isinstance(mask, Chunks) else mask.to(device, copy=True)
        return Layout(positions.to(device, copy=True), mask, prefix=slice(prefix))
