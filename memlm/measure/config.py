"""A measurement as data. No torch here: a command line that only prints its options reads this."""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.nn.config import StackConfig
from memlm.train.config import OptimConfig

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
Quantize = Literal["int8", "int4"]


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """The decoder of a probe and its training budget, the same for every encoder of a comparison."""

    bridge: str = "slots"
    decoder: StackConfig = field(default_factory=lambda: StackConfig(kind="pointwise", width=64, layers=1))
    train_chunks: int = 32_768  # whose memories it learns from
    steps: int = 1000  # at most: the weights that read some kept training chunks best are taken
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
    """What is scored, and the probe that every encoder of a comparison gets.

    Layers, readouts, precision and rounding are of models of others; runs of ours keep their own, and their length.
    """

    chunk_tokens: tuple[int, ...] = ()  # lengths to measure models of others at; those of the runs beside them, or 64
    layers: tuple[int, ...] = (-1,)  # 0: the embeddings; -1: the last one
    readouts: tuple[str, ...] = ()  # last, mean, cls, pooled, at:0,7,-1 (places); the usual one of a model's kind
    precision: Precision = "fp32"
    quantize: Quantize | None = None  # round linear weights to 8 or 4 bits
    batch: int = 32  # texts that a model of others reads at once
    cram: int = 0  # held-out chunks of which a causal model of others is given one optimised vector each
    cram_steps: int = 300  # optimiser steps of one such vector
    invert: int = 0  # held-out chunks that are found again from their hidden states
    invert_candidates: int = 512  # tokens that are tried at each place
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
        if any(tokens < 1 for tokens in self.chunk_tokens):
            raise UsageError(f"chunks of {min(self.chunk_tokens)} tokens hold nothing: take 1 at least.")
        for name in ("batch", "cram_steps", "invert_candidates"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.cram < 0 or self.invert < 0:
            raise UsageError("cram and invert are numbers of chunks: take 0 or more.")

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
