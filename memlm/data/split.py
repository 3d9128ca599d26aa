"""Which text is held out: whole documents, or the tail of the only one."""

import hashlib
from collections.abc import Iterable, Iterator

from memlm.tokens.pieces import Document


def assign(
    documents: Iterable[Document], hold_out: Iterable[str], fraction: float, seed: int
) -> Iterator[tuple[Document, bool]]:
    """Pair every document with whether it is held out, while they stream by.

    Args:
        documents: in their order.
        hold_out: the names to hold out; empty for a draw by a hash of (seed, index, name).
        fraction: of documents to hold out by the draw.
        seed: of the draw.

    The first document of a draw always trains; the last is held out if none was before it (and it is not the only
    one), so that both sides hold something.
    """
    names, ahead, any_held = set(hold_out), iter(documents), False
    index, document = 0, next(ahead, None)
    while document is not None:
        following = next(ahead, None)
        held = document.name in names if names else index > 0 and _draw(seed, index, document.name) < fraction
        held = held or (following is None and index > 0 and not any_held)
        any_held = any_held or held
        yield document, held
        index, document = index + 1, following


def cut_tail(document: Document, at: int, margin: int) -> tuple[Document, Document]:
    """Cut one document in two near character `at`; the first has to be read to its end before the second.

    Args:
        document: the only one of its source.
        at: the first character that may belong to the tail; smaller than the document.
        margin: how many characters further to look for the end of a paragraph, else of a line, else of a word.
    """
    pieces, rest = iter(document.pieces), []

    def head() -> Iterator[str]:
        place = 0
        for piece in pieces:
            if place + len(piece) > at:
                cut = _boundary(piece, at - place, margin)
                rest.append(piece[cut:])
                yield piece[:cut]
                return
            yield piece
            place += len(piece)

    def tail() -> Iterator[str]:
        yield from rest
        yield from pieces

    return Document(document.name, head()), Document(f"{document.name} (tail)", tail())


def _boundary(text: str, at: int, margin: int) -> int:
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, at, at + margin)
        if found >= 0:
            return found + len(mark)
    return at


def _draw(seed: int, index: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}:{index}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
