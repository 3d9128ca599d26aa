"""The Llama-type stack: RMSNorm, rotary positions, SwiGLU of 4D, no biases (paper, Transformer stack).

Equal to transformers' LlamaModel given the same weights (tests/nn/test_transformer.py); ours because memory
models need their own masks, positions and caches.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.nn.attention import Sight, sight
from memlm.nn.cache import LayerCache
from memlm.nn.config import StackConfig
from memlm.nn.layout import Layout
from memlm.nn.stack import Stack

ROPE_BASE = 10_000.0


def rotate(x_BHTK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to queries or keys [B, H, T, K], halves paired as Llama pairs them."""
    first, second = x_BHTK.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x_BHTK.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x_BTD: Tensor, given: Sight, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = (z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in self.qkv(x_BTD).chunk(3, -1))
        q, k = rotate(q, given.cos, given.sin), rotate(k, given.cos, given.sin)
        return self.out(given.attend(q, k, v, cache).transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), gate and up in one matrix."""

    def __init__(self, width: int, expansion: int):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * expansion * width, bias=False)
        self.down = nn.Linear(expansion * width, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        gate, up = self.gate_up(x_BTD).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class TransformerBlock(nn.Module):
    """Pre-norm attention, then pre-norm SwiGLU, each added to its input."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.norm_attention = nn.RMSNorm(config.width, eps=1e-6)
        self.attention = Attention(config)
        self.norm_mlp = nn.RMSNorm(config.width, eps=1e-6)
        self.mlp = SwiGLU(config.width, config.expansion)

    def forward(self, x_BTD: Tensor, given: Sight, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BTD = x_BTD + self.attention(self.norm_attention(x_BTD), given, cache)
        return x_BTD + self.mlp(self.norm_mlp(x_BTD))


class Transformer(Stack):
    """Llama-type blocks and a last RMSNorm."""

    keeps = 2  # key and value

    def __init__(self, config: StackConfig, tokens: int):
        blocks = (TransformerBlock(config) for _ in range(config.layers))
        super().__init__(config, tokens, blocks, nn.RMSNorm(config.width, eps=1e-6))

    def given(self, x_BTD: Tensor, layout: Layout | None) -> Sight:
        """What its blocks are told of the layout."""
        return sight(x_BTD, layout, self.config.width // self.config.heads, ROPE_BASE, self.config.causal)

    def turn(self, given: Sight) -> int:
        """As its blocks are told."""
        return given.turn
