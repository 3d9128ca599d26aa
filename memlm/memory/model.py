"""What every saved model of ours shares: a config that holds its shape, exact save and load, an identity.

transformers is met here and in the two model files only, so that a new release of it breaks one room.
"""

import hashlib
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from memlm.files import sha256_json
from memlm.memory.shapes import AutoencoderShape, CausalShape
from memlm.records import from_dict, to_dict

PAD, END = 0, 1  # the ids of <|pad|> and of <|end|>, which also begins a text, in every tokenizer of ours

S = TypeVar("S", AutoencoderShape, CausalShape)


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
    """A model whose `encode` turns a chunk of token ids into one vector: an autoencoder or a language model."""

    main_input_name = "input_ids"
    memory_dim: int
    chunk_tokens: int

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Layers initialise themselves when they are made; nothing to add."""

    def encode(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] (padded at the end with id 0) -> memories [B, M]."""
        raise TypeError(f"{type(self).__name__} has no encode")

    def fingerprint(self) -> str:
        """SHA-256 over the shape and every weight: what a memory's origin is known by."""
        digest = hashlib.sha256(sha256_json(self.config.shape).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def token_embedding(vocab_size: int, width: int) -> torch.nn.Embedding:
    """Token vectors that start small, so that the first updates decide their directions (LOG.md: x2 in steps)."""
    embed = torch.nn.Embedding(vocab_size, width)
    torch.nn.init.normal_(embed.weight, std=0.03)
    return embed
