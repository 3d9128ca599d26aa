"""Autoencoder: a chunk of tokens -> one vector -> the same tokens, all of them in one pass.

What is unusual:
- the tokens come out side by side; none is fed back, so free running and teacher forcing are the same thing;
- the memory is the only way from encoder to decoder: what comes out was in it;
- readout and bridge `slots` are ours: one full-rank linear map in each direction (see memory/readout.py).
"""

from typing import cast

from torch import Tensor

from memlm.huggingface import register
from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import ShapeConfig, TextMemory
from memlm.models.shapes import AutoencoderShape


class AutoencoderConfig(ShapeConfig[AutoencoderShape]):
    """The Hugging Face config of an `Autoencoder`."""

    shape_class = AutoencoderShape


class Autoencoder(TextMemory):
    """tokens -> encoder -> readout -> memory -> bridge -> decoder -> head (paper, Autoencoder)."""

    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig):
        super().__init__(config)
        shape = cast(AutoencoderShape, config.read_shape())
        T, M = self.chunk_tokens, self.memory_dim = shape.chunk_tokens, shape.memory_dim
        self.encoder = ChunkEncoder(shape.encoder_shape, config.vocab_size)
        self.decoder = ChunkDecoder(T, M, shape.bridge, shape.decoder, config.vocab_size)
        self.post_init()

    def decode(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] for all the chunk's positions."""
        return self.decoder(memory_BM)

    @property
    def recall(self):  # noqa: D102  as of `TextMemory`
        return self.decode

    def predict(
        self, ids_BN: Tensor, marks: Tensor | None, memories: Tensor | None, own_memories: Tensor | None, read: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As of `TextMemory`: every token from the memory of its chunk, N <= chunk_tokens."""
        memory_BM = self.encode(ids_BN)
        return self.decode(memory_BM)[:, : ids_BN.shape[1]], memory_BM[:, None]


register(AutoencoderConfig, Autoencoder)
