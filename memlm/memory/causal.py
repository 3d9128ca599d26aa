"""A causal language model of ours, and its hidden state looked at as a memory.

What is unusual: it reads `<|end|>` before the chunk, so that the chunk's first token is predicted too, and it
is trained on one token more than a chunk, so that the position whose state is read out was trained like all.
"""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from memlm.memory.model import END, PAD, ShapeConfig, TextMemory, token_embedding
from memlm.memory.readout import READOUTS
from memlm.memory.shapes import CausalShape
from memlm.nn.loss import token_loss
from memlm.nn.stack import build_stack


class CausalLMConfig(ShapeConfig[CausalShape]):
    """The Hugging Face config of a `CausalLM`."""

    model_type = "memlm-causal"
    shape_class = CausalShape


class CausalLM(TextMemory):
    """tokens -> stack -> head, next-token prediction; `encode` reads the hidden state after a whole chunk."""

    config_class = CausalLMConfig

    def __init__(self, config: CausalLMConfig):
        super().__init__(config)
        shape = cast(CausalShape, config.read_shape())
        self.chunk_tokens, self.memory_dim = shape.chunk_tokens, shape.memory_dim
        self.embed = token_embedding(config.vocab_size, shape.stack.width)
        self.stack = build_stack(shape.stack, shape.chunk_tokens + 1)
        self.head = nn.Linear(shape.stack.width, config.vocab_size, bias=False)
        self.readout = READOUTS[shape.readout](shape.chunk_tokens + 1, shape.stack.width, shape.stack.width)
        self.post_init()

    def encode(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] (padded at the end with id 0) -> hidden states read out [B, D]."""
        ids_BT = torch.cat([torch.full_like(ids_BT[:, :1], END), ids_BT], 1)
        return self.readout(self.stack(self.embed(ids_BT)), ids_BT != PAD)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> CausalLMOutput:
        """Predict.

        Args:
            input_ids: token ids [B, T], T <= chunk_tokens + 1; the first is usually `<|end|>`.
            labels: for each position the token that follows it [B, T] (shifted by the objective, not here),
                -100 where nothing is scored.
        """
        logits_BTV = self.head(self.stack(self.embed(input_ids)))
        loss = None if labels is None else token_loss(logits_BTV, labels)
        return CausalLMOutput(loss=loss, logits=logits_BTV)  # pyright: ignore[reportArgumentType]


AutoConfig.register(CausalLMConfig.model_type, CausalLMConfig)
AutoModel.register(CausalLMConfig, CausalLM)
AutoModelForCausalLM.register(CausalLMConfig, CausalLM)
