"""The whole story on a small real corpus, on two CPU cores: prepare, train, measure, report.

It tells two claims of the paper: embeddings of language models hold little of their input (C1), and embeddings of
autoencoders are nearly perfect memories (C2). Every step is kept in its folder, so that a demo that was stopped goes
on where it was. Whatever the numbers are, they are shown as they are.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memlm import presets
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.memory.shapes import CausalShape
from memlm.train.config import OptimConfig, TrainConfig

# One optimiser for all, the best one found for each (LOG.md). Sizes and steps are such that all fits into ten minutes:
# the stacks of the paper's models have half the MLP of their presets.
MUON = OptimConfig(kind="muon", lr=1e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0, warmup=20)
PROBE = ProbeConfig(train_chunks=12_000, steps=300, batch=64)


def runs() -> dict[str, TrainConfig]:
    """The models of the demo: ours, the paper's autoencoders, and language models on the same stacks."""
    return {
        "slots": replace(presets.slots(), steps=900),
        "mixer": _small(presets.mixer()),
        "transformer": _small(presets.transformer()),
        "causal-mixer": _small(presets.causal_mixer()),
        "causal-transformer": _small(presets.causal_transformer()),
    }


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo shows and where it keeps it."""

    out: Path = Path("runs/demo")  # everything goes in here
    source: str = "gutenberg"  # a named corpus, a file or a folder
    scale: float = 1.0  # of every training budget; less only shows that it works
    seed: int = 0


def demo(config: Demo) -> dict[str, Any]:
    """Run what is left of the demo.

    Returns:
        the measurement (`results`, `samples`, ...) with `report`, the page's path, and `seconds` of training.
    """
    from memlm import ui
    from memlm.data.prepare import Prepare, prepare
    from memlm.measure.run import measure
    from memlm.report.page import write_report
    from memlm.train.loop import train

    ui.say("1/4 corpus")
    prepare(Prepare(source=config.source, out=config.out / "data", seed=config.seed))
    ui.say("2/4 autoencoders, whose embedding shall hold the text, and causal language models")
    seconds = {}
    for name, run in runs().items():
        run = _scaled(replace(run, data=config.out / "data", seed=config.seed), config.scale)
        seconds[name] = train(run, config.out / name, resume=True)["train_seconds"]
    ui.say("3/4 what each embedding holds: a fresh decoder of the same budget for each, and controls")
    probe = replace(PROBE, steps=max(1, round(PROBE.steps * config.scale)), seed=config.seed)
    wanted = MeasureConfig(probe=probe, chunks=1024, seed=config.seed)
    models = [str(config.out / name) for name in runs()]
    report = measure(models, config.out / "data", config.out / "retention", wanted)
    ui.say("4/4 report")
    page = config.out / "report.html"
    write_report([config.out], page)
    return {**report, "report": str(page), "train_seconds": seconds}


def _small(config: TrainConfig) -> TrainConfig:
    """A paper's model at the demo's size."""
    config = replace(config, steps=150, batch=32, optim=MUON)
    if isinstance(config.model, CausalShape):
        return replace(config, model=replace(config.model, stack=replace(config.model.stack, expansion=2)))
    encoder, decoder = (replace(stack, expansion=2) for stack in (config.model.encoder, config.model.decoder))
    return replace(config, model=replace(config.model, encoder=encoder, decoder=decoder))


def _scaled(config: TrainConfig, scale: float) -> TrainConfig:
    """A share of a run's steps; held-out figures five times on the way."""
    steps = max(1, round(config.steps * scale))
    every = max(1, steps // 5)
    return replace(config, steps=steps, eval_every=every, eval_chunks=256, checkpoint_every=every)
