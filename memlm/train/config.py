"""Training runs as data. No torch here: a command line that only prints its options reads this."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from memlm.errors import UsageError
from memlm.kinds import AutoencoderShape, ModelShape
from memlm.objectives.names import parse
from memlm.ranges import Checked, Count, Natural, NotNegative, Positive, Share, ShareBelow


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """The optimiser and the course of its learning rate, in steps so that a run can be repeated exactly."""

    kind: Literal["adamw", "muon"] = "adamw"  # muon: orthogonalised momentum for hidden matrices, AdamW for the rest
    lr: Positive = 2e-3  # AdamW's
    matrix_lr: Positive = 2e-2  # Muon's
    matrix_block: Natural = 0  # rows (columns of a tall matrix) made orthogonal together by Muon; 0: all. Wide: 128
    beta1: ShareBelow = 0.9
    beta2: ShareBelow = 0.98
    weight_decay: NotNegative = 0.0
    warmup: Natural = 50  # steps of linear rise
    decay_from: Share = 0.3  # share of the steps after which the rate falls linearly ...
    final: Share = 0.02  # ... to this share of itself
    clip: NotNegative = 1.0  # the gradient's norm; 0 leaves it alone


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """Everything that decides a run; its folder holds it resolved, and it can be run again from there."""

    data: Path = Path("data")  # a folder made by memlm prepare
    model: ModelShape = field(default_factory=AutoencoderShape)
    objective: str = "autoencode"  # autoencode, causal, copy, blank, recall, or several: causal+0.5*blank
    context: Natural = 0  # chunks before an example that are read and not predicted: 1 to so many, drawn for each batch
    start: Path | None = None  # a run or saved folder to take weights from; a bare name: first, a run beside this one
    frozen: tuple[str, ...] = ()  # parts that are not trained, as parameters are named: encoder, reader.text, ...
    shrink_perturb: ShareBelow = 0.0  # r of the decoder's blocks: W <- (1 - r) W + r W_init (Ash and Adams, 2020)
    fresh_embedding: bool = False  # the encoder's word embeddings start anew and train, whatever is frozen (paper, E6)
    cache_memories: Literal["auto", "on", "off"] = "auto"  # a frozen encoder's, read from disk: train/memories.py
    steps: Count = 1000
    batch: Count = 128  # windows read at once, by all processes together
    accumulate: Count = 1  # such batches for one step of the optimiser, which is as if they were one
    parallel: Literal["ddp", "fsdp"] = "ddp"  # of several processes: each has all weights, or a share of each weight
    optim: OptimConfig = field(default_factory=OptimConfig)
    seed: Natural = 0
    eval_every: Count = 100
    eval_chunks: Count = 512  # held-out chunks scored each time, evenly spread; the last time four times as many
    checkpoint_every: Count = 500
    keep: Count = 2  # checkpoints
    max_seconds: Positive | None = None  # of training: stop there, whatever is left of the schedule
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: fp32 on CPU, bf16 on GPU
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on GPU, for runs of 2,000 batches and more
    trackers: tuple[str, ...] = ()  # trackio, tensorboard, wandb, ... (memlm[trackers])

    def __post_init__(self) -> None:
        super().__post_init__()
        if not {part.name for part in parse(self.objective)} <= self.model.objectives:
            known = ", ".join(sorted(self.model.objectives))
            raise UsageError(
                f"the objective {self.objective} does not fit a model of kind {self.model.kind}, which knows {known}."
            )
        if self.shrink_perturb and self.start is None:
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


@dataclass(frozen=True, kw_only=True)
class Adapting(Checked):
    """How a copy head is made."""

    data: Path  # a folder made by memlm prepare, with any tokenizer: the head learns on the text of its part train
    base: str  # the language model: a known name, a folder, a GGUF file, one of the hub; or a run with a head, for lora
    windows: Count = 160  # of 512 tokens whose hidden states are kept; a quarter of them ask for facts
    context: Count = 256  # passages of 32 tokens before a window, at most
    steps: Count = 170
    lr: Positive = 1e-2  # of AdamW
    lora: Natural = 0  # rank of an adapter that learns to read what is opened; 0: none
    lora_layers: Count = 12  # the upper layers that get it
    lora_steps: Count = 44  # of four examples
    lora_lr: Positive = 2e-3
    seed: Natural = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
