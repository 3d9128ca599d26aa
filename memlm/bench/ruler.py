"""RULER's needles and chains of variables (arXiv 2404.06654) in held-out books, told right by all their tokens; longer
contexts begin with text that was trained on.

A prompt is given in the published form, and, since a copy head finds by the words before a place, with the very words
that stand before the number in the text. A number counts where each of its tokens is the likeliest after the true ones
before it, which is what greedy generation writes whole.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from memlm import ui
from memlm.bench.questions import figure_of, long_enough
from memlm.data.corpus import Corpus
from memlm.measure.reading import PlaceScores, score_places
from memlm.models.model import Generative
from memlm.nn.loss import IGNORED
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import Batch
from memlm.tokens.tokenizer import load_tokenizer

RULER, TOKENS = 16, 2**19  # contexts of a length, and tokens of them together, at most; one there is always
NEEDLE, NUMBER = "One of the special magic numbers for {} is:", " {}."
ASKS = "What is the special magic number for {} mentioned in the provided text? "
ASKED = "The special magic number for {} mentioned in the provided text is"
CHAIN = "VAR {} = VAR {}."
VALUE = "VAR {} = {}."
FINDS = "Question: Find all variables that are assigned the value {} in the text above. Answer: "
FOUND = (
    "According to the chain of variable assignment in the text above, 5 variables are assigned the value {}, they are:"
)
OWN = "the needle's own words"
LINE = 4  # memories that a question may fill


class Question(NamedTuple):
    """What asks, what begins the answer, and the answer."""

    asks: str
    begins: str
    answer: str


Made = tuple[list[str], list[Question]]  # what is told in a text, in this order, and what is asked after it


def ruler(
    models: Sequence[Generative], corpus: Corpus, times: Sequence[int], trained: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of numbers and variables told right, all tokens of each."""
    tokenizer = load_tokenizer(corpus.path / "tokenizer.json")
    T = models[0].chunk_tokens

    def coded(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    def line(question: Question) -> tuple[list[int], list[int]]:
        return coded(question.begins), coded(question.answer)

    for K in (time * trained for time in times):
        window = K * T
        stream_N = long_enough(corpus, "test", window)
        if window > len(stream_N):
            continue
        rng = np.random.default_rng(6)
        count = max(1, min(RULER, TOKENS // window))
        starts = np.linspace(0, len(stream_N) - window, count).astype(int)
        for task, make in TASKS.items():
            ui.say(f"ruler {task} among {K:,} memories")
            for form in ("as published", OWN) if task != "vt" else ("as published",):
                texts, asked = [], []
                for start in starts:
                    sentences, questions = make(rng, form)
                    told = [coded(sentence) for sentence in sentences]
                    text_N = stream_N[start : start + window].copy()
                    for part, place in zip(told, _places(rng, told, window), strict=True):
                        text_N[place : place + len(part)] = part
                    texts.append(text_N)
                    asked.append([line(question) for question in questions])
                scores = [_score(model, np.stack(texts), asked) for model in models]
                yield figure_of(f"ruler-{task}", form, "exact_match", "memory", K, scores, trained, LINE * T)


def _needles(count: int) -> Callable[[np.random.Generator, str], Made]:
    """So many needles, all of which are asked for, in the published words or in their own."""

    def make(rng: np.random.Generator, form: str) -> Made:
        keys = [_word(rng) for _ in range(count)]
        values = [NUMBER.format(rng.integers(10**6, 10**7)) for _ in range(count)]
        told = [NEEDLE.format(key) + value for key, value in zip(keys, values, strict=True)]
        begins = NEEDLE if form == OWN else ASKED
        asked = zip(keys, values, strict=True)
        return told, [Question(ASKS.format(key), begins.format(key), value) for key, value in asked]

    return make


def _variables(rng: np.random.Generator, form: str) -> Made:
    """One chain of five variables, four hops; each is asked for after those before it."""
    names, value = [_word(rng)[:5].upper() for _ in range(5)], rng.integers(10**4, 10**5)
    told = [VALUE.format(names[0], value), *(CHAIN.format(name, before) for before, name in pairwise(names))]
    answers = [f" {name}" for name in names]
    begins = [FOUND.format(value) + "".join(answers[:i]) for i in range(len(names))]
    return told, [Question(FINDS.format(value), *both) for both in zip(begins, answers, strict=True)]


TASKS = {"s-n": _needles(1), "mk-mq": _needles(4), "vt": _variables}


def _word(rng: np.random.Generator) -> str:
    """Letters that are no word, 8 of them."""
    return "".join(rng.choice([*"abcdefghijklmnopqrstuvwxyz"], 8))


def _places(rng: np.random.Generator, told: list[list[int]], window: int) -> np.ndarray:
    """Where parts are told, in their order, none over another."""
    longest = max(map(len, told))
    slots = np.sort(rng.choice(window // longest, len(told), replace=False))
    return slots * longest


def _score(model: Generative, text_BN: np.ndarray, asked: list[list[tuple[list[int], list[int]]]]) -> PlaceScores:
    """Scores of what is asked after texts, each question in `LINE` memories of its own."""
    lines, T = len(asked[0]), model.chunk_tokens
    ids_BAn = np.full((len(asked), lines, LINE * T), PAD, np.int64)
    labels_BAn = np.full_like(ids_BAn, IGNORED)
    for row, questions in enumerate(asked):
        for line, (question, answer) in enumerate(questions):
            whole = (question + answer)[-LINE * T :]
            ids_BAn[row, line, : len(whole)] = whole
            labels_BAn[row, line, len(whole) - len(answer) : len(whole)] = answer
    joined = [torch.from_numpy(x.reshape(len(asked), -1)) for x in (ids_BAn, labels_BAn)]
    text = torch.from_numpy(text_BN)
    batch = Batch(
        torch.cat([text, joined[0]], 1),
        torch.cat([torch.full_like(text, IGNORED), joined[1]], 1),
        remembered=text.shape[1] // T,
    )
    return score_places(model, batch, "own", np.arange(len(asked)), model.device)
