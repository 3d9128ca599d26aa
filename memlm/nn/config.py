"""The shape of a stack, as data. No torch here: a command line that only prints its options reads this."""

from dataclasses import dataclass
from typing import Literal, get_args

from memlm.errors import UsageError
from memlm.ranges import Checked, Count, Natural

StackKind = Literal["mixer", "transformer", "pointwise"]


@dataclass(frozen=True, kw_only=True)
class StackConfig(Checked):
    """The shape of a stack."""

    kind: StackKind = "mixer"
    width: Count = 256  # D
    layers: Natural = 2
    heads: Count = 1  # attention heads; for a mixer the mixing heads, 1 = flat
    kernel: Count = 1  # neighbouring channels that a flat mixer mixes
    expansion: Count = 4  # of the channel MLP
    causal: bool = True  # position t sees positions <= t only

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in get_args(StackKind):
            raise UsageError(f"there is no stack {self.kind!r}; there are {', '.join(get_args(StackKind))}.")
        if self.width % self.heads:
            raise UsageError(f"the width {self.width} does not divide into {self.heads} heads.")
        if self.kernel > 1 and (self.kind != "mixer" or self.heads > 1):
            raise UsageError("a kernel above 1 belongs to a flat mixer: kind mixer with heads 1.")
        if self.kind == "transformer" and self.width // self.heads % 2:
            raise UsageError(f"rotary positions need an even head width, not {self.width // self.heads}.")
