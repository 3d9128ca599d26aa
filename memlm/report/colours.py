"""Which colour a name has, the same on the whole page: seeds of one config share theirs."""

from memlm.report.access import Setting
from memlm.report.figures import SERIES
from memlm.report.lineage import run_of, unseeded
from memlm.report.runs import Runs, TrainingRun, owner


def series_of(runs: Runs, settings: list[Setting]) -> dict[str, int]:
    """Each name's place among the colours, measured models first.

    A stage that nobody measured has the colour of the stage that its curriculum ends with.
    """
    keys: dict[str, str] = {}
    for measurement in runs.measurements:
        for row in measurement.results:
            if row["training"] != "none":
                _put(keys, owner(row), run_of(runs.training, owner(row), measurement.path))
    for model in (model for setting in settings for model in setting.models):
        for one in model.seeds:
            _put(keys, one.name, one.run)
        keys.setdefault(model.name, keys[model.first.name])
    measured = set(keys.values())
    for run in runs.training:
        own = unseeded(run.name)
        keys.setdefault(run.name, own if own in measured or not run.stages else unseeded(last_stage(run)))
    order = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
    return {name: order[key] % len(SERIES) for name, key in keys.items()}


def last_stage(run: TrainingRun) -> str:
    """The name of the run that its curriculum ends with."""
    return f"{run.name.rpartition('/')[0]}/{run.stages[-1]}"


def _put(keys: dict[str, str], name: str, run: TrainingRun | None) -> None:
    keys.setdefault(name, unseeded(run.name if run else name))
