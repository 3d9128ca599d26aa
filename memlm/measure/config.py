"""A measurement as data. No torch here: a command line that only prints its options reads this."""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.memory.shapes import BridgeKind
from memlm.nn.config import StackConfig
from memlm.train.config import OptimConfig

Device = Literal["auto", "cpu", "cuda"]


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
class AccessConfig:
    """How much held-out text decides what a model gets from its memories."""

    examples: int = 512  # of every task, at most; intervals are over these
    free_running: int = 64  # examples that are also copied without a teacher; 0: none
    chunks: int | None = None  # C of an example; the model's own if not given
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.examples < 2 or self.free_running == 1 or self.free_running < 0:
            raise UsageError("access is measured on two examples at least, since one reads the memories of another.")
        if self.chunks is not None and self.chunks < 2:
            raise UsageError(f"with {self.chunks} chunks there is no memory to read: take two at least.")


@dataclass(frozen=True, kw_only=True)
class AttributionConfig:
    """How much held-out text is attributed to memories, token by token."""

    texts: int = 128  # of every kind, at most; intervals are over these
    chunks: int | None = None  # C of a text; the model's own if not given
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.texts < 2:
            raise UsageError("an interval is over texts: attribute two at least.")


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What is scored, and the probe that every encoder of a comparison gets."""

    probe: ProbeConfig = field(default_factory=ProbeConfig)
    chunks: int = 2048  # held-out chunks that are scored
    controls: bool = True  # untrained twin, shuffled memories, uniform random tokens
    access: bool = True  # of models that read memories: what they get from them
    access_examples: int = 512  # of every task, at most
    access_chunks: int | None = None  # C of an example; the model's own if not given
    free_running: int = 64  # examples that are also copied without a teacher; 0: none
    attribution: int = 128  # texts of every kind whose tokens are attributed to memories, at most; 0: none
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        self.access_config  # noqa: B018  refuses what is impossible
        self.attribution_config  # noqa: B018

    @property
    def access_config(self) -> AccessConfig:
        """The part that measures access."""
        return AccessConfig(
            examples=self.access_examples,
            free_running=self.free_running,
            chunks=self.access_chunks,
            seed=self.seed,
            device=self.device,
        )

    @property
    def attribution_config(self) -> AttributionConfig | None:
        """The part that attributes tokens to memories; None: nothing is."""
        if not self.attribution:
            return None
        return AttributionConfig(texts=self.attribution, chunks=self.access_chunks, seed=self.seed, device=self.device)
