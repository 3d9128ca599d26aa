"""The oracle: what next-token prediction could gain from a memory, at most.

The encoder has seen the whole chunk, the future too; the decoder predicts it token by token, given that memory. The
causal loss falls by what the memory holds and the decoder can read (paper, Oracle memory model).
"""

import torch
from torch import nn
from torch.nn import functional as F

from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import Given, Predicted, TextMemory
from memlm.models.shapes import OracleShape
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import END, token_embedding


class Oracle(TextMemory, shape=OracleShape):
    """chunk -> memory; memory, chunk's past -> tokens; the memory as a `token`, beside or added to each embedding."""

    def build(self, shape: OracleShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        self.given, width = shape.given, shape.decoder.width
        self.encoder = ChunkEncoder(shape.encoder, vocab_size)
        self.read = nn.Linear(shape.memory_dim + (width if self.given == "embedding" else 0), width)
        self.embed = token_embedding(vocab_size, width)
        self.decoder = build_stack(shape.decoder, shape.chunk_tokens + 1)
        self.head = nn.Linear(width, vocab_size, bias=False)

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from those before it and the memory of them all; unread it is zeros."""
        memory_BM = self.encode(given.ids_BN)
        if not given.read:
            memory_BM = torch.zeros_like(memory_BM)
        x_BTW = self.embed(F.pad(given.ids_BN, (1, 0), value=END)[:, :-1])
        if self.given == "token":
            h_BTW = self.decoder(torch.cat([self.read(memory_BM)[:, None], x_BTW], 1))[:, 1:]
        elif self.given == "embedding":
            beside_BTX = torch.cat([x_BTW, memory_BM[:, None].expand(-1, x_BTW.shape[1], -1)], -1)
            h_BTW = self.decoder(self.read(beside_BTX))
        else:
            h_BTW = self.decoder(x_BTW + self.read(memory_BM)[:, None])
        return Predicted(self.head(h_BTW), memory_BM[:, None])
