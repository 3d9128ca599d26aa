"""The whole story on a small real corpus, on two CPU cores: prepare, train, measure, report.

It tells the paper's claims: embeddings of language models hold little of their input (C1), those of autoencoders are
nearly perfect memories (C2), memories in the place of tokens save computation (C3), a memory model that only predicts
next tokens forms memories without use (C4), one that also has to retain learns to form and to read them (C5), and a
curriculum over a frozen encoder gets there in fewer steps (C6). Every step is kept in its folder, so that a demo that
was stopped goes on where it was. Whatever the numbers are, they are shown as they are.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from memlm import presets
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.nn.config import StackConfig
from memlm.ranges import Checked, Natural, Positive
from memlm.train.config import Curriculum, OptimConfig, TrainConfig
from memlm.train.table import Run, train_table

# One optimiser for all, the best one found for each (LOG.md). Sizes and steps are such that all fits into twelve
# minutes: the stacks of the paper's models have half the MLP of their presets.
MUON = OptimConfig(kind="muon", lr=1e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0, warmup=20)
# Less than the protocol's: two of three families, two budgets, two seeds.
PROBE = ProbeConfig(families=("linear", "slots"), train_chunks=(3000, 12_000), seeds=2, steps=300, batch=64)
CONTEXTS = 1024, 4096, 16384  # whose cost is measured ...
COST_SECONDS = 60.0  # ... as far as a side gets in so long
SEEDS = 3  # of the tables of `--full`


def runs() -> dict[str, TrainConfig]:
    """What tells C1 and C2: our autoencoder, the paper's, and language models on the same stacks."""
    return {
        "slots": replace(presets.slots(), steps=800),
        "mixer": small(presets.mixer()),
        "transformer": small(presets.transformer()),
        "causal-mixer": small(presets.causal_mixer()),
        "causal-transformer": small(presets.causal_transformer()),
    }


def memory_runs(autoencoder: Path) -> dict[str, Run]:
    """What tells C4 to C6: the paper's on next tokens alone; ours by curriculum, on next tokens alone, and directly.

    The last two start from the curriculum's autoencoder: `memory-causal` has as many causal tokens, `memory-direct` as
    many decoder steps, all on the last stage's objective.
    """
    curriculum = presets.memory_curriculum()
    last = replace(curriculum.stages["combined"], start=autoencoder, shrink_perturb=0.0)
    return {
        "memory-vector": presets.memory_vector(),
        "memory-curriculum": curriculum,
        "memory-causal": replace(last, objective="causal"),
        "memory-direct": replace(last, steps=last.steps + curriculum.stages["read"].steps),
    }


def full_runs(autoencoder: Path) -> dict[str, Run]:
    """What `--full` adds of every seed: all from scratch, on all objectives and on next tokens alone; a confound of C6.

    `memory-fresh` is the curriculum with the encoder's word embeddings trained anew, the reference's way.
    """
    stages, scratch = presets.memory_curriculum().stages, presets.memory_soft()
    frozen = ("encoder.readout", "encoder.norm", "reader.text")
    read = replace(stages["read"], start=autoencoder, fresh_embedding=True, frozen=frozen)
    again = replace(stages["combined"], frozen=frozen)
    return {
        "memory-scratch": scratch,
        "memory-scratch-causal": replace(scratch, objective="causal"),
        "memory-fresh": Curriculum(stages={"read": read, "combined": again}),
    }


def single_runs() -> dict[str, Run]:
    """What `--full` adds of one seed: the baselines."""
    return {
        "memory-none": presets.memory_none(),
        "memory-full": presets.memory_full(),
        "memory-recurrent": presets.memory_recurrent(),
        "memory-oracle": presets.memory_oracle(),
    }


@dataclass(frozen=True, kw_only=True)
class Demo(Checked):
    """What the demo shows and where it keeps it."""

    out: Path = Path("runs/demo")  # everything goes in here
    source: str = "gutenberg"  # a named corpus, a file or a folder
    scale: Positive = 1.0  # of every training budget; less only shows that it works
    seed: Natural = 0
    full: bool = False  # three seeds, baselines and controls of memory models: about an hour


def demo(config: Demo) -> dict[str, Any]:
    """Run what is left of the demo.

    Returns:
        the measurement of retention (`results`, `samples`, ...) with `access` (of the memory models), `report`, the
        page's path, and `train_seconds` of training by run.
    """
    from memlm import ui
    from memlm.data.prepare import Prepare, prepare
    from memlm.measure.run import measure
    from memlm.report.page import write_report

    ui.say("1/6 corpus")
    data = config.out / "data"
    prepare(Prepare(source=config.source, out=data, seed=config.seed))
    ui.say("2/6 autoencoders, whose embedding shall hold the text, and causal language models")
    seconds = train_table(runs(), config.out, data=data, seed=config.seed, scale=config.scale)
    ui.say("3/6 what each embedding holds: a fresh decoder of the same budget for each, and controls")
    probe = replace(PROBE, steps=max(1, round(PROBE.steps * config.scale)), seed=config.seed)
    wanted = MeasureConfig(probe=probe, chunks=1024, seed=config.seed)
    report = measure([str(config.out / name) for name in runs()], data, config.out / "retention", wanted)
    ui.say("4/6 memory models, and what they get from their memories")
    named = _memory_runs(config)
    for seed, some in named.items():
        seconds |= train_table(some, config.out, data=data, seed=seed, scale=config.scale)
    models = [str(config.out / name) for some in named.values() for name in some]
    models.append(str(config.out / "memory-curriculum" / "autoencoder"))  # what its encoder could do at best (C4)
    wanted = replace(wanted, access_examples=256, free_running=32, attribution=64)
    beside = "access-full" if config.full else "access"
    access = measure(models, data, config.out / beside, wanted)
    ui.say("5/6 what a context costs: a decoder that reads memories, and one that reads all tokens")
    _cost(config)
    ui.say("6/6 report")
    page = config.out / "report.html"
    # By name: the other demo's measurement of access may stand there too, with some of the same rows.
    shown = [*runs(), *(name for some in named.values() for name in some), "retention", beside, "cost"]
    write_report([config.out / name for name in shown], page)
    return {**report, "access": access["access"], "report": str(page), "train_seconds": seconds}


def _cost(config: Demo) -> None:
    """C3: `memlm bench memory` at the contexts that a demo has time for, kept as it is."""
    from memlm.bench.form import Options
    from memlm.bench.memory import run

    folder = config.out / "cost"
    if not (folder / "memory.json").exists():
        contexts = [n for n in CONTEXTS if n <= max(CONTEXTS[0], config.scale * CONTEXTS[-1])]
        options = Options(data=config.out / "data", out=folder, seconds=COST_SECONDS)
        run(options, contexts=contexts, brief=True).save(folder)


def _memory_runs(config: Demo) -> dict[int, dict[str, Run]]:
    """By seed, the memory models of the demo; further seeds have them in their names."""
    named = {}
    for seed in range(config.seed, config.seed + (SEEDS if config.full else 1)):
        mark = "" if seed == config.seed else f"-seed{seed}"
        autoencoder = config.out / f"memory-curriculum{mark}" / "autoencoder"
        every = memory_runs(autoencoder) | (full_runs(autoencoder) if config.full else {})
        named[seed] = {f"{name}{mark}": run for name, run in every.items()}
    if config.full:
        named[config.seed] |= single_runs()
    return named


def small(config: TrainConfig) -> TrainConfig:
    """A paper's model at the demo's size."""
    config = replace(config, steps=100, batch=32, optim=MUON)
    stacks = {f.name: f for f in fields(config.model) if f.type in (StackConfig, "StackConfig")}
    smaller = {name: replace(getattr(config.model, name), expansion=2) for name in stacks}
    return replace(config, model=replace(config.model, **smaller))
