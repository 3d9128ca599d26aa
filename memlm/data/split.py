"""Which text trains, which tunes and which tests: whole documents by name, or shares of the text by a draw.

Documents are drawn in the order of a hash of (seed, index, name), first those that test, then those that tune. They are
taken whole until their text is the share that was asked for; one that would make it too much gives its end alone. So it
is text that is counted, not documents: one that is nine times as long as all others together does not become a part by
itself. Of the only document the end tests, what is before it tunes, and the rest trains (docs/protocol.md, Parts).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import numpy as np

from memlm.tokens.pieces import Document

Part = Literal["train", "tune", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
HELD: tuple[Part, ...] = ("tune", "test")  # what is not trained on

_NEAR = 0.1  # of the share: what is near enough to it without a cut
_MARGIN = 10_000  # characters within which a paragraph's end is looked for, at most


@dataclass(frozen=True)
class Ends:
    """Where the part that trains and the part that tunes end in each document, as shares of its length [D]."""

    train_D: np.ndarray
    tune_D: np.ndarray

    def cut(self, number: int, characters: int) -> tuple[int, int]:
        """The same of one document, in characters; a part that it has a share in has at least one."""
        bounds = self.train_D[number], self.tune_D[number]
        train, tune = (round(characters * end) for end in bounds)
        if 0 < bounds[0] < 1:
            train = min(max(1, train), characters - 1)
        if bounds[0] < bounds[1] < 1:
            tune = min(max(train + 1, tune), characters - 1)
        return train, max(train, tune)


def divide(named: Sequence[int], draws: Sequence[float], sizes: Sequence[int], fractions: dict[Part, float]) -> Ends:
    """Where the parts of D documents end.

    `named` [D] is the number in PARTS of the part that each was named for, 0 for none. A part that none was named for
    is drawn: it is `fractions` of all sizes, or nearer to it than a tenth of it. Something is left to train on.
    """
    named_D, draw_D, size_D = np.asarray(named), np.asarray(draws), np.asarray(sizes, np.int64)
    train_D = np.where(named_D > 0, 0.0, 1.0)
    tune_D = np.where(named_D == PARTS.index("test"), 0.0, 1.0)
    for part in reversed(HELD):
        if (named_D == PARTS.index(part)).any():
            continue
        # A document that gives its end to one part gives none to the other unless it must.
        order = np.lexsort((draw_D, train_D < 1))
        for number, share in _choose(order, size_D * train_D, fractions[part] * float(size_D.sum())).items():
            if part == "test":
                tune_D[number] = 1 - share
            train_D[number] *= 1 - share
    return Ends(train_D, tune_D)


def _choose(order: np.ndarray, size_D: np.ndarray, goal: float) -> dict[int, float]:
    """Of each document that is chosen, by its number, which share of its end is: 1 is all of it."""
    held, chosen, free = 0.0, {}, float(size_D.sum())
    goal = min(goal, (1 - _NEAR) * free)  # what documents that were named take may leave little
    most = min((1 + _NEAR) * goal, (goal + free) / 2)
    for number in order.tolist():
        size = float(size_D[number])
        if held >= (1 - _NEAR) * goal and chosen:
            break
        if not size:
            continue
        if held + size > most:
            chosen[number] = (goal - held) / size
            break
        chosen[number], held = 1.0, held + size
    return chosen


def split(documents: Iterable[Document], ends: Ends, characters: Sequence[int]) -> Iterator[tuple[Document, Part]]:
    """Documents of so many characters, or what each part has of them, with the part.

    Each has to be read to its end before the next.
    """
    for number, document in enumerate(documents):
        size = characters[number]
        train, tune = ends.cut(number, size)
        if tune in (0, size) and train in (0, size):
            yield document, "train" if train else "tune" if tune else "test"
            continue
        rest, begin = document, 0
        for part, end in zip(PARTS, (train, tune, size), strict=True):
            if begin == end:
                continue
            if end == size:
                yield Document(f"{document.name} ({part})", rest.pieces), part
                break
            later = next(bound for bound in (tune, size) if bound > end)
            head, rest = cut_tail(rest, end - begin, min((later - end) // 2, (size - end) // 4, _MARGIN))
            yield Document(f"{document.name} ({part})" if part != "train" else document.name, head.pieces), part
            begin = end


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
                rest.extend(filter(None, [piece[cut:]]))
                yield piece[:cut]
                return
            yield piece
            place += len(piece)

    return Document(document.name, head()), Document(document.name, chain(rest, pieces))


def _boundary(text: str, at: int, margin: int) -> int:
    found = ((text.find(mark, at, at + margin), mark) for mark in ("\n\n", "\n", " "))
    return next((place + len(mark) for place, mark in found if place >= 0), at)


def draw(seed: int, index: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed}:{index}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
