"""Where a run comes from: what it started from, which seeds repeat it, and whom a measured name means."""

import json
import re
from itertools import takewhile
from pathlib import Path

from memlm.errors import UsageError
from memlm.objectives.names import parse
from memlm.report.runs import TrainingRun
from memlm.report.text import figure_of

CLOSE = 0.05  # budgets that differ by no more than this share are told as equal


def objectives_of(run: TrainingRun) -> dict[str, int]:
    """The objectives of a run, each of every how many windows; empty for one that this version does not know."""
    try:
        return {part.name: part.share for part in parse(str(run.config.get("objective")))}
    except UsageError:
        return {}


def reads_memories(run: TrainingRun) -> bool:
    """Whether a run trains a decoder that reads memories of earlier chunks; baselines read none."""
    shape = run.config.get("model")
    return isinstance(shape, dict) and shape.get("reader") in ("vector", "slots", "soft", "select")


def encoder_frozen(run: TrainingRun) -> bool:
    """Whether the encoder stays as it was, or what of it is not learnt anew."""
    return any(str(part).split(".")[0] == "encoder" for part in run.config.get("frozen") or ())


def run_of(training: list[TrainingRun], model: str, near: Path) -> TrainingRun | None:
    """The run that a measured model is of: the one of that name, of several the one nearest to the measurement.

    A curriculum's name means its last stage. None where the name does not tell.
    """
    return _nearest([run for run in training if model in _called(run)], near)


def chain(run: TrainingRun, training: list[TrainingRun]) -> list[TrainingRun]:
    """A run, the one it started from, the one that started from, as far as they are known."""
    found = [run]
    while (before := _start(found[-1], training)) and before not in found:
        found.append(before)
    return found


def decoder_steps(run: TrainingRun, training: list[TrainingRun]) -> float:
    """Optimiser steps of its decoder, those of the earlier stages that had one included."""
    return sum(figure_of(one.last, "step") or 0 for one in chain(run, training) if reads_memories(one))


def causal_tokens(run: TrainingRun, training: list[TrainingRun]) -> float:
    """Tokens that its decoder has learnt to predict from those before."""
    runs = [one for one in chain(run, training) if reads_memories(one) and "causal" in objectives_of(one)]
    return sum((figure_of(one.last, "tokens") or 0) / objectives_of(one)["causal"] for one in runs)


def about_equal(one: float, other: float) -> bool:
    """Whether two budgets are told as equal."""
    return min(one, other) > 0 and abs(one - other) <= CLOSE * max(one, other)


def unseeded(name: str) -> str:
    """The name that seeds share: `slots-seed0`, `slots_seed1` and `seed2/slots` are all `slots`."""
    parts = [re.sub(r"[-_.]?seed[-_]?\d+$", "", part) for part in name.split("/")]
    return "/".join(part for part in parts if part) or name


def recipe(run: TrainingRun, training: list[TrainingRun]) -> str:
    """All that decides a run but the seed, its start's recipe included: equal for seeds of one config."""
    config = {key: value for key, value in run.config.items() if key not in ("seed", "start")}
    before = chain(run, training)[1:]
    start = recipe(before[0], before) if before else unseeded(str(run.config.get("start")))
    return json.dumps([config, start], sort_keys=True)


def _start(run: TrainingRun, training: list[TrainingRun]) -> TrainingRun | None:
    start = run.config.get("start")
    if not isinstance(start, str):
        return None
    wanted = Path(start.removesuffix("/model")).parts
    others = [other for other in training if other.path.resolve() != run.path.resolve()]
    return _nearest([o for o in others if any(place[-len(wanted) :] == wanted for place in _places(o))], run.path)


def _places(run: TrainingRun) -> list[tuple[str, ...]]:
    """The folders under which a run's model is found."""
    path = run.path.resolve()
    return [path.parts, *([path.parent.parts] if run.ends_curriculum else [])]


def _called(run: TrainingRun) -> set[str]:
    return {run.name, *(place[-1] for place in _places(run))}


def _nearest(runs: list[TrainingRun], near: Path) -> TrainingRun | None:
    """The run that shares most of its path with `near`; None if several do."""

    def shared(run: TrainingRun) -> int:
        pairs = zip(run.path.resolve().parts, near.resolve().parts, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    most = max(map(shared, runs), default=0)
    closest = [run for run in runs if shared(run) == most]
    return closest[0] if len(closest) == 1 else None
