"""What can be measured: a frozen encoder with a name, an origin and an identity, and its untrained twin.

Ours and those of others have one face, `AnyEncoder`: chunks of the corpus' tokens go in, one vector each comes out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import read_json
from memlm.loading import build_model, load_model
from memlm.models.model import TextMemory


class AnyEncoder(Protocol):
    """What a measurement asks of an encoder."""

    @property
    def name(self) -> str:
        """What it is called in the report."""
        ...

    @property
    def kind(self) -> str:
        """slots, mixer, transformer, llama, bert, ..."""
        ...

    @property
    def training(self) -> str:
        """What it was trained in: autoencoder, causal, memory-model, masked, sentence, ..., untrained."""
        ...

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        ...

    @property
    def architecture(self) -> str:
        """What the untrained twin depends on."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it stands."""
        ...

    @property
    def parameters(self) -> int:
        """How many weights form a memory."""
        ...

    @property
    def number(self) -> int:
        """Its own place among what `encode_all` gives."""
        ...

    def encode_all(self, ids_BT: Tensor) -> list[Tensor]:
        """Token ids of the corpus [B, T] -> memories [B, M], its own and what the same pass gives beside them."""
        ...

    def kinds(self) -> list[tuple[dict[str, Any], int]]:
        """Of each of these memories what it depends on beside the tokens, and M."""
        ...

    def fits(self, corpus: Corpus, tokens: int) -> None:
        """Refuse another vocabulary or chunk length with a UsageError."""
        ...

    def own_decoder(self) -> Callable[[Tensor], Tensor] | None:
        """Memories [B, M] -> logits [B, T, V], if it was trained with one."""
        ...

    def told(self, tokens_NT: np.ndarray) -> dict[str, Any]:
        """What its rows tell beside the figures."""
        ...

    def to(self, device: torch.device) -> None:
        """Move it."""
        ...

    def untrained(self, seed: int) -> "AnyEncoder":
        """The same architecture as it was before any training."""
        ...


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder of ours under measurement."""

    name: str
    kind: str  # slots, mixer, transformer, ...
    training: str  # autoencoder, causal, memory-model, ..., untrained
    model: TextMemory
    number = 0

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.model.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.model.memory_dim

    @property
    def device(self) -> torch.device:
        """Where it stands."""
        return self.model.device

    @property
    def parameters(self) -> int:
        """How many weights form a memory."""
        return sum(p.numel() for p in self.model.encoder.parameters()) if self.model.encoder else 0

    @property
    def forms_memories(self) -> bool:
        """Whether there is an encoder at all: baselines that read no memories have none."""
        return self.model.forms_memories

    @property
    def architecture(self) -> str:
        """What the untrained twin depends on: the stack that encodes and the readout, whatever it is trained for."""
        return str(self.model.config.read_shape().encoder_shape)

    def fingerprint(self) -> str:
        """Its identity."""
        return self.model.fingerprint()

    def encode_all(self, ids_BT: Tensor) -> list[Tensor]:
        """Token ids [B, T] -> memories [B, M], and nothing else."""
        return [self.model.encode(ids_BT)]

    def kinds(self) -> list[tuple[dict[str, Any], int]]:
        """What its memories depend on, and M: models that share a frozen encoder share what is kept of it."""
        alone = self.model.encoder if self.model.of_one_chunk else None
        return [({"encoder": (alone or self.model).fingerprint()}, self.memory_dim)]

    def fits(self, corpus: Corpus, tokens: int) -> None:
        """Refuse another vocabulary or chunk length.

        Raises:
            UsageError: it has one.
        """
        theirs = self.model.config.vocab_size
        if self.chunk_tokens != tokens:
            raise UsageError(f"{self.name} remembers {self.chunk_tokens} tokens, not {tokens}: measure it by itself.")
        if theirs != corpus.vocab_size:
            raise UsageError(
                f"{self.name} knows {theirs} tokens, the data has {corpus.vocab_size}: use the data it was trained on."
            )

    def own_decoder(self) -> Callable[[Tensor], Tensor] | None:
        """An autoencoder's decoder."""
        return self.model.recall if self.training == "autoencoder" else None

    def told(self, tokens_NT: np.ndarray) -> dict[str, Any]:
        """Nothing beside the figures."""
        return {}

    def to(self, device: torch.device) -> None:
        """Move it."""
        torch.nn.Module.to(self.model, device)

    def untrained(self, seed: int) -> "Encoder":
        """The same architecture as it was before any training, from another seed than a run's usual one."""
        shape, vocab_size = self.model.config.read_shape(), self.model.config.vocab_size
        twin = build_model(shape, vocab_size, seed + 1_000_003).eval()
        return Encoder(f"{self.kind}-untrained", self.kind, "untrained", twin)


def is_ours(path: Path) -> bool:
    """Whether a run or folder, finished or not, is of ours; a name that is no folder is for models of others."""
    if not path.is_dir():
        return False
    if any((path / name).exists() for name in ("curriculum.json", "checkpoints", "model")):
        return True
    config = path / "config.json"
    return config.is_file() and str(read_json(config).get("model_type")).startswith("memlm-")


def open_encoder(path: str) -> Encoder:
    """A run of ours or a saved folder as an encoder.

    Raises:
        UsageError: there is no model of ours.
    """
    model = load_model(path).requires_grad_(False)
    shape = model.config.read_shape()
    kind = shape.encoder_shape.label if model.forms_memories else shape.decoder.kind
    return Encoder(Path(path).name, kind, shape.trained_as, model)
