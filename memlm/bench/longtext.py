"""Long texts with something to be found in them, for language models of others; and how they go through memories.

needle  sentences `The code of NAME is 48213.` at random places of a book, asked in their own words
asked   the same codes, asked in other words
quote   a passage's first 24 tokens are told after the text, its next 16 are asked
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlm.bank.encode import encode_texts
from memlm.bank.kept import Keeping
from memlm.bank.recall import decode_texts
from memlm.data.corpus import Corpus
from memlm.data.split import Part
from memlm.models.model import TextMemory
from memlm.tokens.tokenizer import tokens_of

NEEDLES = 6  # of a text, all asked
GIVEN, TOLD = 24, 16  # tokens of a quotation
_SOUNDS = (
    *("bar", "den", "fel", "gor", "hal", "kin", "lom", "mar"),
    *("nes", "pol", "quin", "ros", "sten", "tor", "vale", "wick"),
)


@dataclass(frozen=True)
class Asked:
    """A question after a text: what is read, and what has to be said."""

    task: str
    question_N: Tensor
    answer_N: Tensor


def ids_of(tokenizer: Any, text: str) -> Tensor:
    """A text's tokens."""
    return torch.from_numpy(tokens_of(tokenizer, [text]))


def books(corpus: Corpus, part: Part) -> dict[str, str]:
    """The documents of a part, by name."""
    stream = corpus.part(part)
    spans = pairwise(stream.documents.tolist())
    return {
        name: corpus.tokenizer.decode(stream.tokens[start : end - 1].tolist(), skip_special_tokens=False)
        for name, (start, end) in zip(stream.names, spans, strict=True)
    }


def with_needles(book_N: Tensor, tokens: int, tokenizer: Any, seed: int) -> tuple[str, list[Asked]]:
    """A stretch of a book of about so many tokens with needles in it, and the questions after it."""
    rng = np.random.default_rng(seed)
    start = int(rng.integers(0, max(1, len(book_N) - tokens)))
    text = tokenizer.decode(book_N[start : start + tokens - 14 * NEEDLES].tolist(), skip_special_tokens=False)
    passage = ids_of(tokenizer, text)
    names = ["".join(rng.choice(_SOUNDS, 2)).capitalize() for _ in range(4 * NEEDLES)]
    names = list(dict.fromkeys(names))[:NEEDLES]
    codes = [str(rng.integers(10_000, 100_000)) for _ in names]
    told = [f" The code of {name} is {code}." for name, code in zip(names, codes, strict=True)]
    text = told_in(text, told, rng)
    asked = []
    for name, code in zip(names, codes, strict=True):
        answer_N = ids_of(tokenizer, f" {code}")
        asked.append(Asked("needle", ids_of(tokenizer, f"\n\nThe code of {name} is"), answer_N))
        question = f"\n\nQuestion: Which number belongs to {name}?\nAnswer: The number is"
        asked.append(Asked("asked", ids_of(tokenizer, question), answer_N))
    line = ids_of(tokenizer, "\n\n")
    for _ in range(NEEDLES):
        at = int(rng.integers(0, max(1, len(passage) - GIVEN - TOLD)))
        given_N, told_N = passage[at : at + GIVEN], passage[at + GIVEN : at + GIVEN + TOLD]
        asked.append(Asked("quote", torch.cat([line, given_N]), told_N))
    return text, asked


def told_in(text: str, told: Sequence[str], rng: np.random.Generator) -> str:
    """A text with sentences told in it, in their order, each after one of its own."""
    ends = [i + 1 for i, (a, b) in enumerate(pairwise(text)) if a == "." and b == " "] or [len(text)]
    places = sorted(int(ends[int(i)]) for i in (rng.random(len(told)) * len(ends)))
    parts = [text[a:b] for a, b in pairwise([0, *places, len(text)])]
    return "".join(part + sentence for part, sentence in zip(parts, [*told, ""], strict=True))


def questions(texts: dict[str, Tensor], tokens: int, number: int, tokenizer: Any) -> tuple[str, list[Asked]] | None:
    """`with_needles` of those books in turn that are longer, seeded by length and number; None: no book is."""
    long = [ids_N for ids_N in texts.values() if len(ids_N) > tokens]
    return with_needles(long[number % len(long)], tokens, tokenizer, 1000 * tokens + number) if long else None


class Recalled:
    """Texts through memories and back: encoded in int8, recalled by the autoencoder's decoder.

    Attributes:
        bytes: of the memories of the last text.
    """

    def __init__(self, autoencoder: TextMemory, tokenizer: Any):
        self.model, self.tokenizer, self.bytes = autoencoder, tokenizer, 0

    def __call__(self, text: str) -> str:
        """The text that its memories hold."""
        memories = encode_texts(self.model, self.tokenizer, [text], keeping=Keeping(dtype="int8"))
        self.bytes = memories.bytes
        return decode_texts(memories, self.model, self.tokenizer)[0]
