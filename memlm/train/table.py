"""A table of runs, trained into folders of their names; what is there already is not trained again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from memlm.train.config import Curriculum, TrainConfig

Run = TrainConfig | Curriculum
LOOKS = 5  # at held-out text on the way


def train_table(
    named: Mapping[str, Run], out: Path, *, data: Path, seed: int, scale: float = 1.0, looked_at: int = 256
) -> dict[str, float]:
    """Train what is not trained yet; seconds of training by name.

    Args:
        named: runs and curricula by name, in an order in which all start from earlier ones.
        out: the folder that theirs are in.
        data: what all are trained on.
        seed: of all.
        scale: of every run's steps.
        looked_at: held-out chunks at each of a run's looks, at most: a run whose looks are dear asks for fewer.
    """
    from memlm.train.curriculum import train_curriculum
    from memlm.train.loop import train

    seconds = {}
    for name, run in named.items():
        if isinstance(run, Curriculum):
            run = run.each(data=data, seed=seed)
            run = replace(run, stages={stage: scaled(one, scale, looked_at) for stage, one in run.stages.items()})
            summary = train_curriculum(run, out / name, resume=True)
            seconds[name] = sum(stage["train_seconds"] for stage in summary["stages"].values())
        else:
            run = scaled(replace(run, data=data, seed=seed), scale, looked_at)
            seconds[name] = train(run, out / name, resume=True)["train_seconds"]
    return seconds


def scaled(config: TrainConfig, scale: float, looked_at: int) -> TrainConfig:
    """A share of a run's steps; held-out figures five times on the way."""
    steps = max(1, round(config.steps * scale))
    every = max(1, steps // LOOKS)
    looked_at = min(looked_at, config.eval_chunks)
    return replace(config, steps=steps, eval_every=every, eval_chunks=looked_at, checkpoint_every=every)
