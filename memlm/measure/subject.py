"""A model that reads chunks while it is measured: the held-out text it is asked about, and rows that say who it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.measure.config import Device
from memlm.measure.controls import device_of
from memlm.measure.reading import readable
from memlm.models.model import Generative, TextMemory
from memlm.precision import settle
from memlm.provenance import commit, machine


@dataclass(frozen=True)
class Subject:
    """A model on its device, in evaluation mode, and the data it is asked about."""

    model: Generative
    corpus: Corpus
    name: str
    seed: int
    device: torch.device

    def windows(self, chunks: int, limit: int) -> Tensor:
        """Held-out text of so many chunks, `limit` at most, evenly spread [B, W].

        Raises:
            UsageError: there are not two of that length.
        """
        tokens = chunks * self.model.chunk_tokens
        windows = self.corpus.chunks(self.corpus.valid, tokens, limit=limit).tokens
        if len(windows) < 2:
            raise UsageError(
                f"there is but one held-out text of {tokens} tokens: measure on more data or fewer chunks."
            )
        return torch.from_numpy(windows)

    def row(self, **told: Any) -> dict[str, Any]:
        """What is told, with all that a row has to say of where it comes from."""
        return {
            "model": self.name,
            "kind": self.model.config.model_type.removeprefix("memlm-"),
            "reader": self.model.reader_name,
            "chunk_tokens": self.model.chunk_tokens,
            **told,
            "seed": self.seed,
            "data": self.corpus.hash,
            "vocab_size": self.corpus.vocab_size,
            "device": str(self.device),
            "machine": machine(self.device.type),
            "commit": commit(),
        }


@contextmanager
def examined(model: TextMemory, corpus: Corpus, name: str, seed: int, device: Device) -> Iterator[Subject]:
    """A model ready to be measured; afterwards it is in the mode that it was in.

    Raises:
        UsageError: it reads no chunks, or knows another vocabulary.
    """
    if not readable(model):
        raise UsageError(f"{name} reads no chunks: access is measured of memory models and recurrent ones.")
    if model.config.vocab_size != corpus.vocab_size:
        raise UsageError(
            f"{name} knows {model.config.vocab_size} tokens, the data has {corpus.vocab_size}: use the data it was "
            "trained on."
        )
    training, where = model.training, device_of(device)
    settle(where)
    torch.nn.Module.to(model.eval(), where)
    try:
        yield Subject(model, corpus, name, seed, where)
    finally:
        model.train(training)
