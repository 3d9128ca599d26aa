"""The oracle: what next-token prediction could gain from a memory, at most.

The encoder has seen the whole chunk, the future too; the decoder predicts it token by token, given that memory. The
causal loss falls by what the memory holds and the decoder can read (paper, Oracle memory model).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.huggingface import register
from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import ShapeConfig, TextMemory
from memlm.models.shapes import OracleShape
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import END, token_embedding


class OracleConfig(ShapeConfig[OracleShape]):
    """The Hugging Face config of an `Oracle`."""

    shape_class = OracleShape


class Oracle(TextMemory):
    """chunk -> memory; memory, chunk's past -> tokens; the memory as a `token`, beside or added to each embedding."""

    config_class = OracleConfig

    def __init__(self, config: OracleConfig):
        super().__init__(config)
        shape = cast(OracleShape, config.read_shape())
        self.chunk_tokens, self.memory_dim, self.given = shape.chunk_tokens, shape.memory_dim, shape.given
        width = shape.decoder.width
        self.encoder = ChunkEncoder(shape.encoder, config.vocab_size)
        self.read = nn.Linear(shape.memory_dim + (width if self.given == "embedding" else 0), width)
        self.embed = token_embedding(config.vocab_size, width)
        self.decoder = build_stack(shape.decoder, shape.chunk_tokens + 1)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def predict(
        self, ids_BN: Tensor, marks: Tensor | None, memories: Tensor | None, own_memories: Tensor | None, read: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As of `TextMemory`: every token from those before it and the memory of them all; unread it is zeros."""
        memory_BM = self.encode(ids_BN)
        if not read:
            memory_BM = torch.zeros_like(memory_BM)
        x_BTW = self.embed(F.pad(ids_BN, (1, 0), value=END)[:, :-1])
        if self.given == "token":
            h_BTW = self.decoder(torch.cat([self.read(memory_BM)[:, None], x_BTW], 1))[:, 1:]
        elif self.given == "embedding":
            beside_BTX = torch.cat([x_BTW, memory_BM[:, None].expand(-1, x_BTW.shape[1], -1)], -1)
            h_BTW = self.decoder(self.read(beside_BTX))
        else:
            h_BTW = self.decoder(x_BTW + self.read(memory_BM)[:, None])
        return self.head(h_BTW), memory_BM[:, None]


register(OracleConfig, Oracle)
