"""A causal language model of ours, and its hidden state looked at as a memory.

What is unusual: it reads `<|end|>` before the text, so that the first token is predicted too; logits stand at the place
of the token that they predict; and it is trained on one token more than a chunk, so that the position whose state is
read out was trained like all.
"""

from typing import cast

import torch
from torch import Tensor, nn

from memlm.decoding.cached import Cached, Prompt
from memlm.decoding.flat import CausalDecoding
from memlm.decoding.generate import Generative
from memlm.huggingface import CausalLMOutput, register
from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import ShapeConfig
from memlm.models.shapes import CausalShape
from memlm.nn.loss import token_loss
from memlm.nn.vocabulary import END


class CausalLMConfig(ShapeConfig[CausalShape]):
    """The Hugging Face config of a `CausalLM`."""

    model_type = "memlm-causal"
    shape_class = CausalShape


class CausalLM(Generative):
    """tokens -> stack -> head, next-token prediction; `encode` reads the hidden state after a whole chunk."""

    config_class = CausalLMConfig

    def __init__(self, config: CausalLMConfig):
        super().__init__(config)
        shape = cast(CausalShape, config.read_shape())
        self.chunk_tokens, self.memory_dim = shape.chunk_tokens, shape.memory_dim
        self.encoder = ChunkEncoder(shape.encoder_shape, config.vocab_size)
        self.head = nn.Linear(shape.stack.width, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> CausalLMOutput:
        """Predict every token from those before it.

        Args:
            input_ids: token ids [B, T], T <= chunk_tokens + 1.
            labels: the token ids to score [B, T], -100 where nothing is scored; unshifted.
        """
        read_BT = torch.cat([torch.full_like(input_ids[:, :1], END), input_ids[:, :-1]], 1)
        logits_BTV = self.head(self.encoder.hidden(read_BT))
        loss = None if labels is None else token_loss(logits_BTV, labels)
        return CausalLMOutput(loss=loss, logits=logits_BTV)  # pyright: ignore[reportArgumentType]

    @property
    def reads_marks(self) -> bool:
        """It has no chunks to mark."""
        return False

    def decoding(self, prompt: Prompt) -> Cached:
        """What is kept of `prompt` while it is continued: all its entries."""
        return CausalDecoding(self, prompt)

    def most_tokens(self, memories: int = 0) -> int | None:
        """How many tokens it has learnt to predict."""
        return self.chunk_tokens + 1

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text, however short: layers x 2 x width x (T + 1)."""
        return (self.chunk_tokens + 1) * self.encoder.stack.entry_bytes


register(CausalLMConfig, CausalLM, causal=True)
