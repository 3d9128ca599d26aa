"""Chunks become memories by a language model's own vectors, and memories become soft tokens: vectors that it can read.

| | from | to |
|---|---|---|
| `EmbeddingEncoder` | the vectors of a chunk's tokens, frozen | a memory, by a stack and a readout of ours |
| `BaseEncoder` | one of the model's own hidden states of a chunk | a memory |
| `SoftVector` | a memory | S soft tokens, by one linear map |
| `SoftSlots` | a memory | T soft tokens, each close to the vector of the token it stands for |

A soft token that is close enough is to the language model as good as the token: it copies from it untrained (LOG.md).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.memory.bridge import BRIDGES
from memlm.memory.encoder import ChunkEncoder, fingerprint
from memlm.memory.encoder_shape import EncoderShape
from memlm.memory.readout import READOUTS
from memlm.nn.stack import build_stack
from memlm.pretrained.base import Base, Tokens
from memlm.pretrained.shapes import BaseEncoderShape, SoftConfig
from memlm.readers.reader import Reader
from memlm.records import to_dict


class EmbeddingEncoder(ChunkEncoder):
    """A chunk encoder of ours over a language model's token vectors in the place of its own."""

    def __init__(self, shape: EncoderShape, base: Base, embed: Tokens):
        nn.Module.__init__(self)
        self.shape, self.vocab_size, self._base, self._embed = shape, base.vocab_size, (base,), (embed,)
        tokens = shape.chunk_tokens + shape.begins
        self.down = nn.Linear(base.width, shape.stack.width)
        self.stack = build_stack(shape.stack, tokens)
        self.readout = READOUTS[shape.readout](tokens, shape.stack.width, shape.memory_dim)
        self.norm = nn.LayerNorm(shape.memory_dim) if shape.memory_norm else nn.Identity()

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """As of `ChunkEncoder`."""
        return self.stack(self.down(self._embed[0].known(ids_BT)))

    def fingerprint(self) -> str:
        """As of `ChunkEncoder`: over shape, weights, and the language model."""
        return fingerprint(self, {**to_dict(self.shape), "base": self._base[0].fingerprint})


class BaseEncoder(ChunkEncoder):
    """The language model itself, without its adapter: a hidden state of one layer, read out."""

    def __init__(self, shape: BaseEncoderShape, base: Base, embed: Tokens, decoder: Any):
        nn.Module.__init__(self)
        self.shape, self.vocab_size = shape, base.vocab_size  # pyright: ignore[reportAttributeAccessIssue]
        self._base, self._embed, self._decoder = (base,), (embed,), (decoder,)
        self.readout = READOUTS[shape.readout](shape.chunk_tokens + shape.begins, base.width, shape.memory_dim)
        self.norm = nn.LayerNorm(shape.memory_dim) if shape.memory_norm else nn.Identity()

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """As of `ChunkEncoder`."""
        decoder = self._decoder[0]
        if not len(ids_BT):  # a text of one chunk: not every language model takes an empty batch
            return ids_BT.new_empty(*ids_BT.shape, self._base[0].width, dtype=self._embed[0].weight.dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and decoder.trained):
            return decoder.states(self._embed[0].known(ids_BT))[self.shape.layer]

    def fingerprint(self) -> str:
        """As of `ChunkEncoder`: over shape, weights, and the language model."""
        return fingerprint(self, {**to_dict(self.shape), "base": self._base[0].fingerprint})


class SoftVector(Reader):
    """A memory is S soft tokens, by one linear map; they begin as what tokens have in common."""

    def __init__(self, vectors: int, memory_dim: int, base: Base):
        super().__init__()
        self.vectors = vectors
        self.project = nn.Linear(memory_dim, vectors * base.width)
        _begin_as_tokens(self.project, base)

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, S, W]."""
        return self.project(memory_BCM).unflatten(-1, (self.vectors, -1))


class SoftSlots(Reader):
    """A memory is T soft tokens: unrolled by a linear map, then each by itself through a linear map and a small MLP."""

    def __init__(self, tokens: int, memory_dim: int, config: SoftConfig, base: Base):
        super().__init__()
        self.vectors = tokens
        self.bridge = BRIDGES["slots"](tokens, memory_dim, config.width)
        self.project = nn.Linear(config.width, base.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, base.width, bias=False)
        _begin_as_tokens(self.project, base)
        nn.init.zeros_(self.down.weight)

    def forward(self, memory_BCM: Tensor) -> Tensor:
        """[B, C, M] -> [B, C, T, W]."""
        z_BCTd = self.bridge(memory_BCM.flatten(0, 1)).unflatten(0, memory_BCM.shape[:2])
        return self.project(z_BCTd) + self.down(F.gelu(self.up(z_BCTd)))


def _begin_as_tokens(project: nn.Linear, base: Base) -> None:
    """Outputs of the mean and about the spread of the language model's token vectors."""
    vectors_VW = base.vectors()
    spread = float(vectors_VW.std(0).mean())
    nn.init.normal_(project.weight, std=spread / project.in_features**0.5)
    with torch.no_grad():
        project.bias.copy_(vectors_VW.mean(0).repeat(project.out_features // base.width))
