"""What every stack is: embeddings [B, T, D] in, hidden states [B, T, D] out, exactly causal.

A new stack is one file with a `Stack` subclass, its name in `StackKind` and one row in `_STACKS`; the test
matrix takes it from there.
"""

from importlib import import_module

from torch import Tensor, nn

from memlm.nn.config import StackConfig

_STACKS = {
    "mixer": "memlm.nn.mixer:Mixer",
    "transformer": "memlm.nn.transformer:Transformer",
    "pointwise": "memlm.nn.mlp:Pointwise",
}


class Stack(nn.Module):
    """The protocol: `forward(x_BTD) -> h_BTD` for any T up to `tokens`, position t from positions <= t only."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.config = config
        self.tokens = tokens

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D], T <= tokens."""
        raise TypeError(f"{type(self).__name__} has no forward")


def build_stack(config: StackConfig, tokens: int) -> Stack:
    """Make the stack that `config` describes for sequences of up to `tokens` tokens."""
    module, name = _STACKS[config.kind].split(":")
    return getattr(import_module(module), name)(config, tokens)
