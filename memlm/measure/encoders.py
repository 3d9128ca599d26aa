"""What can be measured, as a record: a frozen encoder from chunks of tokens to vectors, and what is known of it.

A measurement asks no encoder what it is; whoever opens one says it: `open_encoder` (ours), `theirs.open_theirs` (models
of others), `brought.from_callable` and `brought.from_vectors` (whatever a user brings).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.loading import build_model, load_model
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.pretrained.hidden import HiddenReader


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A frozen encoder under measurement. What it does not say, it does not have.

    Args:
        name: what it is called in the report.
        kind: slots, mixer, transformer, llama, bert, callable, vectors, ...
        training: what it was trained in: autoencoder, causal, masked, sentence, ..., untrained, or unknown.
        identity: changes if anything that is measured of it would.
        encode: token ids of the corpus [B, T] -> vectors [B, M], its own and what the same pass gives beside them.
        kinds: of each of these vectors what they depend on beside the tokens, and M; none: it forms no memories.
        number: its own place among them.
        kept: whether vectors are kept on disk, to be found again by `kinds` and tokens.
        any_tokens: whether it encodes any chunk, random tokens too, and not only those that are there.
        device: where it stands.
        chunk_tokens: T, if it encodes chunks of one length alone.
        vocab_size: of the ids that it reads, if it reads the corpus' ids themselves.
        parameters: how many weights form a memory, if that is known.
        decode: the decoder that it was trained with, memories [B, M] -> logits [B, T, V].
        twin: seed -> the same architecture as it was before any training.
        architecture: what the twin depends on; encoders of one architecture share it.
        told: chunks -> what its rows tell beside the figures.
        model: one of ours, whose access to its memories can be measured too.
        reader: of a model of others.
    """

    name: str
    kind: str
    training: str
    identity: str
    encode: Callable[[Tensor], list[Tensor]]
    kinds: list[tuple[dict[str, Any], int]]
    number: int = 0
    kept: bool = True
    any_tokens: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    chunk_tokens: int | None = None
    vocab_size: int | None = None
    parameters: int | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    twin: "Callable[[int], Encoder] | None" = None
    architecture: str = ""
    told: Callable[[np.ndarray], dict[str, Any]] = lambda _: {}
    model: TextMemory | None = None
    reader: HiddenReader | None = None

    @property
    def forms_memories(self) -> bool:
        """Whether there is an encoder at all: baselines that read no memories have none."""
        return bool(self.kinds)

    @property
    def origin(self) -> dict[str, Any]:
        """What its vectors depend on beside the tokens."""
        return self.kinds[self.number][0]

    @property
    def memory_dim(self) -> int:
        """M."""
        return self.kinds[self.number][1]

    def check(self, vocab_size: int, tokens: int) -> None:
        """Refuse a vocabulary or a chunk length that it does not read.

        Raises:
            UsageError: it reads another.
        """
        if self.chunk_tokens not in (None, tokens):
            raise UsageError(f"{self.name} remembers {self.chunk_tokens} tokens, not {tokens}: measure it by itself.")
        if self.vocab_size not in (None, vocab_size):
            raise UsageError(
                f"{self.name} knows {self.vocab_size} tokens, the data has {vocab_size}: use the data it was "
                "trained on."
            )


def open_encoder(path: str, device: torch.device) -> Encoder:
    """A run of ours or a saved folder as an encoder.

    Raises:
        UsageError: there is no model of ours.
    """
    return encoder_of(load_model(path).requires_grad_(False), Path(path).name, device)


def encoder_of(model: TextMemory, name: str, device: torch.device, *, untrained: bool = False) -> Encoder:
    """A frozen model of ours as an encoder; its twin has another seed than a run's usual one."""
    torch.nn.Module.to(model, device)
    shape, vocab_size = model.config.read_shape(), model.config.vocab_size
    training = "untrained" if untrained else shape.trained_as
    if getattr(model, "reads_text", False):
        raise UsageError(
            f"{name} reads the text of banks and forms no memories: measure {shape.base}, or the bank's own."
        )
    encoding = Encoding(model)
    kind = shape.encoder_shape.label if model.forms_memories else shape.decoder.kind

    def twin(seed: int) -> Encoder:
        fresh = build_model(shape, vocab_size, seed + 1_000_003).eval()
        return encoder_of(fresh, f"{kind}-untrained", device, untrained=True)

    return Encoder(
        name=name,
        kind=kind,
        training=training,
        identity=model.fingerprint(),
        encode=lambda ids_BT: [encoding(ids_BT)],
        kinds=_kinds(model),
        device=device,
        chunk_tokens=model.chunk_tokens,
        vocab_size=vocab_size,
        parameters=sum(p.numel() for p in model.encoder.parameters()) if model.forms_memories else 0,
        decode=model.recall if training == "autoencoder" else None,
        twin=None if untrained else twin,
        architecture=str(shape.encoder_shape),
        model=model,
    )


def _kinds(model: TextMemory) -> list[tuple[dict[str, Any], int]]:
    """Models that share a frozen encoder share what is kept of it."""
    if not model.forms_memories:
        return []
    return [({"encoder": (model.encoder if model.of_one_chunk else model).fingerprint()}, model.memory_dim)]
