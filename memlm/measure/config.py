"""A measurement as data. No torch here: a command line that only prints its options reads this."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from memlm.errors import UsageError
from memlm.nn.config import StackConfig
from memlm.ranges import Checked, Count, Natural, Pair, Whole
from memlm.train.config import OptimConfig

LONG = 64  # chunks of an example beyond which nothing is attributed and no half of it copied: each chunk has its cost
HeldPart = Literal["tune", "test"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
Quantize = Literal["int8", "int4"]
READOUT = r"last|mean|cls|pooled|at:-?\d{1,9}(,-?\d{1,9})*"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The decoder of a trained probe, and how it learns."""

    bridge: str
    stack: StackConfig
    optim: OptimConfig


DECODERS = {  # of what is trained on top of the closed form
    "slots": DecoderConfig(
        bridge="slots",
        stack=StackConfig(kind="pointwise", width=64, layers=1),
        optim=OptimConfig(kind="muon", lr=2e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0),
    ),
    "unroll": DecoderConfig(
        bridge="unroll",
        stack=StackConfig(kind="transformer", width=128, layers=1, heads=4),
        optim=OptimConfig(kind="muon", lr=2e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0),
    ),
}
LINEAR = "linear"
STACKED = {f"{LINEAR}+{decoder}": decoder for decoder in DECODERS}
FAMILIES = (LINEAR, *STACKED)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Checked):
    """The probes and their budgets, the same for every encoder of a comparison (docs/protocol.md, What is asked)."""

    families: tuple[str, ...] = FAMILIES  # linear: closed form; on top of it a trained decoder, slots or unroll
    train_chunks: tuple[Pair, ...] = (1024, 4096, 16_384, 65_536)  # whose memories are learnt from: a budget curve
    seeds: Count = 3  # of probe, order and kept chunks, at the largest of these
    steps: Count = 1000  # of a trained probe, at most, and 16 epochs at most
    batch: Count = 128
    seed: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := [family for family in self.families if family not in FAMILIES]:
            raise UsageError(f"there is no family of probes {wrong[0]!r}; there are {', '.join(FAMILIES)}.")
        if not self.families or not self.train_chunks:
            raise UsageError("name at least one family of probes and one number of training chunks.")


@dataclass(frozen=True, kw_only=True)
class AccessConfig(Checked):
    """How much held-out text decides what a model gets from its memories."""

    examples: Pair = 512  # of every task, at most; intervals are over these
    free_running: Natural = 64  # examples that are also copied without a teacher; 0: none
    chunks: Pair | None = None  # C of an example; the model's own if not given
    tasks: tuple[str, ...] = ()  # by name (measure/tasks.py); all if none is named
    part: HeldPart = "test"  # of the corpus
    seed: Natural = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.free_running == 1:
            raise UsageError("free_running is 0 or at least 2, not 1: one example reads the memories of another.")


@dataclass(frozen=True, kw_only=True)
class AttributionConfig(Checked):
    """How much held-out text is attributed to memories, token by token."""

    texts: Pair = 128  # of every kind, at most; intervals are over these
    chunks: Pair | None = None  # C of a text; the model's own if not given
    part: HeldPart = "test"  # of the corpus
    seed: Natural = 0
    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(Checked):
    """What is scored, and the probe that every encoder of a comparison gets.

    Layers, readouts, precision and rounding are of models of others; runs of ours keep their own, and their length.
    """

    chunk_tokens: tuple[Count, ...] = ()  # lengths to measure models of others at; those of the runs beside them, or 64
    layers: tuple[Whole, ...] = (-1,)  # 0: the embeddings; -1: the last one
    readouts: tuple[str, ...] = ()  # last, mean, cls, pooled, at:0,7,-1 (places); the usual one of a model's kind
    precision: Precision = "fp32"
    quantize: Quantize | None = None  # round linear weights to 8 or 4 bits
    batch: Count = 32  # texts that a model of others reads at once
    cram: Natural = 0  # held-out chunks of which a causal model of others is given one optimised vector each
    cram_steps: Count = 300  # optimiser steps of one such vector
    invert: Natural = 0  # held-out chunks that are found again from their hidden states
    invert_candidates: Count = 512  # tokens that are tried at each place
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    chunks: Pair = 4096  # that are scored
    part: HeldPart = "test"  # of the corpus; choices are made on tune
    retention: bool = True  # what embeddings hold, by probes
    controls: bool = True  # untrained twin, shuffled memories, uniform random tokens
    access: bool = True  # of models that read memories: what they get from them
    access_examples: Pair = 512  # of every task, at most; of long ones as many as have 8,192 chunks, or 8
    access_chunks: tuple[Pair, ...] = ()  # C of an example, each in turn; the model's own if none is given
    free_running: Natural = 64  # examples that are also copied without a teacher; 0: none
    attribution: Natural = 128  # texts of every kind whose tokens are attributed to memories, at most; 0: none
    seed: Natural = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.access_configs  # noqa: B018  refuses what is impossible
        self.attribution_config  # noqa: B018
        if wrong := [one for one in self.readouts if not re.fullmatch(READOUT, one)]:
            raise UsageError(f"there is no readout {wrong[0]!r}: take last, mean, cls, pooled or at:I,J,...")
        for name in ("cram", "invert", "attribution"):
            if getattr(self, name) == 1:
                raise UsageError(f"{name} must be 0 or at least 2, not 1: one has no interval.")

    @property
    def access_configs(self) -> tuple[AccessConfig, ...]:
        """The part that measures access, of each length."""
        shared: Any = {"examples": self.access_examples, "free_running": self.free_running, "part": self.part}
        shared |= {"seed": self.seed, "device": self.device}
        return tuple(AccessConfig(chunks=chunks, **shared) for chunks in self.access_chunks or (None,))

    @property
    def attribution_config(self) -> AttributionConfig | None:
        """The part that attributes tokens to memories, at the first length, hiding one after the other; None: none."""
        first = self.access_chunks[0] if self.access_chunks else None
        if not self.attribution or (first or 0) > LONG:
            return None
        return AttributionConfig(
            texts=self.attribution, chunks=first, part=self.part, seed=self.seed, device=self.device
        )
