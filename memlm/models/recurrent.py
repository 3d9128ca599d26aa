"""The recurrent baseline: one vector carried from chunk to chunk, trained by back-propagation through time.

The same stacks as the memory model's, but the encoder reads the carried memory before a chunk's tokens, so that chunks
have to be encoded one after the other; the decoder reads the one memory that is carried. Compare Bulatov et al. 2022,
"Recurrent Memory Transformer".
"""

from typing import cast

import torch
from torch import Tensor, nn

from memlm.decoding.cached import Cached, Prompt
from memlm.decoding.chunks import RecurrentDecoding
from memlm.decoding.generate import Generative
from memlm.huggingface import register
from memlm.memory.encoder import ChunkEncoder
from memlm.models.memory_model import MemoryOutput, chunked
from memlm.models.model import ShapeConfig
from memlm.models.shapes import RecurrentShape
from memlm.nn.loss import token_loss
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import PAD, token_embedding
from memlm.readers.placing import Placing


class RecurrentMemoryConfig(ShapeConfig[RecurrentShape]):
    """The Hugging Face config of a `RecurrentMemory`."""

    model_type = "memlm-recurrent"
    shape_class = RecurrentShape


class RecurrentMemory(Generative):
    """memory, chunk -> memory; memory, chunk's past -> tokens (paper, Baselines)."""

    config_class = RecurrentMemoryConfig

    def __init__(self, config: RecurrentMemoryConfig):
        super().__init__(config)
        shape = cast(RecurrentShape, config.read_shape())
        self.chunk_tokens, self.memory_dim = shape.chunk_tokens, shape.memory_dim
        width = shape.decoder.width
        self.encoder = ChunkEncoder(shape.encoder, config.vocab_size)
        self.carry = nn.Linear(shape.memory_dim, shape.encoder.stack.width)
        self.read = nn.Linear(shape.memory_dim, width)
        self.embed = token_embedding(config.vocab_size, width)
        self.start = token_embedding(2, width)
        self.place = token_embedding(shape.chunk_tokens, width)
        self.decoder = build_stack(shape.decoder, 1 + shape.chunk_tokens)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def encode(self, ids_BT: Tensor) -> Tensor:
        """A first chunk's token ids [B, T] -> memories [B, M]."""
        return self.carried(ids_BT[:, None])[:, 0]

    def carried(self, ids_BCT: Tensor, memory_BM: Tensor | None = None) -> Tensor:
        """The memory after each chunk [B, C, M], one after the other, starting from `memory_BM` or from nothing."""
        if memory_BM is None:
            memory_BM = self.read.weight.new_zeros(len(ids_BCT), self.memory_dim)
        after = []
        for ids_BT in ids_BCT.unbind(1):
            x_BTD = torch.cat([self.carry(memory_BM)[:, None], self.encoder.embed(ids_BT)], 1)
            valid_BT = torch.cat([torch.ones_like(ids_BT[:, :1], dtype=torch.bool), ids_BT != PAD], 1)
            memory_BM = self.encoder.norm(self.encoder.readout(self.encoder.stack(x_BTD), valid_BT))
            after.append(memory_BM)
        return torch.stack(after, 1)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        marks: Tensor | None = None,
        weights: Tensor | None = None,
        read: bool = True,
    ) -> MemoryOutput:
        """Predict every token from the carried memory and from the earlier tokens of its own chunk.

        Args: as of `MemoryModel.forward`.
        """
        ids_BCT = chunked(input_ids, self.chunk_tokens)
        B, C, _ = ids_BCT.shape
        memory_BCM = self.read.weight.new_zeros(B, C, self.memory_dim)
        if read and C > 1:
            memory_BCM = torch.cat([memory_BCM[:, :1], self.carried(ids_BCT[:, :-1])], 1)
        start_BC = ids_BCT.new_zeros(B, C) if marks is None else marks.long()
        tokens_BCTW = torch.cat([self.start(start_BC)[:, :, None], self.embed(ids_BCT[..., :-1])], 2)
        x_BCPW = torch.cat([self.read(memory_BCM)[:, :, None], tokens_BCTW + self.place.weight], 2)
        h_BCTW = self.decoder(x_BCPW.flatten(0, 1))[:, 1:].unflatten(0, (B, C))
        logits_BNV = self.head(h_BCTW.flatten(1, 2)[:, : input_ids.shape[1]])
        loss = None if labels is None else token_loss(logits_BNV, labels, weights)
        return MemoryOutput(loss=loss, logits=logits_BNV, memories=memory_BCM[:, 1:])

    def decoding(self, prompt: Prompt) -> Cached:
        """What is kept of `prompt` while it is continued: the carried memory, and T + 1 entries."""
        return RecurrentDecoding(self, Placing(self.chunk_tokens, 1, "fixed", 1), prompt)

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text of any length: layers x 2 x width x (T + 1)."""
        return (self.chunk_tokens + 1) * self.decoder.entry_bytes


register(RecurrentMemoryConfig, RecurrentMemory)
