"""What every stack is: embeddings [B, T, D] in, hidden states [B, T, D] out, exactly causal.

A new stack is one file with a `Stack` subclass, its name in `StackKind` and one row in `_STACKS`; the test
matrix takes it from there.
"""

from collections.abc import Iterable
from importlib import import_module

from torch import Tensor, nn

from memlm.nn.config import StackConfig

_STACKS = {
    "mixer": "memlm.nn.mixer:Mixer",
    "transformer": "memlm.nn.transformer:Transformer",
    "pointwise": "memlm.nn.mlp:Pointwise",
}


class Stack(nn.Module):
    """Blocks one after the other, then a norm: `forward(x_BTD) -> h_BTD` for any T up to `tokens`.

    A subclass is made from a config and `tokens` and says which blocks and which norm. Position t of the output depends
    on positions <= t of the input only, to the bit, unless the config is not causal.
    """

    def __init__(self, config: StackConfig, tokens: int, blocks: Iterable[nn.Module], norm: nn.Module):
        super().__init__()
        self.config = config
        self.tokens = tokens
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D], T <= tokens."""
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.norm(x_BTD)


def build_stack(config: StackConfig, tokens: int) -> Stack:
    """Make the stack that `config` describes for sequences of up to `tokens` tokens."""
    module, name = _STACKS[config.kind].split(":")
    return getattr(import_module(module), name)(config, tokens)
