"""Which text is held out: whole documents, or the tail of the only one."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

from memlm.tokens.pieces import Document


def assign(
    documents: Iterable[Document], hold_out: Iterable[str], fraction: float, seed: int
) -> Iterator[tuple[Document, bool]]:
    """Pair every document with whether it is held out, while they stream by: the named ones, or without names a draw
    of about this fraction, by a hash of (seed, index, name).

    The first document of a draw always trains; the last is held out if none was before it (and it is not the only
    one), so that both sides hold something.
    """
    names, any_held = set(hold_out), False
    for index, (document, following) in enumerate(pairwise(chain(documents, [None]))):
        assert document is not None
        held = document.name in names if names else index > 0 and _draw(seed, index, document.name) < fraction
        held = held or (following is None and index > 0 and not any_held)
        any_held = any_held or held
        yield document, held


def cut_tail(document: Document, at: int, margin: int) -> tuple[Document, Document]:
    """Cut one document in two near character `at`; the first has to be read to its end before the second.

    At most `margin` characters after `at` the tail begins after the end of a paragraph, else of a line, else of a word.
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
    found = ((text.find(mark, at, at + margin), mark) for mark in ("\n\n", "\n", " "))
    return next((place + len(mark) for place, mark in found if place >= 0), at)


def _draw(seed: int, index: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}:{index}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
