"""Memories in the process: one vector for each chunk of some texts, which know whose they are."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from memlm.bank.chunks import Fill
from memlm.bank.digest import tokenizer_sha256
from memlm.bank.kept import Stored, cut, row_bytes
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.ranges import Count, refuse_outside

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Origin:
    """What made memories: those of two encoders mean the same only if theirs is the same.

    Args:
        encoder: `MemoryEncoder.fingerprint`, SHA-256 over shape and weights.
        tokenizer: `tokenizer_sha256`.
        chunk_tokens: T, tokens of a chunk.
        memory_dim: M, numbers of a memory.
    """

    encoder: str
    tokenizer: str
    chunk_tokens: int
    memory_dim: int

    def check(self, model: TextMemory, tokenizer: "Tokenizer | None", what: str, made_by: str = "") -> None:
        """Refuse a model whose memories mean something else.

        Args:
            model: whose encoder must be the one that made these; whatever else it is may differ.
            tokenizer: the one that belongs to the model.
            what: what the memories are called in a refusal.
            made_by: where the model is that made them, if it is known.

        Raises:
            UsageError: another encoder, or another tokenizer.
        """
        T, M = self.chunk_tokens, self.memory_dim
        if (model.chunk_tokens, model.memory_dim) != (T, M):
            raise UsageError(
                f"{what} holds memories of {T} tokens in {M} numbers, and the model's are of "
                f"{model.chunk_tokens} in {model.memory_dim}: take a model with the encoder that made them."
            )
        if (encoder := model.encoder.fingerprint()) != self.encoder:
            raise UsageError(
                f"{what} was made by another encoder ({self.encoder[:12]}, and the model's is {encoder[:12]}), so its "
                "memories mean nothing to this model: take a model "
                f"with the encoder that made them{f' (then {made_by})' if made_by else ''}, or encode "
                "the documents anew."
            )
        if tokenizer is not None and tokenizer_sha256(tokenizer) != self.tokenizer:
            raise UsageError(f"{what} was made with another tokenizer than the model's: encode the documents anew.")


@dataclass(frozen=True, eq=False)
class Kept:
    """What memories are, or would be, on disk.

    Attributes:
        dtype: the type of their numbers, to which the vectors are rounded already.
        fill: what the encoder read after a text's end.
        numbers: int32 [K], how many numbers of each; its vector is 0 beyond them.
        steps: how far apart the values of a number are, for groups of numbers [K, G]; of int8 and int4 alone.
        corrections: what each one's decoder gets wrong (bank/kept.py); None: it is not known.
    """

    dtype: Stored
    fill: Fill
    numbers: np.ndarray
    steps: np.ndarray | None = None
    corrections: tuple[bytes, ...] | None = None

    def part(self, some: slice | np.ndarray) -> "Kept":
        """Those of some memories; of numbered ones without their corrections."""
        wrong = self.corrections[some] if self.corrections is not None and isinstance(some, slice) else None
        steps = None if self.steps is None else self.steps[some]
        return replace(self, numbers=self.numbers[some], steps=steps, corrections=wrong)

    @property
    def bytes(self) -> int:
        """Bytes of all of them, with their corrections."""
        return sum(row_bytes(self.dtype, n) for n in self.numbers.tolist()) + sum(map(len, self.corrections or ()))


@dataclass(frozen=True, eq=False)
class Memories:
    """Memories of some texts, in the order of the texts and of their chunks.

    Attributes:
        vectors: float32 [K, M], one memory a chunk; a text of more than T tokens has several, an empty one none.
        chunks: int32 [K, 3]: of which text each memory is, its number in that text, how many tokens it holds.
        texts: the texts that were encoded; None for each whose text is not known, as of a bank's.
        origin: the encoder and tokenizer that made them.
        kept: of what type and how many their numbers are, and what makes them exact; fp32 and all, if not told.
    """

    vectors: np.ndarray
    chunks: np.ndarray
    texts: tuple[str | None, ...]
    origin: Origin
    kept: Kept | None = None

    def __len__(self) -> int:
        """K, the memories of all texts."""
        return len(self.vectors)

    def __repr__(self) -> str:
        T, M = self.origin.chunk_tokens, self.origin.memory_dim
        return f"<{len(self)} memories of {len(self.texts)} texts: up to {T} tokens in {M} numbers each>"

    @property
    def encoder(self) -> str:
        """Identity of the encoder that made them, SHA-256 over its shape and weights."""
        return self.origin.encoder

    @property
    def bytes(self) -> int:
        """Bytes that they take on disk, with their corrections and without what is said of them."""
        return self.vectors.nbytes if self.kept is None else self.kept.bytes

    @property
    def as_kept(self) -> Kept:
        """How they are kept, or what they are if that is not told."""
        return self.kept or Kept("fp32", "repeat", np.full(len(self), self.origin.memory_dim, np.int32))

    def cut(self, numbers: int) -> "Memories":
        """The same by their first numbers alone, of a model that was trained for it; without corrections.

        Raises:
            UsageError: no number at all.
        """
        refuse_outside("numbers", Count, numbers)
        kept = replace(self.as_kept, numbers=np.minimum(self.as_kept.numbers, numbers), corrections=None)
        return replace(self, vectors=cut(self.vectors, kept.numbers), kept=kept)

    def span(self, number: int) -> slice:
        """Which memories are of a text."""
        first, end = np.searchsorted(self.chunks[:, 0], [number, number + 1])
        return slice(int(first), int(end))

    def rows(self, span: slice) -> "Memories":
        """Consecutive memories alone; texts, and what is said of them, stay."""
        kept = self.kept and self.kept.part(span)
        return replace(self, vectors=self.vectors[span], chunks=self.chunks[span], kept=kept)

    def of(self, number: int) -> "Memories":
        """The memories of one text alone, by its number."""
        number = range(len(self.texts))[number]
        own = self.rows(self.span(number))
        return replace(own, chunks=own.chunks - np.array([number, 0, 0], np.int32), texts=(self.texts[number],))
