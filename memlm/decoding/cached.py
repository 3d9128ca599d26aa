"""What is kept of a text while it is continued token by token, so that a step costs one entry and no more.

A memory model keeps the entries of its memories and, in T places that every chunk uses again, those of the chunk that
is being written (decoding/chunks.py): S N/T + T entries for N tokens, `cache_entries`, where a plain transformer
keeps N (decoding/flat.py).

Suffixes of both: R is 1 if all prompts are of one length, else B; r and b count the rows of R and of B that are meant;
P places of the cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.nn.cache import Cache
from memlm.nn.layout import Layout
from memlm.nn.stack import Stack


def cache_entries(kept: int, chunk_tokens: int, tokens: int, memories: int = 0) -> int:
    """Entries kept of a text of so many tokens: `kept` for each full chunk and for each memory before it, plus T.

    `kept` is S for a model that reads memories, and T for one that gives up nothing. An entry is 2 x width numbers in
    each layer of a transformer (key and value) and 1 x width in each of a mixer (what is mixed): `Stack.entry_bytes`.
    """
    return kept * (memories + tokens // chunk_tokens) + chunk_tokens


@dataclass(frozen=True)
class Prompt:
    """What is continued.

    Args:
        ids: long [B, N], every row's text from its first place on, padded at the end.
        lengths: of the B texts.
        memories: of what comes before them [B, K, M].
        marks: bool [B, C], chunks of the texts and of what follows them that shall copy from memory.
        index: in the place of memories, what the reader has filed of them (readers/filed.py); of one text.
    """

    ids: Tensor
    lengths: list[int]
    memories: Tensor | None = None
    marks: Tensor | None = None
    index: Any = None


def numbered(marks: Tensor) -> Tensor:
    """Marks of chunks, bool [B, C] -> long [B, C]: 0 of a chunk that is not marked, else its number among those in a
    row, from 1 on. Numbers stay."""
    if marks.dtype != torch.bool:
        return marks
    count_BC = marks.long().cumsum(1)
    return count_BC - count_BC.masked_fill(marks, 0).cummax(1)[0]


class Chunked(Protocol):
    """What is asked of a model over chunks (`models.chunk_model.ChunkModel` tells what each is)."""

    chunk_tokens: int
    decoder: Any
    head: Any

    def inputs(  # noqa: D102
        self, before_BQ: Tensor, place_RQ: Tensor, marks_BQ: Tensor | None = None, reads_RQ: Tensor | None = None
    ) -> Tensor: ...


class Decoding(ABC):
    """A batch of texts, `logits` [B, V] of the token that follows each of them, and, of readers that choose, which
    memories were `opened` for it and how much of it is copied from each: two tensors [B, k].
    """

    logits: Tensor
    opened: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def step(self, tokens_B: Tensor) -> Tensor:
        """Read one more token of every text (long [B]); returns the new `logits`."""

    @property
    def nbytes(self) -> int:
        """Bytes that are kept of the texts beside their tokens."""
        return 0


class Recomputed(Decoding):
    """Keeps nothing: the whole text is read again for every token. The truth that the others are measured by.

    Args:
        model: one of ours that predicts tokens.
        chunk_tokens: its T.
        prompt: what is continued.
    """

    @torch.inference_mode()
    def __init__(self, model: Callable[..., Any], chunk_tokens: int, prompt: Prompt):
        self.model, self.T, self.prompt = model, chunk_tokens, prompt
        self.row_B = torch.arange(len(prompt.lengths), device=prompt.ids.device)
        self.length_B = torch.tensor(prompt.lengths, device=prompt.ids.device)
        self.ids_BN = F.pad(prompt.ids, (0, 1))  # one place more: the logits of token n stand at place n
        self.logits = self._read_all()

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`."""
        self.ids_BN = F.pad(self.ids_BN, (0, 1))
        self.ids_BN[self.row_B, self.length_B] = tokens_B
        self.length_B = self.length_B + 1
        self.logits = self._read_all()
        return self.logits

    def _read_all(self) -> Tensor:
        given: dict[str, Any] = {}
        if self.prompt.memories is not None:
            given["memories"] = self.prompt.memories
        if (marks_BC := self.prompt.marks) is not None:
            chunks = -(-self.ids_BN.shape[1] // self.T)
            given["marks"] = F.pad(marks_BC, (0, max(0, chunks - marks_BC.shape[1])))[:, :chunks]
        return self.model(self.ids_BN, **given).logits[self.row_B, self.length_B]


class Cached(Decoding):
    """What all caches share: entries of a stack, at least one for each token read, and when chunks are full.

    Args:
        stack: whose entries are kept.
        chunk_tokens: T.
        prompt: what is continued.
    """

    cache: Cache
    mask_R1P: Tensor  # bool: which places the rows' last entries see

    def __init__(self, stack: Stack, chunk_tokens: int, prompt: Prompt):
        self.stack, self.T, device = stack, chunk_tokens, prompt.ids.device
        self.batch = len(prompt.lengths)
        self.same = len(set(prompt.lengths)) == 1  # then the rows share all layouts, and nothing is gathered by row
        lengths = prompt.lengths[:1] if self.same else prompt.lengths
        self.longest, self.read = max(lengths), 0  # `read` counts tokens since the prompt, of all rows alike
        self.length_R1 = torch.tensor(lengths, device=device)[:, None]
        self.chunk_R1 = self.length_R1 // self.T  # the number of each row's chunk
        self.marks_BC = None if prompt.marks is None else F.pad(numbered(prompt.marks).to(device), (0, 1))
        rows: dict[int, list[int]] = {}
        for row, length in enumerate(lengths):
            rows.setdefault(-length % self.T, []).append(row)
        # After which steps (modulo T) which rows have filled a chunk: known beforehand, so that no step has to ask.
        self.full = {step: torch.tensor(r, device=device) for step, r in rows.items()}
        self.seen_P: Tensor | None = None  # where the places stand; attention has turned its keys already

    @property
    def nbytes(self) -> int:
        """Bytes of the cache: of its places, exactly (`cache_entries` x `Stack.entry_bytes` for each row)."""
        return self.cache.nbytes

    def filled(self) -> Tensor | None:
        """The rows r of R whose chunks are full after the last token."""
        return self.full.get(self.read % self.T)

    def of_batch(self, rows_r: Tensor) -> Tensor | slice:
        """The rows of the batch that the rows r of R are."""
        return slice(None) if len(rows_r) == len(self.length_R1) else rows_r

    def layout(self, positions_rQ: Tensor, mask_rQP: Tensor, slots_rQ: Tensor, prefix: slice = slice(0)) -> Layout:
        """One for all rows where they are the same, else with a row for each."""
        if self.same:
            return Layout(positions_rQ[0], mask_rQP[0], self.seen_P, slots_rQ[0], prefix)
        return Layout(positions_rQ, mask_rQP, self.seen_P, slots_rQ, prefix)

    def grow(self, places: int) -> None:
        """Add empty places at the end, up to so many in all, that nothing sees yet."""
        if more := places - self.cache.places:
            self.cache.grow(more)
            self.mask_R1P = F.pad(self.mask_R1P, (0, more))

    def marks(self) -> Tensor | None:
        """Above 0 where each row's chunk is marked, its number: long [B, 1]; None: none is."""
        if self.marks_BC is None:
            return None
        last = self.marks_BC.shape[1] - 1  # no chunk's column, and not marked
        return self.marks_BC.gather(1, self.chunk_R1.clamp(max=last).expand(self.batch, 1))


def last_entry(h_BQW: Tensor, last_R1: Tensor) -> Tensor:
    """The hidden states of the entries `last_R1` of each row: [B, W]."""
    return h_BQW.gather(1, last_R1[..., None].expand(len(h_BQW), 1, h_BQW.shape[2]))[:, 0]
