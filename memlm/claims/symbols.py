"""A source whose next token depends on the last symbol alone (E14): what need not be remembered to predict it is known.

A Markov chain over K letters: with probability 1/2 the next letter is the one after the last in the alphabet, else any
with equal probability. All letters are equally frequent, so that each has log2 K bits. Two that stand k apart agree on
their distance with probability 2^-k and are independent otherwise: the last letter tells 29 % of the one before it, and
less than 1 % of any `OLDER` places back. All that predicts the next letter is the last one.
"""

import math
from pathlib import Path

import numpy as np

from memlm.data.corpus import Corpus
from memlm.data.prepare import Prepare, prepare
from memlm.files import write_text

LETTERS = "abcdefghijklmnop"
GOES_ON = 0.5  # how probably the next letter is the one after the last
OLDER = 4  # places back from which on the last letter tells less than 1 %
DOCUMENTS, LENGTH = 512, 2048  # letters of a document
_ALONE = 258  # tokens of a vocabulary in which every letter is one: all bytes and two special ones


def draw(documents: int, length: int, seed: int) -> np.ndarray:
    """Numbers of letters [documents, length], int64."""
    rng = np.random.default_rng(seed)
    any_DL = rng.integers(len(LETTERS), size=(documents, length))
    anew_DL = rng.random((documents, length)) >= GOES_ON
    anew_DL[:, 0] = True
    place_L = np.arange(length)
    since_DL = np.maximum.accumulate(np.where(anew_DL, place_L, 0), axis=1)  # where the letter was last drawn anew
    return (np.take_along_axis(any_DL, since_DL, 1) + place_L - since_DL) % len(LETTERS)


def entropy() -> float:
    """Bits of a letter by itself."""
    return math.log2(len(LETTERS))


def shared(places: int) -> float:
    """Bits that a letter tells of another one so many places away; 0 places: all of its entropy."""
    go_on = GOES_ON**places
    right = go_on + (1 - go_on) / len(LETTERS)
    wrong = (1 - go_on) / len(LETTERS)
    rest = (len(LETTERS) - 1) * wrong * math.log2(wrong) if wrong else 0.0
    return entropy() + right * math.log2(right) + rest


def prepare_symbols(out: Path, documents: int = DOCUMENTS) -> Corpus:
    """A prepared corpus of the source in `out/data`, a token a letter; its text is kept beside it."""
    text = out / "symbols.jsonl"
    if not text.exists():
        rows = ("".join(LETTERS[i] for i in row) for row in draw(documents, LENGTH, 0))
        write_text(text, "".join(f'{{"text": "{row}"}}\n' for row in rows))
    return prepare(Prepare(source=str(text), out=out / "data", vocab_size=_ALONE, seed=0))
