"""Texts -> how likely their ends are, under one condition, and how many memories every scored token could read.

A text's full chunks become memories and the chunk that is being written stays tokens, as the model was trained. A model
that can be given memories is therefore asked chunk by chunk: only chunks with scored tokens go through its decoder, in
batches of chunks with equally many memories before them. Other models read the whole text.

- `own`: the text's memories;
- `none`: each chunk is read by itself, `read=False`;
- `random`: in the place of each memory a random vector whose every dimension has the mean and the standard deviation
  that the true memories of all texts together have;
- `base`: the language model of others that the model was made over reads all tokens of the text, without memories and
  without its adapter: what the model would be compared with by whoever has that one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from memlm import ui
from memlm.errors import UsageError
from memlm.evaluate.answers import Answers
from memlm.evaluate.config import CONDITIONS, Condition
from memlm.evaluate.memories import Chunk, ChunkMemories
from memlm.models.model import Generative
from memlm.nn.vocabulary import PAD

_TOKENS, _LOGITS = 2**14, 2**24  # tokens (of memories too), and numbers of logits, at a time


@dataclass(frozen=True)
class Text:
    """Token ids, scored from place `first` on; `truncated` where tokens before them found no room."""

    ids: list[int]
    first: int
    truncated: bool = False


@dataclass(frozen=True)
class Score:
    """Of one text: log-likelihood of the scored tokens (nats), whether each is the likeliest, memories by token."""

    loglikelihood: float
    greedy: bool
    memories: np.ndarray


@dataclass(frozen=True)
class _Piece:
    """One forward pass of a text: the memories of `before`, then `ids`, scored from place `first` on."""

    text: int
    ids: list[int]
    first: int
    before: list[Chunk]


def conditions_of(model: Generative) -> tuple[Condition, ...]:
    """Under which conditions a model can be asked: what reads nothing of earlier chunks has nothing to leave out."""
    if model.has_base:
        return CONDITIONS
    if model.reads_own_memories:
        return ("own", "none", "random")
    return ("own", "none") if model.reads_earlier else ("own",)


def memories_read(model: Generative, place: np.ndarray, condition: Condition) -> np.ndarray:
    """How many memories the tokens at these places of a text can read."""
    chunk = place // model.chunk_tokens
    return np.zeros_like(chunk) if condition in ("none", "base") else model.memories_before(chunk)


def room(model: Generative, condition: Condition) -> int | None:
    """How many tokens a text can have; None: no end."""
    return model.base_positions if condition == "base" else model.most_tokens()


def fitted(model: Generative, text: Text, new: int = 0, condition: Condition = "own") -> Text:
    """The text without what it has too much at its left, where the model has room for it and `new` tokens after it.

    Raises:
        UsageError: the scored tokens alone, or the new ones, are too many.
    """
    most = room(model, condition)
    over = 0 if most is None else max(0, len(text.ids) + new - most)
    if over > text.first:
        many = new or len(text.ids) - text.first
        raise UsageError(
            f"an answer has {many} tokens, and the model has room for {most}: take a task with shorter ones."
        )
    return replace(text, ids=text.ids[over:], first=text.first - over, truncated=True) if over else text


class Scorer:
    """One model under one of its conditions.

    Args:
        model: the model.
        condition: which one.
        memories: of the model; conditions share them.
        seed: of random vectors.
        batch: pieces of texts that go through the model at once; None: as many as fit.
        answers: what the model has answered before.
    """

    def __init__(
        self,
        model: Generative,
        condition: Condition,
        memories: ChunkMemories,
        seed: int = 0,
        batch: int | None = None,
        answers: Answers | None = None,
    ):
        self.model, self.memories, self.seed, self.batch = model, memories, seed, batch
        self.condition: Condition = condition
        self.answers = answers or Answers()
        self.by_chunk = condition == "none" or (condition != "base" and model.reads_own_memories)

    @torch.inference_mode()
    def score(self, texts: list[Text]) -> list[Score]:
        """Score texts that fit the model (`fitted`); each has a scored token at least."""
        pieces = [piece for i, text in enumerate(texts) for piece in self._pieces(i, text)]
        vectors = cache(lambda: self.vectors(chunk for piece in pieces for chunk in piece.before))
        total, greedy = np.zeros(len(texts)), np.ones(len(texts), bool)
        call = self.asked("score", [(text.ids, text.first) for text in texts])
        order = sorted(pieces, key=lambda piece: (len(piece.before), len(piece.ids)))
        alike = (list(same) for _, same in groupby(order, key=lambda piece: len(piece.before)))
        with ui.progress(unit="chunks" if self.by_chunk else "texts") as bar:
            task = bar.add_task("scoring", total=len(pieces))
            for number, batch in enumerate(batch for same in alike for batch in _batches(same, self.model, self.batch)):
                found = self.answers.of(f"{call}/{number}", lambda batch=batch: self._scores(batch, vectors()))
                for piece, (nats, likeliest) in zip(batch, found, strict=True):
                    total[piece.text] += nats
                    greedy[piece.text] &= likeliest
                bar.advance(task, len(batch))
        places = (np.arange(text.first, len(text.ids)) for text in texts)
        read = (memories_read(self.model, place, self.condition) for place in places)
        return [Score(*told) for told in zip(total.tolist(), greedy.tolist(), read, strict=True)]

    def asked(self, *what: Any) -> str:
        """The name of a question to this model under this condition."""
        return self.answers.asked(self.condition, self.seed, self.batch, *what)

    def vectors(self, chunks: Iterable[Chunk]) -> dict[Chunk, Tensor]:
        """What is read in the place of each chunk [M]."""
        return self.memories.random(chunks, self.seed) if self.condition == "random" else self.memories.true(chunks)

    def head(self, ids: list[int]) -> list[Chunk]:
        """The full chunks of a text, where memories are read one by one."""
        T = self.model.chunk_tokens
        full = range(0, len(ids) - len(ids) % T, T) if self.by_chunk and self.condition != "none" else ()
        return [tuple(ids[start : start + T]) for start in full]

    def _pieces(self, number: int, text: Text) -> Iterator[_Piece]:
        T = self.model.chunk_tokens if self.by_chunk else max(1, len(text.ids))
        chunks = self.head(text.ids)
        for chunk in range(text.first // T, -(-len(text.ids) // T)):
            ids, first = text.ids[chunk * T : (chunk + 1) * T], max(0, text.first - chunk * T)
            yield _Piece(number, ids, first, chunks[:chunk])

    def _scores(self, pieces: list[_Piece], vectors: dict[Chunk, Tensor]) -> list[tuple[float, bool]]:
        """Of each piece of a batch the log-likelihood of what is scored, and whether it is the likeliest."""
        ids_BN = pad_sequence([torch.tensor(piece.ids) for piece in pieces], True, PAD).to(self.model.device)
        logits_BNV = self._logits(ids_BN, [[vectors[chunk] for chunk in piece.before] for piece in pieces])
        scores = []
        for row, piece in enumerate(pieces):
            scored = slice(piece.first, len(piece.ids))
            logits_KV, ids_K = logits_BNV[row, scored].float(), ids_BN[row, scored]
            loglikelihood_K = logits_KV.log_softmax(-1).gather(1, ids_K[:, None])
            scores.append((loglikelihood_K.double().sum().item(), bool((logits_KV.argmax(-1) == ids_K).all())))
        return scores

    def _logits(self, ids_BN: Tensor, before: list[list[Tensor]]) -> Tensor:
        """Logits [B, N, V] of a batch, each with as many memories [M] before it."""
        if self.condition == "base":
            return self.model.base_logits(ids_BN)
        given = {}
        if self.condition == "none":
            given["read"] = False
        elif before[0]:
            memory_BKM = torch.stack([torch.stack(memory_KM) for memory_KM in before])
            given["memories"] = memory_BKM.to(ids_BN.device, self.model.dtype)
        return self.model(ids_BN, **given).logits


def _batches(pieces: list[_Piece], model: Generative, batch: int | None) -> Iterator[list[_Piece]]:
    """Pieces, the shortest first, in batches of so many, or else bounded by their longest."""
    while pieces:
        longest = pieces[-1]
        read = len(longest.ids) + len(longest.before) * model.chunk_tokens
        count = batch or max(1, min(_TOKENS // read, _LOGITS // (len(longest.ids) * model.config.vocab_size)))
        yield pieces[-count:]
        pieces = pieces[:-count]
