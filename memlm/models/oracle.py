"""The oracle: what next-token prediction could gain from a memory, at most.

The encoder has seen the whole chunk, the future too; the decoder predicts it token by token, given that memory. The
causal loss falls by what the memory holds and the decoder can read (paper, Oracle memory model).
"""

from typing import cast

import torch
from torch import Tensor, nn

from memlm.huggingface import register
from memlm.memory.encoder import ChunkEncoder
from memlm.models.memory_model import MemoryOutput
from memlm.models.model import ShapeConfig, TextMemory
from memlm.models.shapes import OracleShape
from memlm.nn.loss import token_loss
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import END, token_embedding


class OracleConfig(ShapeConfig[OracleShape]):
    """The Hugging Face config of an `Oracle`."""

    model_type = "memlm-oracle"
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

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, read: bool = True) -> MemoryOutput:
        """Predict every token from those before it and from the memory of all of them.

        Args:
            input_ids: token ids [B, T], T <= chunk_tokens.
            labels: the token ids to score [B, T], -100 where nothing is scored; unshifted.
            read: False gives the decoder a memory of zeros.
        """
        memory_BM = self.encoder(input_ids)
        if not read:
            memory_BM = torch.zeros_like(memory_BM)
        x_BTW = self.embed(torch.cat([torch.full_like(input_ids[:, :1], END), input_ids[:, :-1]], 1))
        if self.given == "token":
            h_BTW = self.decoder(torch.cat([self.read(memory_BM)[:, None], x_BTW], 1))[:, 1:]
        elif self.given == "embedding":
            beside_BTX = torch.cat([x_BTW, memory_BM[:, None].expand(-1, x_BTW.shape[1], -1)], -1)
            h_BTW = self.decoder(self.read(beside_BTX))
        else:
            h_BTW = self.decoder(x_BTW + self.read(memory_BM)[:, None])
        logits_BTV = self.head(h_BTW)
        loss = None if labels is None else token_loss(logits_BTV, labels)
        return MemoryOutput(loss=loss, logits=logits_BTV, memories=memory_BM[:, None])


register(OracleConfig, Oracle)
