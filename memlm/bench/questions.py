"""What is told once in a long context and asked after it: a memory model's answers beside a table of pairs and BM25.

A context that is longer than the held-out text begins with text that was trained on; facts are told all over it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.measure.intervals import ratio
from memlm.measure.reading import PlaceScores, score_places
from memlm.models.memory_model import MemoryModel
from memlm.models.model import Generative
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch, Objective
from memlm.objectives.facts import Facts, Quote
from memlm.readers.finding import LAST
from memlm.readers.pointer import Pointer
from memlm.train.config import Curriculum

CONTEXTS = (1, 4, 16, 64, 256, 1024, 4096, 16384)  # memories
ASKING = 16  # chunks of questions after a context
EXAMPLES, TOKENS = 24, 2**18  # contexts of a length, and tokens of them together, at most; one there is always

COLUMNS = ("task", "text", "metric", "memory", "chunks", "value", "value_ci", "trained_chunks", "examples", "tokens")

Questions = dict[str, Callable[[int], Objective]]  # V -> what is asked
QUESTIONS: Questions = {
    "facts": lambda V: Facts(V, (2, False), 0, "all", CONTEXTS[-1]),
    "facts-3": lambda V: Facts(V, (3, False), 0, "all", CONTEXTS[-1]),
    "facts-changed": lambda V: Facts(V, (3, True), 0, "all", CONTEXTS[-1]),
    "facts-linked": lambda V: Facts(V, (3, False), 0, "all", CONTEXTS[-1], links=(2,)),
    "facts-unseen": lambda V: Facts(V, (3, False), 0, "unseen", CONTEXTS[-1]),
    "quote": lambda V: Quote(V, seed=0),
}
TOLD = (
    "facts: one in every memory, keys of 2 tokens (facts-3: of 3; facts-changed: one of 3 asked otherwise; "
    "facts-linked: of 3, and before each value the same 2 tokens in all facts of a text), values of 2, all drawn from "
    "the whole vocabulary, so that a guess is right once in as many (facts-unseen: keys of 3 and values of symbols "
    "that none was trained with, memlm/objectives/symbols.py). quote: 8 tokens of a passage are given, the next 16 "
    "asked. found: the memory that holds the answer is among those opened; ids: the tokens of memories are given, in "
    "the place of what they recall, to the same model; of BM25, among as many of the chunks as the model opens (bm25s, "
    "by the words of the key). table: the token after the latest place of the last two tokens. A context that is "
    "longer than the held-out text begins with text that was trained on. Intervals over contexts, of a single one over "
    "chunks of questions, of all seeds, 95 %."
)


@dataclass(frozen=True)
class Side:
    """A trained model of each seed, and how many chunks there were before what it learnt to predict."""

    models: list[Generative]
    trained_chunks: int


def asked(
    name: str, side: Side, corpus: Corpus, contexts: Sequence[int], part: str = "test"
) -> Iterator[tuple[Any, ...]]:
    """Rows of what is told once in a context and asked after it.

    Args:
        name: of the model, in rows.
        side: its seeds.
        corpus: that it was trained on.
        contexts: memories.
        part: of the corpus, that contexts are of.
    """
    first, V = cast(MemoryModel, side.models[0]), corpus.vocab_size
    T, opened = first.chunk_tokens, cast(Pointer, first.reader).top + LAST
    for K in (K for K in contexts if K >= 4):
        window = (K + ASKING) * T
        stream_N = long_enough(corpus, part, window)
        if window > len(stream_N):
            continue
        count = min(EXAMPLES, len(stream_N) // window, max(1, TOKENS // window))
        starts = np.linspace(0, len(stream_N) - window, count).astype(int)
        text_BW = torch.from_numpy(stream_N[starts[:, None] + np.arange(window)])
        each = T if count == 1 else window  # what is an example

        def row(task: str, metric: str, memory: str, sides: list[PlaceScores], trained: int) -> tuple[Any, ...]:
            return figure_of(task, part, metric, memory, K, sides, trained, each)  # noqa: B023  called in this turn

        for task, make in QUESTIONS.items():
            batch = make(V)(text_BW, T, K)
            ui.say(f"{task} among {K:,} memories of {T} tokens")
            shuffled_B = np.roll(np.arange(count), 1)
            scores = [score_places(model, batch, "own", shuffled_B, model.device) for model in side.models]
            yield row(task, "token_accuracy", name, scores, side.trained_chunks)
            yield row(task, "found", name, scores, side.trained_chunks)
            scores = [score_places(model, batch, "ids", shuffled_B, model.device) for model in side.models]
            yield row(task, "token_accuracy", "ids", scores, side.trained_chunks)
            yield row(task, "token_accuracy", "table", [_table(batch, T)], 0)
            if task != "quote" and find_spec("bm25s") is not None:
                yield row(task, "found", "bm25", [_bm25(batch, T, opened)], 0)


def figure_of(
    task: str,
    text: str,
    metric: str,
    memory: str,
    chunks: int,
    scores: Sequence[PlaceScores],
    trained: int,
    each: int | None = None,
) -> tuple[Any, ...]:
    """A figure of all seeds' examples together; an example is a row, or so many places of one."""
    parts_n2 = np.concatenate([_apart(s, each).sums(metric, np.ones(1), 1) for s in scores])
    figure, count = ratio(parts_n2, 0, share=metric != "cross_entropy"), int(parts_n2[:, 1].sum())
    return task, text, metric, memory, chunks, figure["value"], figure["value_ci"], trained, len(parts_n2), count


def _apart(scores: PlaceScores, each: int | None) -> PlaceScores:
    """So many places of an example each, those where nothing is scored left out."""
    if each is None:
        return scores
    asked_n = scores.scored_BN.reshape(-1, each).any(1)
    arrays = (scores.nats_BN, scores.right_BN, scores.scored_BN, scores.found_BN)
    return PlaceScores(*(None if x is None else x.reshape(-1, each)[asked_n] for x in arrays))  # pyright: ignore[reportArgumentType]


def long_enough(corpus: Corpus, part: str, tokens: int) -> np.ndarray:
    """A part's text, behind as much of what was trained on as it is too short."""
    own_N, more_N = np.asarray(getattr(corpus, part).tokens), np.asarray(corpus.train.tokens)
    missing = max(0, tokens - len(own_N))
    return np.concatenate([more_N[:missing], own_N]).astype(np.int64)


def _table(batch: Batch, chunk_tokens: int) -> PlaceScores:
    """What a table of word pairs says: the token after the latest place of the last two tokens."""
    right_BN = np.zeros(batch.labels.shape, bool)
    for row, (ids, labels) in enumerate(zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True)):
        after: dict[tuple[int, int], int] = {}
        for n in range(2, len(ids)):
            pair = ids[n - 2], ids[n - 1]
            right_BN[row, n] = labels[n] != IGNORED and after.get(pair) == labels[n]
            if n < batch.remembered * chunk_tokens:
                after[pair] = ids[n]
    return PlaceScores(np.zeros(right_BN.shape), right_BN, (batch.labels != IGNORED).numpy())


def _bm25(batch: Batch, chunk_tokens: int, opened: int) -> PlaceScores:
    """Whether so many chunks of BM25 hold the one that tells, by the words of a question up to each value token."""
    bm25s: Any = import_module("bm25s")
    T, K = chunk_tokens, batch.remembered
    scored_BN, found_BN = (batch.labels != IGNORED).numpy(), np.zeros(batch.labels.shape, bool)
    for row, ids in enumerate(batch.input_ids.tolist()):
        words = [str(token) for token in ids]
        index = bm25s.BM25()
        index.index([words[n : n + T] for n in range(0, K * T, T)], show_progress=False)
        places = np.flatnonzero(scored_BN[row]).tolist()
        holders = batch.holders[row].tolist() if batch.holders is not None else []
        begins = {n: n - _before(holders, n) for n in places}
        queries = [words[begins[n] : n] for n in places]
        best, _ = index.retrieve(queries, k=min(opened, K), show_progress=False)
        found_BN[row, places] = [holders[n] in near for n, near in zip(places, best.tolist(), strict=True)]
    return PlaceScores(np.zeros(scored_BN.shape), np.zeros(scored_BN.shape, bool), scored_BN, found_BN)


def _before(holders: list[int], place: int) -> int:
    """How many words of a question stand before a place of it: all are marked with the chunk that tells."""
    first = place
    while first and holders[first - 1] == holders[place]:
        first -= 1
    return place - first


def setting_of(
    preset: str, model: Generative, seeds: Sequence[int], corpus: Corpus, data: str, plan: Curriculum
) -> str:
    """What was trained on what, in a sentence."""
    steps = ", ".join(f"{name}: {config.steps} steps" for name, config in plan.stages.items())
    return (
        f"preset {preset}, seeds {', '.join(map(str, seeds))}; chunks of {model.chunk_tokens} tokens in "
        f"{model.memory_dim} numbers, vocabulary {corpus.vocab_size}; data {data} ({corpus.hash[:12]}), part test; "
        f"stages {steps}"
    )
