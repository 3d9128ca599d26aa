"""The channel MLP of mixers and slots, and the stack that has nothing else."""

from torch import Tensor, nn

from memlm.nn.cache import LayerCache
from memlm.nn.config import StackConfig
from memlm.nn.layout import Layout
from memlm.nn.stack import Stack


class ChannelMLP(nn.Module):
    """D -> expansion*D -> D with GELU at every position alone (paper, masked mixer block).

    It starts as zero, so that every block starts as what is added to it.
    """

    def __init__(self, width: int, expansion: int):
        super().__init__()
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return self.down(nn.functional.gelu(self.up(x_BTD)))


class PointwiseBlock(nn.Module):
    """y = x + MLP(LN(x)): no position sees another."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.mlp = ChannelMLP(config.width, config.expansion)

    def forward(self, x_BTD: Tensor, layout: Layout | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D], wherever the entries stand."""
        return x_BTD + self.mlp(self.norm(x_BTD))


class Pointwise(Stack):
    """Channel MLPs only. With zero layers it is the identity: the bare token embeddings of a slots encoder."""

    def __init__(self, config: StackConfig, tokens: int):
        blocks = (PointwiseBlock(config) for _ in range(config.layers))
        super().__init__(config, tokens, blocks, nn.LayerNorm(config.width) if config.layers else nn.Identity())
