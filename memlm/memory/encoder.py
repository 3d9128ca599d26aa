"""A chunk of tokens -> one memory: what autoencoders, language models and memory models have in common."""

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from memlm.files import sha256_json
from memlm.memory.encoder_shape import READOUTS, EncoderShape
from memlm.named import named
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import END, PAD, token_embedding
from memlm.records import to_dict


class MemoryEncoder(Protocol):
    """What a model asks of what forms its memories."""

    def __call__(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T], padded at the end with id 0, -> memories [B, M]."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over shape and weights: memories of two encoders mean the same only if theirs are the same."""
        ...

    def is_frozen(self) -> bool:
        """Whether nothing that a memory depends on is trained."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""
        ...


class StateEncoder(nn.Module):
    """hidden states -> readout -> norm: memories. A subclass tells the states of its shape's chunks.

    Args:
        shape: has chunk_tokens, memory_dim, memory_norm, readout and begins.
    """

    def __init__(self, shape: Any):
        super().__init__()
        self.shape = shape

    def read_out(self, width: int) -> None:
        """Make what reads states of this width; after the parts that make them, as the seed's draws are in order."""
        shape, tokens = self.shape, self.shape.chunk_tokens + self.shape.begins
        self.readout = named(READOUTS[shape.readout])(tokens, width, shape.memory_dim)
        self.norm = nn.LayerNorm(shape.memory_dim) if shape.memory_norm else nn.Identity()

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] -> hidden states [B, T, D] as they are, nothing put in front."""
        raise TypeError(f"{type(self).__name__} has no hidden")

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T], padded at the end with id 0, -> memories [B, M]; a causal encoder never sees padding."""
        if self.shape.begins:
            ids_BT = torch.cat([torch.full_like(ids_BT[:, :1], END), ids_BT], 1)
        return self.norm(self.readout(self.hidden(ids_BT), ids_BT != PAD))

    def fingerprint(self) -> str:
        """As of `MemoryEncoder`."""
        return fingerprint(self, self.identity())

    def identity(self) -> dict[str, Any]:
        """What a memory depends on beside the weights here."""
        told = to_dict(self.shape)
        del told["kind"]  # which banks made before there were kinds do not know
        return told

    def is_frozen(self) -> bool:
        """As of `MemoryEncoder`."""
        return not any(p.requires_grad for p in self.parameters())


class ChunkEncoder(StateEncoder):
    """token ids -> embeddings -> stack -> readout -> norm: memories (paper, Autoencoder)."""

    def __init__(self, shape: EncoderShape, vocab_size: int):
        super().__init__(shape)
        self.embed = token_embedding(vocab_size, shape.stack.width)
        self.stack = build_stack(shape.stack, shape.chunk_tokens + shape.begins)
        self.read_out(shape.stack.width)

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """As of `StateEncoder`."""
        return self.stack(self.embed(ids_BT))


def fingerprint(module: nn.Module, shape: object) -> str:
    """SHA-256 over a shape and every weight of a module."""
    digest = hashlib.sha256(sha256_json(shape).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
