"""Ours: a memory is read as the tokens that it holds, each as the decoder's own vector for that token.

The decoder of the memory's autoencoder says which tokens those are; what is read is the expected word embedding, so
that what the model learns about tokens of its own chunk holds for those of memories too (LOG.md: next tokens gain from
memories nearly what they gain from the text itself, which slots of a bridge do not give them). With `shift` each is
read beside the one before it: what followed a token can then be found by that token in one layer of attention, where
it would take two (LOG.md: key-value recall).
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.nn.vocabulary import token_embedding
from memlm.readers.config import SoftReader
from memlm.readers.reader import Reader, Sizes


class Soft(Reader):
    """memory -> its tokens' probabilities -> expected word embeddings, T entries."""

    def __init__(self, config: SoftReader, sizes: Sizes):
        super().__init__(config, sizes)
        T, W, words = sizes.chunk_tokens, sizes.width, cast(nn.Embedding, sizes.words)
        self.vectors = T
        self.text = ChunkDecoder(T, sizes.memory_dim, config.bridge, config.unroll, words.num_embeddings)
        self.place = token_embedding(T, W)
        self.before = nn.Linear(W, W, bias=False) if config.shift else None
        self._words = (words,)  # in a tuple: not a part of the reader, which would be saved twice

    def entries(self, memory_BKM: Tensor) -> Tensor:
        """[B, K, M] -> [B, K, T, W]."""
        share_XTV = self.text(memory_BKM.flatten(0, 1)).softmax(-1)
        soft_BKTW = (share_XTV @ self._words[0].weight).unflatten(0, memory_BKM.shape[:2])
        read_BKTW = soft_BKTW + self.place.weight
        return read_BKTW if self.before is None else read_BKTW + F.pad(self.before(soft_BKTW), (0, 0, 1, -1))

    def recall(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, V]."""
        return self.text(memory_BM)
