"""Memories -> the text that they hold, by a model's own decoder, and how much of it is right."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from memlm.bank.bank import Bank, Entry
from memlm.bank.check import tell
from memlm.bank.chunks import DocumentText, read_chunks
from memlm.bank.confidence import of_told
from memlm.bank.decoder import decoded, own_decoder
from memlm.bank.kept import correct
from memlm.bank.memories import Memories
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.tokens.detokenise import TextStream
from memlm.tokens.pieces import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass
class Checked:
    """What a recall that checks itself (bank/check.py) found of each memory, one after the other.

    Attributes:
        agrees: whether the recalled tokens encode to it, so that they are right.
        right: the probability that all of them are; empty where the model tells none.
    """

    agrees: list[bool] = field(default_factory=list)
    right: list[float] = field(default_factory=list)


@torch.inference_mode()
def decode_ids(
    memories: Memories, model: TextMemory, batch: int = 256, check: Checked | None = None
) -> Iterator[np.ndarray]:
    """The tokens of consecutive memories as they are decoded, with their corrections: int64 [n, T] at a time.

    With `check` they are encoded again, and others tried where that is not the memory.

    Raises:
        UsageError: the model has no decoder of memories; or, to check, none of single ones.
    """
    wrong, start = None if memories.kept is None else memories.kept.corrections, 0
    if check is None:
        for logits_BTV in decoded(model, memories.vectors, batch):
            ids_BT = logits_BTV.argmax(-1).cpu().numpy()
            yield ids_BT if wrong is None else correct(ids_BT, wrong[start : start + len(ids_BT)])
            start += len(ids_BT)
        return
    for start in range(0, len(memories), batch):
        some = slice(start, start + batch)
        kept = memories.as_kept.part(some)
        told = tell(model, memories.vectors[some], memories.chunks[some, 2], kept, search=True)
        check.agrees += told.agrees.tolist()
        check.right += [] if model.config.confidence is None else of_told(model, told, kept).memories.tolist()
        yield told.ids


def recall(
    bank: Bank,
    model: TextMemory,
    document: str | int,
    batch: int = 256,
    check: Checked | None = None,
    numbers: int | None = None,
) -> Iterator[np.ndarray]:
    """The token ids that a document's memories hold: int64 [n] at a time, some chunks' each, padding left out.

    With `numbers` only the first so many of each memory are read.

    Raises:
        UsageError: the model made no such memories or has no decoder of them, or the bank is damaged.
    """
    together = own_decoder(model).together
    batch = -(-batch // together) * together
    entry = bank.documents[bank.find(document) if isinstance(document, str) else document]
    left = entry.tokens
    for start in range(0, entry.chunks, batch):
        memories = bank.part(document, start, start + batch)
        memories = memories if numbers is None else memories.cut(numbers)
        for ids_nT in decode_ids(memories, model, batch, check):
            ids_N = ids_nT.flatten()[:left]
            left -= len(ids_N)
            yield ids_N


def decode_texts(
    memories: Memories, model: TextMemory, tokenizer: "Tokenizer", batch: int = 256, check: Checked | None = None
) -> list[str]:
    """The texts that memories hold, those of many short texts decoded together.

    Raises:
        UsageError: as `decode_ids`.
    """
    texts = range(len(memories.texts))
    together = [memories] if own_decoder(model).together == 1 else map(memories.of, texts)
    parts = [ids for some in together for ids in decode_ids(some, model, batch, check)]
    ids_KT, text = np.concatenate(parts) if parts else np.empty((0, 1), np.int64), TextStream(tokenizer)
    spans = [memories.span(number) for number in texts]
    held = [int(memories.chunks[span, 2].sum()) for span in spans]
    return [text.feed(ids_KT[s].flatten()[:tokens].tolist(), last=True) for s, tokens in zip(spans, held, strict=True)]


def recall_text(
    bank: Bank,
    model: TextMemory,
    tokenizer: "Tokenizer",
    document: str | int,
    original: Document | None = None,
    score: "Recalled | None" = None,
    check: Checked | None = None,
    numbers: int | None = None,
) -> Iterator[str]:
    """The text that a document's memories hold, as it is recalled.

    Args:
        bank: made by the model's encoder.
        model: one with a decoder of memories.
        tokenizer: the model's own.
        document: its name or number in the bank.
        original: the text that the memories are of, to count in `score` what is right.
        score: counts while the text is taken.
        check: makes the recall check itself, and says of each memory what came of it.
        numbers: read the first so many of each memory alone, a size that the model was trained for.

    Raises:
        UsageError: as `recall`.
    """
    T, text = bank.meta.chunk_tokens, TextStream(tokenizer)
    ids = None if original is None else _OriginalIds(tokenizer, original, T)
    for ids_N in recall(bank, model, document, check=check, numbers=numbers):
        if ids is not None and score is not None:
            score.add(ids_N, ids.take(len(ids_N)), T)
        yield text.feed(ids_N.tolist())
    yield text.feed([], last=True)


@dataclass
class Recalled:
    """How much of a text came back."""

    tokens: int = 0
    right: int = 0
    chunks: int = 0
    exact: int = 0  # chunks that are right in every token

    def add(self, recalled_N: np.ndarray, original_N: np.ndarray, chunk_tokens: int) -> None:
        """Count consecutive chunks, of which the last may hold fewer tokens."""
        same_N = recalled_N == original_N
        starts = np.arange(0, len(same_N), chunk_tokens)
        self.tokens += len(same_N)
        self.right += int(same_N.sum())
        self.chunks += len(starts)
        self.exact += int(np.logical_and.reduceat(same_N, starts).sum()) if len(starts) else 0

    def as_json(self) -> dict[str, float]:
        """Shares of tokens and of whole chunks, and of how many."""
        return {
            "token_accuracy": self.right / max(1, self.tokens),
            "exact_chunks": self.exact / max(1, self.chunks),
            "tokens": self.tokens,
            "chunks": self.chunks,
        }


def find_originals(entries: Iterable[Entry], documents: Iterable[Document], where: str) -> dict[str, Document]:
    """The documents that a bank was made from, by SHA-256, whatever they are called now.

    Args:
        entries: what has to be found.
        documents: where to look; each is read once, and the right ones can be read again.
        where: what the documents are called in a refusal.

    Raises:
        UsageError: one of them is not there.
    """
    wanted = {entry.sha256: entry.name for entry in entries}
    found = {}
    for document in documents:
        text = DocumentText(document.name)
        for piece in document.pieces:
            text.add(piece)
        if text.sha256() in wanted:
            found[text.sha256()] = document
    if absent := [name for sha256, name in wanted.items() if sha256 not in found]:
        raise UsageError(f"{where} does not hold the text that the memories of {absent[0]!r} are of, or has changed.")
    return found


class _OriginalIds:
    """A document's token ids as they were encoded, taken as many at a time as are wanted."""

    def __init__(self, tokenizer: "Tokenizer", document: Document, chunk_tokens: int):
        self._blocks = (ids_nT.flatten() for ids_nT, *_ in read_chunks(tokenizer, [document], chunk_tokens))
        self._rest = np.empty(0, np.int64)

    def take(self, count: int) -> np.ndarray:
        """The next `count` ids; the document has them."""
        while len(self._rest) < count:
            self._rest = np.concatenate([self._rest, next(self._blocks)])
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
