"""Autoencoder: a chunk of tokens -> one vector -> the same tokens, all of them in one pass.

What is unusual:
- the tokens come out side by side; none is fed back, so free running and teacher forcing are the same thing;
- the memory is the only way from encoder to decoder: what comes out was in it;
- readout and bridge `slots` are ours: one full-rank linear map in each direction (see memory/readout.py).
"""

from torch import Tensor

from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import Given, Predicted, TextMemory
from memlm.models.shapes import AutoencoderShape


class Autoencoder(TextMemory, shape=AutoencoderShape):
    """tokens -> encoder -> readout -> memory -> bridge -> decoder -> head (paper, Autoencoder)."""

    def build(self, shape: AutoencoderShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        self.encoder = ChunkEncoder(shape.encoder_shape, vocab_size)
        self.decoder = ChunkDecoder(shape.chunk_tokens, shape.memory_dim, shape.bridge, shape.decoder, vocab_size)

    def decode(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] for all the chunk's positions."""
        return self.decoder(memory_BM)

    @property
    def memory_sizes(self) -> tuple[int, ...]:
        """As of `TextMemory`."""
        return getattr(self.decoder.bridge, "sizes", (self.memory_dim,))

    @property
    def recall(self):  # noqa: D102  as of `TextMemory`
        return self.decode

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from the memory of its chunk, N <= chunk_tokens."""
        memory_BM = self.encode(given.ids_BN)
        return Predicted(self.decode(memory_BM)[:, : given.ids_BN.shape[1]], memory_BM[:, None])
