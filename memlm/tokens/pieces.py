"""Text of any size as pieces that tokenise as the whole would."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PIECE = 1 << 20  # characters


@dataclass(frozen=True)
class Document:
    """One document: its name and its text in pieces, so that it may be larger than memory."""

    name: str  # what it is called in reports, and by who says which part it is of
    pieces: Iterable[str]  # non-empty strings whose concatenation is the text


def cut_pieces(blocks: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """Cut a stream of text, cut anywhere, anew, into pieces of at most `size` characters.

    A cut falls between a word and the white space after it wherever the last `size` characters hold such a place: the
    pre-tokenisers of byte-level BPE (GPT-2 and later) never join these two, so tokenising the pieces is tokenising
    the whole. Spaces come before newlines because some pre-tokenisers join punctuation with the newline after it.
    """
    rest = ""
    for block in blocks:
        text, start = rest + block, 0
        while len(text) - start > size:
            at = _cut(text, start, start + size)
            yield text[start:at]
            start = at
        rest = text[start:]
    if rest:
        yield rest


def _cut(text: str, start: int, end: int) -> int:
    """Where to cut text[start:end], in (start, end]; the character at `end` exists."""
    for space in (" ", "\n"):
        found = text.rfind(space, start + 1, end + 1)
        at = start + len(text[start : found + 1].rstrip()) if found >= 0 else start
        if at > start:
            return at
    return end
