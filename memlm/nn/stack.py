"""What every stack is: embeddings [B, T, D] in, hidden states [B, T, D] out, exactly causal.

A new stack is one file with a `Stack` subclass, its name in `StackKind` and one row in `_STACKS`; the test
matrix takes it from there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from memlm.named import named
from memlm.nn.cache import Cache
from memlm.nn.config import StackConfig
from memlm.nn.layout import Layout

_STACKS = {
    "mixer": "memlm.nn.mixer:Mixer",
    "transformer": "memlm.nn.transformer:Transformer",
    "pointwise": "memlm.nn.mlp:Pointwise",
}

Residual = Callable[[Tensor], Tensor]  # h_BTD -> [B, T, D]


class Stack(nn.Module):
    """Blocks one after the other, then a norm: `forward(x_BTD) -> h_BTD` for any T up to `tokens`.

    A subclass is made from a config and `tokens` and says which blocks and which norm. Position t of the output depends
    on positions <= t of the input only, to the bit, unless the config is not causal or a layout says what depends on
    what. A block is called with what `given` makes of the layout, and with the cache of its layer or None: blocks may
    be compiled, one by one, and what depends on the shape alone is made outside of them.
    """

    keeps = 0  # vectors of D numbers that a cache keeps of an entry in every layer

    def __init__(self, config: StackConfig, tokens: int, blocks: Iterable[nn.Module], norm: nn.Module):
        super().__init__()
        self.config = config
        self.tokens = tokens
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self,
        x_BTD: Tensor,
        layout: Layout | None = None,
        cache: Cache | None = None,
        residuals: Sequence[Residual] = (),
    ) -> Tensor:
        """[B, T, D] -> [B, T, D], T <= tokens.

        Args:
            x_BTD: the entries.
            layout: where they stand and what they see; None: at 0..T-1, causal (or not, as the config says).
            cache: what they see beside themselves, and where they are kept; needs a layout with `slots` and `seen`.
            residuals: of each block, what is added to its input from elsewhere: called with it.
        """
        given = self.given(x_BTD, layout)
        turn = self.turn(given)
        x_BTD = _turned(x_BTD, turn)
        for i, block in enumerate(self.blocks):
            if residuals:
                x_BTD = x_BTD + _turned(residuals[i](_turned(x_BTD, -turn)), turn)
            x_BTD = block(x_BTD, given, cache.layers[i] if cache else None)
        return _turned(self.norm(x_BTD), -turn)

    def given(self, x_BTD: Tensor, layout: Layout | None) -> Any:
        """What blocks are told of the layout: itself."""
        return layout

    def turn(self, given: Any) -> int:
        """How many first entries come last while the sequence goes through the blocks."""
        return 0

    def new_cache(self, places: int) -> Cache:
        """An empty cache for this stack."""
        return Cache(len(self.blocks), places)

    @property
    def entry_bytes(self) -> int:
        """Bytes that one place of a cache takes for one sequence."""
        size = next((p.element_size() for p in self.parameters()), 0)
        return len(self.blocks) * self.keeps * self.config.width * size


def _turned(x_BTD: Tensor, turn: int) -> Tensor:
    return x_BTD.roll(-turn, 1) if turn else x_BTD


def build_stack(config: StackConfig, tokens: int) -> Stack:
    """Make the stack that `config` describes for sequences of up to `tokens` tokens."""
    return named(_STACKS[config.kind])(config, tokens)


def blocks_of(model: Any) -> Iterator[nn.Module]:
    """The blocks of all stacks in a model."""
    for module in model.modules():
        if isinstance(module, Stack):
            yield from module.blocks
