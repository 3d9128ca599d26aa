"""What every saved model of ours shares: a config that holds its shape, exact save and load, an identity.

What of transformers is used comes through `memlm.huggingface`, so that a new release of it breaks one file.
"""

from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from memlm.huggingface import PreTrainedConfig, PreTrainedModel
from memlm.memory.encoder import ChunkEncoder, fingerprint
from memlm.models.shapes import ModelShape
from memlm.nn.vocabulary import END, PAD
from memlm.records import from_dict, to_dict

S = TypeVar("S", bound=ModelShape)


class ShapeConfig(PreTrainedConfig, Generic[S]):
    """A Hugging Face config that is nothing but a vocabulary and one of our shapes."""

    shape_class: ClassVar[type]
    vocab_size: int = 1024
    shape: dict[str, Any] | None = None

    @classmethod
    def of(cls, shape: S, vocab_size: int) -> "ShapeConfig[S]":
        """The config for `shape` over a vocabulary of `vocab_size` tokens."""
        special: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": END, "eos_token_id": END}
        return cls(shape=to_dict(shape), vocab_size=vocab_size, **special)

    def read_shape(self) -> S:
        """The shape as the dataclass it was made from."""
        return from_dict(self.shape_class, self.shape or {}, "shape")


class TextMemory(PreTrainedModel):
    """A model with an `encoder` that turns a chunk of token ids into one vector.

    `forward(input_ids, labels)` of each of them gives logits at the place of the token that they predict, whatever
    the model reads to predict it; labels are token ids at the same places.
    """

    main_input_name = "input_ids"
    memory_dim: int
    chunk_tokens: int
    encoder: ChunkEncoder

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Layers initialise themselves when they are made; nothing to add."""

    def encode(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T], T <= chunk_tokens, padded at the end with id 0, -> memories [B, M]."""
        return self.encoder(ids_BT)

    def fingerprint(self) -> str:
        """SHA-256 over the shape and every weight."""
        return fingerprint(self, self.config.shape)
