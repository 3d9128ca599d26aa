"""A causal language model of ours, and its hidden state looked at as a memory.

What is unusual: it reads `<|end|>` before the text, so that the first token is predicted too; logits stand at the place
of the token that they predict; and it is trained on one token more than a chunk, so that the position whose state is
read out was trained like all.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from memlm.decoding.cached import Decoding, Prompt
from memlm.decoding.flat import CausalDecoding
from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import Generative, Given, Predicted
from memlm.models.shapes import CausalShape
from memlm.nn.vocabulary import END


class CausalLM(Generative, shape=CausalShape, causal=True):
    """tokens -> stack -> head, next-token prediction; `encode` reads the hidden state after a whole chunk."""

    reads_chunks = reads_earlier = False
    encoder: ChunkEncoder

    def build(self, shape: CausalShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        self.encoder = ChunkEncoder(shape.encoder_shape, vocab_size)
        self.head = nn.Linear(shape.stack.width, vocab_size, bias=False)

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from those before it; N <= chunk_tokens + 1."""
        return Predicted(self.head(self.states(given.ids_BN)))

    def states(self, ids_BN: Tensor) -> Tensor:
        """Hidden states by which tokens are predicted: [B, N] -> [B, N, W]."""
        return self.encoder.hidden(F.pad(ids_BN, (1, 0), value=END)[:, :-1])

    def decoding(self, prompt: Prompt) -> Decoding:
        """What is kept of `prompt` while it is continued: all its entries."""
        return CausalDecoding(self, prompt)

    def most_tokens(self, memories: int = 0) -> int | None:
        """How many tokens it has learnt to predict."""
        return self.chunk_tokens + 1

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text, however short: layers x 2 x width x (T + 1)."""
        return (self.chunk_tokens + 1) * self.encoder.stack.entry_bytes
