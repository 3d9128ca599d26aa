"""A measurement as data. No torch here: a command line that only prints its options reads this."""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.memory.shapes import BridgeKind
from memlm.nn.config import StackConfig
from memlm.train.config import OptimConfig


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """The decoder of a probe and its training budget, the same for every encoder of a comparison."""

    bridge: BridgeKind = "slots"
    decoder: StackConfig = field(default_factory=lambda: StackConfig(kind="pointwise", width=64, layers=1))
    train_chunks: int = 32_768  # whose memories it learns from
    steps: int = 1000
    batch: int = 128
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(kind="muon", lr=2e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0)
    )
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train_chunks", "steps", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"a probe's {name} must be at least 1, not {getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What is scored, and the probe that every encoder of a comparison gets."""

    probe: ProbeConfig = field(default_factory=ProbeConfig)
    chunks: int = 2048  # held-out chunks that are scored
    controls: bool = True  # untrained twin, shuffled memories, uniform random tokens
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
