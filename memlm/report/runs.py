"""Run folders as data: training runs and measurements, recognised by the files they hold."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memlm.errors import UsageError
from memlm.files import read_json
from memlm.train.tracking import read_metrics

Row = dict[str, Any]


@dataclass(frozen=True)
class TrainingRun:
    """A folder made by `memlm train`; one that is not finished yet has no summary."""

    name: str
    path: Path
    config: dict[str, Any]
    metrics: list[Row]
    summary: Row
    environment: dict[str, Any]

    @property
    def causal(self) -> bool:
        """Whether its accuracy is that of next tokens, not of recall."""
        return self.config.get("objective") == "causal"


@dataclass(frozen=True)
class Measurement:
    """A folder made by `memlm measure`: all of its rows share data, chunk length and probe."""

    name: str
    path: Path
    results: list[Row]
    samples: list[Row]
    environment: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True)
class Runs:
    """Everything a report is made of, in the order in which it was named; training runs as they were measured."""

    measurements: list[Measurement]
    training: list[TrainingRun]

    @property
    def models(self) -> list[str]:
        """Names of all models, measured ones first, each once; controls belong to the model they control."""
        measured = [owner(row) for m in self.measurements for row in m.results if row["training"] != "none"]
        return list(dict.fromkeys([*measured, *(run.name for run in self.training)]))


def owner(row: Row) -> str:
    """The model that a row is about: an untrained twin is about the model it is the twin of."""
    return row["model"].removesuffix("-untrained") if row["training"] == "untrained" else row["model"]


def read_runs(paths: Iterable[Path]) -> Runs:
    """Read training runs, measurements and folders that hold some of either one level down.

    Raises:
        UsageError: no paths, one that holds nothing of the kind, or a damaged file.
    """
    found: dict[Path, Measurement | TrainingRun] = {}
    paths = [Path(path) for path in paths]
    if not paths:
        raise UsageError("name at least one run: a folder made by memlm train, measure or demo.")
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path} is not a folder: name one made by memlm train, measure or demo.")
        here = _read(path)
        if not here:
            here = [run for folder in sorted(path.iterdir()) if folder.is_dir() for run in _read(folder)]
        if not here:
            raise UsageError(f"{path} holds neither a training run nor a measurement, nor has a folder that does.")
        for run in here:
            found.setdefault(run.path.resolve() / type(run).__name__, run)
    measurements = _distinct([run for run in found.values() if isinstance(run, Measurement)])
    training = _distinct([run for run in found.values() if isinstance(run, TrainingRun)])
    order = Runs(measurements, training).models
    return Runs(measurements, sorted(training, key=lambda run: order.index(run.name)))


def _read(path: Path) -> list[Measurement | TrainingRun]:
    """The run that a folder is: usually one, none if it is something else."""
    runs: list[Measurement | TrainingRun] = []
    name = path.resolve().name
    if (path / "results.json").exists():
        report = read_json(path / "results.json")
        if _is_measurement(report):
            parts = (report.get("samples") or [], report.get("environment") or {}, report.get("config") or {})
            runs.append(Measurement(name, path, report["results"], *parts))
    if (path / "config.json").exists() and (path / "metrics.jsonl").exists():
        config, summary, environment = (_object(path / f"{part}.json") for part in ("config", "summary", "environment"))
        runs.append(TrainingRun(name, path, config, read_metrics(path / "metrics.jsonl"), summary, environment))
    return runs


def _is_measurement(report: Any) -> bool:
    """Others write a results.json too; ours has rows that say who was measured, how, and how well."""
    rows = report.get("results") if isinstance(report, dict) else None
    needed = {"model", "training", "decoder", "token_accuracy"}
    return isinstance(rows, list) and bool(rows) and all(isinstance(r, dict) and needed <= r.keys() for r in rows)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, empty if the file is not there."""
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object: restore it or leave this run out.")
    return value


def _distinct(runs: list[Any]) -> list[Any]:
    """Runs of one name from different places get their parent's name in front."""
    names = Counter(run.name for run in runs)
    return [
        replace(run, name=f"{run.path.resolve().parent.name}/{run.name}") if names[run.name] > 1 else run
        for run in runs
    ]
