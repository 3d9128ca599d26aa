"""Documents -> chunks of token ids, in bounded memory; no chunk holds tokens of two documents."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import tee
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memlm.nn.vocabulary import PAD
from memlm.ranges import Count, refuse_outside
from memlm.tokens.pieces import Document
from memlm.tokens.tokenizer import tokenise_pieces
from memlm.ui import say

if TYPE_CHECKING:
    from tokenizers import Tokenizer


Fill = Literal["pad", "repeat"]  # of what a chunk holds beyond a document's end: id 0, or its own tokens again


@dataclass
class DocumentText:
    """A document's text, counted while it streams by."""

    name: str
    characters: int = 0
    bytes: int = 0  # in UTF-8
    tokens: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def add(self, piece: str) -> None:
        """Count the next piece of the text."""
        told = piece.encode()
        self.characters += len(piece)
        self.bytes += len(told)
        self._digest.update(told)

    def sha256(self) -> str:
        """Of the text in UTF-8, as far as it has been counted."""
        return self._digest.hexdigest()


def read_chunks(
    tokenizer: "Tokenizer", documents: Iterable[Document], chunk_tokens: int, fill: Fill = "pad"
) -> Iterator[tuple[np.ndarray, DocumentText, bool]]:
    """Tokenise documents as `memlm prepare` does, and cut each into chunks from its start on.

    Args:
        tokenizer: a byte-level BPE.
        documents: each is read once, a piece at a time.
        chunk_tokens: T.
        fill: what comes after a document's end in its last chunk. An encoder that was trained on whole chunks alone
            has never seen padding; the chunk's own tokens, repeated, are text to it (LOG.md).

    Returns:
        int64 [n, T], the next n chunks of a document (n may be 0), its counts so far, and whether it has ended.
    """
    labelled, ahead = tee(_pieces(documents))
    text, rest, changes = None, np.empty(0, np.int64), tokenizer.normalizer
    arrays = tokenise_pieces(tokenizer, (piece for _, piece, _ in ahead))
    for (name, piece, last), ids in zip(labelled, arrays, strict=True):
        text = text or DocumentText(name)
        if changes is not None and changes.normalize_str(piece) != piece:
            say(f"{name}: the tokenizer changes this text (its normaliser), so that it will not come back as it is")
            changes = None  # said once
        text.add(piece)
        text.tokens += len(ids)
        rest = np.concatenate([rest, ids.astype(np.int64)])
        if last and len(rest):  # less than a chunk: the last piece is an empty one
            filled = np.resize(rest, chunk_tokens) if fill == "repeat" else np.full(chunk_tokens, PAD)
            filled[: len(rest)] = rest
            rest = filled
        whole = len(rest) // chunk_tokens * chunk_tokens
        yield rest[:whole].reshape(-1, chunk_tokens), text, last
        text, rest = (None if last else text), rest[whole:]


def batches(blocks: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Blocks [n, ...] of any n as blocks of exactly `rows`, the last one of what is left."""
    refuse_outside("batch", Count, rows)
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= rows:
            joined = np.concatenate(held)
            whole = count // rows * rows
            yield from (joined[i : i + rows] for i in range(0, whole, rows))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def _pieces(documents: Iterable[Document]) -> Iterator[tuple[str, str, bool]]:
    """Name, piece, and whether the document ends: every document ends with an empty piece."""
    for document in documents:
        yield from ((document.name, piece, False) for piece in document.pieces)
        yield document.name, "", True
