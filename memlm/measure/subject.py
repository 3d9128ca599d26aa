"""A model that reads chunks while it is measured: the held-out text it is asked about, and rows that say who it was."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from memlm.data.corpus import Corpus
from memlm.data.split import Part
from memlm.errors import UsageError
from memlm.measure.config import AccessConfig, AttributionConfig
from memlm.measure.controls import origin
from memlm.measure.reading import Memory, memories_read, readable
from memlm.models.model import Generative, TextMemory
from memlm.precision import device_of, settle

MOST_CHUNKS = 2**13  # that are read for a task and condition; long examples are fewer, ...
FEWEST = 8  # ... but so many where there is text for them
E = TypeVar("E")
# A name -> what makes examples of held-out text [B, W], T, V and a seed, and how many chunks of text one of C takes.
Makers = Mapping[str, tuple[Callable[[Tensor, int, int, int], E], Callable[[int], int]]]


@dataclass(frozen=True)
class Subject:
    """A model on its device, in evaluation mode, the data it is asked about, and what each of its rows tells."""

    model: Generative
    corpus: Corpus
    name: str
    part: Part
    chunks: int  # C of an example
    seed: int
    device: torch.device
    keys: tuple[str, ...]

    def examples(self, makers: Makers[E], limit: int) -> Iterator[tuple[str, E | str]]:
        """By name, what is made of held-out text of C chunks, `limit` at most, evenly spread; or why nothing is.

        UsageError where there are not two texts of that length.
        """
        T, limit = self.model.chunk_tokens, min(limit, max(MOST_CHUNKS // self.chunks, FEWEST))
        for name, (make, chunks_of_text) in makers.items():
            if self.chunks < 2:
                yield name, "one chunk has no earlier one to remember."
                continue
            tokens = chunks_of_text(self.chunks) * T
            windows_BW = texts_of(self.corpus, self.part, tokens, limit)
            try:
                made = make(windows_BW, T, self.model.config.vocab_size, self.seed)
            except UsageError as why:  # it is not for chunks like these: the others may be
                made = str(why)
            yield name, made

    def reach(self, often_N: np.ndarray, memory: Memory = "own") -> dict[str, Any]:
        """How many tokens are scored, each place so often, of how many chunks, and the memories they could read."""
        chunk_N = np.arange(len(often_N)) // self.model.chunk_tokens
        read_N = memories_read(self.model, chunk_N, memory)
        return {
            "tokens": int(often_N.sum()),
            "chunks": int(chunk_N[-1]) + 1,
            "memories_min": int(read_N[often_N > 0].min()),
            "memories_mean": float(read_N @ often_N / often_N.sum()),
            "memories_max": int(read_N[often_N > 0].max()),
        }

    def row(self, **told: Any) -> dict[str, Any]:
        """All that a row has to say: what is told, and where it comes from."""
        return {
            "model": self.name,
            "kind": self.model.config.model_type.removeprefix("memlm-"),
            "reader": self.model.reader_name,
            "chunk_tokens": self.model.chunk_tokens,
            "example_chunks": self.chunks,
            **{key: told.get(key) for key in self.keys},
            "vocab_size": self.corpus.vocab_size,
            "trained_chunks": self.model.config.trained_chunks,
            **origin(self.corpus, self.part, self.seed, self.device),
        }


def texts_of(corpus: Corpus, part: Part, tokens: int, limit: int) -> Tensor:
    """Held-out texts of so many tokens [B, W], `limit` at most; UsageError where there are not two."""
    windows_BW = torch.from_numpy(corpus.chunks(part, tokens, limit=limit).tokens)
    if len(windows_BW) < 2:
        raise UsageError(f"there is but one held-out text of {tokens} tokens: measure on more data or fewer chunks.")
    return windows_BW


@contextmanager
def examined(
    model: TextMemory, corpus: Corpus, name: str, config: AccessConfig | AttributionConfig, keys: tuple[str, ...]
) -> Iterator[Subject]:
    """A model ready to be measured; afterwards it is in the mode that it was in.

    UsageError where it reads no chunks, or knows another vocabulary.
    """
    if not readable(model):
        raise UsageError(f"{name} reads no chunks: access is measured of memory models and recurrent ones.")
    if model.config.vocab_size != corpus.vocab_size:
        raise UsageError(
            f"{name} knows {model.config.vocab_size} tokens, the data has {corpus.vocab_size}: use the data it was "
            "trained on."
        )
    training, where = model.training, device_of(config.device)
    settle(where)
    torch.nn.Module.to(model.eval(), where)
    chunks = config.chunks or int(model.config.read_shape().chunks)
    try:
        yield Subject(model, corpus, name, config.part, chunks, config.seed, where, keys)
    finally:
        model.train(training)
