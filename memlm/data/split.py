"""Which text is held out: documents by name, or a share of the text by a draw, of which a long document is cut.

Documents are drawn in the order of a hash of (seed, index, name). They are held out whole until their text is the
share that was asked for; one that would make it too much gives its tail alone. So it is text that is counted, not
documents: one that is nine times as long as all others together does not become the held-out side.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise

import numpy as np

from memlm.tokens.pieces import Document

_NEAR = 0.1  # of the share: what is near enough to it without a cut
_MARGIN = 10_000  # characters within which a paragraph's end is looked for, at most


def by_name(documents: Iterable[Document], names: Iterable[str]) -> Iterator[tuple[Document, bool]]:
    """Pair every document with whether it is held out, while they stream by; the last is if none was before it."""
    held_out, any_held = set(names), False
    for index, (document, following) in enumerate(pairwise(chain(documents, [None]))):
        assert document is not None
        held = document.name in held_out or (following is None and index > 0 and not any_held)
        any_held = any_held or held
        yield document, held


def choose(draws: Sequence[float], sizes: Sequence[int], fraction: float) -> dict[int, float]:
    """Of each document that is held out, by its number, which share of its end is: 1 is all of it.

    Together they are `fraction` of all sizes, or nearer to it than a tenth of it; something is left to train on.
    """
    size_D, held, chosen = np.asarray(sizes, np.int64), 0, {}
    goal = fraction * int(size_D.sum())
    most = min((1 + _NEAR) * goal, (goal + int(size_D.sum())) / 2)
    for number in np.argsort(np.asarray(draws), kind="stable").tolist():
        size = int(size_D[number])
        if held >= (1 - _NEAR) * goal and chosen:
            break
        if held + size > most:
            chosen[number] = (goal - held) / size
            break
        chosen[number], held = 1.0, held + size
    return chosen


def split(
    documents: Iterable[Document], shares: dict[int, float], characters: Sequence[int]
) -> Iterator[tuple[Document, bool]]:
    """Documents of so many characters, or their two parts, with whether each is held out (`choose`)."""
    for number, document in enumerate(documents):
        share = shares.get(number, 0.0)
        if 0 < share < 1:
            at = cut_at(characters[number], share)
            margin = min((characters[number] - at) // 2, _MARGIN)
            yield from zip(cut_tail(document, at, margin), (False, True), strict=True)
        else:
            yield document, share == 1


def cut_at(characters: int, share: float) -> int:
    """Where a document of at least two characters is cut, so that both parts hold something."""
    return min(max(1, round(characters * (1 - share))), characters - 1)


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


def draw(seed: int, index: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}:{index}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
