"""The recurrent baseline: one vector carried from chunk to chunk, trained by back-propagation through time.

The same stacks as the memory model's, but the encoder reads the carried memory before a chunk's tokens, so that chunks
have to be encoded one after the other; the decoder reads the one memory that is carried. Compare Bulatov et al. 2022,
"Recurrent Memory Transformer".
"""

import numpy as np
import torch
from torch import Tensor, nn

from memlm.decoding.cached import Decoding, Prompt
from memlm.decoding.chunks import RecurrentDecoding
from memlm.memory.encoder import ChunkEncoder
from memlm.models.chunk_model import ChunkModel
from memlm.models.model import Given, Predicted, chunked
from memlm.models.shapes import RecurrentShape
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import PAD, token_embedding
from memlm.readers.placing import Placing
from memlm.readers.sequence import read_chunks


class RecurrentMemory(ChunkModel, shape=RecurrentShape):
    """memory, chunk -> memory; memory, chunk's past -> tokens (paper, Baselines)."""

    of_one_chunk = False
    reader_name = "carried"
    encoder: ChunkEncoder

    def build(self, shape: RecurrentShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        width = shape.decoder.width
        self.encoder = ChunkEncoder(shape.encoder, vocab_size)
        self.carry = nn.Linear(shape.memory_dim, shape.encoder.stack.width)
        self.read = nn.Linear(shape.memory_dim, width)
        self.embed = token_embedding(vocab_size, width)
        self.make_inputs(width)
        self.placing = Placing(shape.chunk_tokens, 1, "fixed", 1)  # every chunk after the one memory
        self.decoder = build_stack(shape.decoder, self.placing.length)
        self.head = nn.Linear(width, vocab_size, bias=False)

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

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from the carried memory and the earlier tokens of its chunk."""
        ids_BCT = chunked(given.ids_BN, self.chunk_tokens)
        B, C, _ = ids_BCT.shape
        memory_BCM = self.read.weight.new_zeros(B, C, self.memory_dim)
        if given.read and C > 1:
            memory_BCM = torch.cat([memory_BCM[:, :1], self.carried(ids_BCT[:, :-1])], 1)
        x_ETW = self.embed_chunks(ids_BCT, given.marks_BC).flatten(0, 1)
        entry_E11W = self.read(memory_BCM).flatten(0, 1)[:, None, None]
        h_ETW = read_chunks(self.decoder, self.placing, "packed", x_ETW[:, None], entry_E11W, 1)
        h_BNW = h_ETW.unflatten(0, (B, C)).flatten(1, 2)[:, : given.ids_BN.shape[1]]
        return Predicted(self.head(h_BNW), memory_BCM[:, 1:])

    def decoding(self, prompt: Prompt) -> Decoding:
        """What is kept of `prompt` while it is continued: the carried memory, and T + 1 entries."""
        return RecurrentDecoding(self, self.placing, prompt)

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text of any length: layers x 2 x width x (T + 1)."""
        return (self.chunk_tokens + 1) * self.decoder.entry_bytes

    def memories_before(self, chunk: np.ndarray) -> np.ndarray:
        """As of `Generative`: the one that is carried."""
        return np.minimum(chunk, 1)
