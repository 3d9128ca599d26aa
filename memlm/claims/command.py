"""`memlm claims`: what the rules need is trained, measured and judged, by several processes; what is there stays.

prepare -> train every run of every seed -> figures of a stage once its runs are there -> benchmarks, alone -> page
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memlm import ui
from memlm.claims.config import Claims
from memlm.claims.stages import STAGES, Stage
from memlm.claims.work import Work
from memlm.claims.workers import Task, do_all
from memlm.precision import device_of, restored, settle
from memlm.provenance import cores


def make_claims(config: Claims) -> dict[str, Any]:
    """Do what is left, and write `claims.md` and `claims.json`.

    Returns:
        what claims.json tells, and `page`, the path of claims.md.

    Raises:
        UsageError: the folder was begun with other settings, or the source cannot be read.
        WorkError: as of preparing, training and measuring.
    """
    from memlm.claims.symbols import prepare_symbols
    from memlm.data.prepare import Prepare, prepare
    from memlm.report.claims_page import write_claims
    from memlm.results.decided import figures_of, finished

    begun = time.perf_counter()
    jobs, device = config.jobs or cores(), device_of(config.device)
    figures = [finished(folder) for folder in config.join]
    left = {one for one in config.asked if not any(one in joined.names for joined in figures)}
    if left:
        prepare(Prepare(source=config.source, out=config.out / "data"))
        if "C7" in left:
            prepare_symbols(config.out / "symbols")
        tasks, alone = tasks_of(config, left)
        do_all(tasks, min(jobs, max(1, len(tasks))))
        do_all(alone, 1)
        figures.append(figures_of(config.out))
    minutes = (time.perf_counter() - begun) / 60
    told = {"quick": config.quick, "seeds": config.seeds, "source": config.source, "minutes": round(minutes, 1)}
    told |= {"asked": list(config.asked), "scale": config.scale, "jobs": jobs, "device": str(device)}
    return write_claims(config.out, told | {"joined": len(config.join)}, figures)


def tasks_of(config: Claims, left: set[str]) -> tuple[dict[str, Task], dict[str, Task]]:
    """Tasks of what is left by name, in an order in which they could be done one by one; and those that run alone."""
    tasks: dict[str, Task] = {}
    alone: dict[str, Task] = {}
    for stage_name, stage in STAGES.items():
        if not stage.needed_by & left:
            continue
        for seed in config.every_seed[:1] if stage.one_seed else config.every_seed:
            work = Work(config, seed)
            named = stage.runs(work)
            task_of = {name: f"train {name}, seed {seed}" for name in named}
            for name, run in named.items():
                begins = tuple(task_of[one] for one in named if work.folder(one) == run.start)
                tasks.setdefault(task_of[name], Task(_train, (config, stage_name, name, seed), begins))
            figures = Task(_figures, (config, stage_name, seed), tuple(task_of.values()))
            (alone if stage.alone else tasks)[f"figures of {stage_name}, seed {seed}"] = figures
    return tasks, alone


def _train(config: Claims, stage: str, name: str, seed: int) -> None:
    work, made = Work(config, seed), STAGES[stage]
    with _timed(f"{name}, seed {seed}"):
        work.train(name, made.runs(work)[name], made.data(work))


def _figures(config: Claims, stage: str, seed: int) -> None:
    made: Stage = STAGES[stage]
    work = Work(config, seed)
    with _timed(f"figures of {stage}, seed {seed}"), restored():  # a worker may train next
        settle(work.device)
        made.figures(work)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    """Say when a task begins, and what it took."""
    ui.say(name)
    begun = time.perf_counter()
    yield
    ui.say(f"{name}: {time.perf_counter() - begun:.0f} s")
