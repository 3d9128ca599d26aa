"""Training runs as data. No torch here: a command line that only prints its options reads this."""

import re
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Literal, Self

from memlm.errors import UsageError
from memlm.kinds import AutoencoderShape, ModelShape
from memlm.objectives.names import parse


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and the course of its learning rate, in steps so that a run can be repeated exactly."""

    kind: Literal["adamw", "muon"] = "adamw"  # muon: orthogonalised momentum for hidden matrices, AdamW for the rest
    lr: float = 2e-3  # AdamW's
    matrix_lr: float = 2e-2  # Muon's
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.0
    warmup: int = 50  # steps of linear rise
    decay_from: float = 0.3  # share of the steps after which the rate falls linearly ...
    final: float = 0.02  # ... to this share of itself
    clip: float = 1.0  # the gradient's norm; 0 leaves it alone

    def __post_init__(self) -> None:
        for name in ("lr", "matrix_lr"):
            if not 0 < getattr(self, name) < inf:
                raise UsageError(f"{name} is a learning rate: a number above 0, not {getattr(self, name)}.")
        for name in ("weight_decay", "clip", "warmup"):
            if not 0 <= getattr(self, name) < inf:
                raise UsageError(f"{name} must be 0 or a number above it, not {getattr(self, name)}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is a share from 0 up to 1, not {getattr(self, name)}.")
        if not 0 <= self.decay_from <= 1 or not 0 <= self.final <= 1:
            raise UsageError("decay_from and final are shares between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run; its folder holds it resolved, and it can be run again from there."""

    data: Path = Path("data")  # a folder made by memlm prepare
    model: ModelShape = field(default_factory=AutoencoderShape)
    objective: str = "autoencode"  # autoencode, causal, copy, blank, recall, or several: causal+0.5*blank
    context: int = 0  # chunks before an example that are read and not predicted: 1 to so many, drawn for each batch
    start: Path | None = None  # a run or saved folder to take weights from; a bare name: first, a run beside this one
    frozen: tuple[str, ...] = ()  # parts that are not trained, as parameters are named: encoder, reader.text, ...
    shrink_perturb: float = 0.0  # r of the decoder's blocks: W <- (1 - r) W + r W_init (Ash and Adams, 2020)
    fresh_embedding: bool = False  # the encoder's word embeddings start anew and train, whatever is frozen (paper, E6)
    cache_memories: Literal["auto", "on", "off"] = "auto"  # a frozen encoder's, read from disk: train/memories.py
    steps: int = 1000
    batch: int = 128  # chunks a process reads at once
    accumulate: int = 1  # such batches for one step of the optimiser
    optim: OptimConfig = field(default_factory=OptimConfig)
    seed: int = 0
    eval_every: int = 100
    eval_chunks: int = 512  # held-out chunks scored each time, evenly spread; the last time four times as many
    checkpoint_every: int = 500
    keep: int = 2  # checkpoints
    max_seconds: float | None = None  # of training: stop there, whatever is left of the schedule
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: fp32 on CPU, bf16 on GPU
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on GPU, for runs of 2,000 batches and more
    trackers: tuple[str, ...] = ()  # of accelerate: tensorboard, trackio, wandb, ...

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "eval_every", "eval_chunks", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.context < 0:
            raise UsageError(f"context is a number of chunks, 0 or more, not {self.context}.")
        if self.max_seconds is not None and not 0 < self.max_seconds < inf:
            raise UsageError(f"max_seconds must be above 0, not {self.max_seconds}: leave it out for no end.")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"a seed is a whole number from 0 up to 2^63, not {self.seed}.")
        if not {part.name for part in parse(self.objective)} <= self.model.objectives:
            known = ", ".join(sorted(self.model.objectives))
            raise UsageError(
                f"the objective {self.objective} does not fit a model of kind {self.model.kind}, which knows {known}."
            )
        if not 0 <= self.shrink_perturb < 1 or (self.shrink_perturb and self.start is None):
            raise UsageError("shrink_perturb is a share from 0 up to 1 of what a run starts with: set --start too.")
        if self.fresh_embedding and "encoder.embed" in self.frozen:
            raise UsageError(
                "encoder.embed cannot be frozen and trained anew: leave one out, frozen or fresh_embedding."
            )


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Runs one after the other, by name, each in a folder of that name; `start` may name an earlier one.

    The paper's: an autoencoder, whose frozen encoder a memory model starts from; blank copies, so that its decoder
    learns to read memories; copies; then all together (paper, Curriculum).
    """

    stages: dict[str, TrainConfig]

    def __post_init__(self) -> None:
        if not self.stages:
            raise UsageError("a curriculum needs at least one stage.")
        before: set[str] = set()
        for name, config in self.stages.items():
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) or name in ("model", "checkpoints"):
                raise UsageError(f"{name!r} cannot name a stage: take lower-case letters, digits, - and _.")
            if str(config.start) in self.stages.keys() - before:
                raise UsageError(f"the stage {name} starts from {config.start}, which does not come before it.")
            before.add(name)
        for shared in ("device", "precision"):  # a process settles these once
            if len({getattr(config, shared) for config in self.stages.values()}) > 1:
                raise UsageError(f"the stages of a curriculum need one and the same {shared}: set --{shared}.")

    @property
    def last(self) -> str:
        """The name of the last stage, whose model is what the curriculum is for."""
        return list(self.stages)[-1]

    def each(self, **changes: Any) -> Self:
        """The curriculum with fields changed in every stage."""
        return replace(self, stages={name: replace(config, **changes) for name, config in self.stages.items()})
