"""What a report is made of: training runs, measurements, evaluations and benchmarks, as data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    stages: tuple[str, ...] = ()  # of the curriculum that it belongs to, in their order; its folder is the parent

    @property
    def last(self) -> Row:
        """Its newest figures."""
        return self.summary or (self.metrics[-1] if self.metrics else {})

    @property
    def ends_curriculum(self) -> bool:
        """Whether its model is what a curriculum was for."""
        return bool(self.stages) and self.path.resolve().name == self.stages[-1]


@dataclass(frozen=True)
class Measurement:
    """Retention, made by `memlm measure`: all of its rows share data, chunk length and probe."""

    name: str
    path: Path
    results: list[Row]
    samples: list[Row]
    environment: dict[str, Any]
    config: dict[str, Any]
    ceilings: list[Row] = field(default_factory=list)  # what needs no probe (measure/ceilings.py)


@dataclass(frozen=True)
class Access:
    """What models get from their memories, made by `memlm measure` too: one number a row (measure/access.py)."""

    name: str
    path: Path
    rows: list[Row]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Attribution:
    """What single tokens owe to memories, made by `memlm measure` too (measure/attribution.py)."""

    name: str
    path: Path
    rows: list[Row]
    samples: list[Row]


@dataclass(frozen=True)
class Evaluation:
    """What models answer to tasks of lm-eval, made by `memlm eval` (evaluate/run.py)."""

    name: str
    path: Path
    rows: list[Row]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """What `memlm bench memory` found (bench/form.py)."""

    name: str
    path: Path
    rows: list[Row]
    ratios: dict[str, Any]
    facts: dict[str, Any]  # setting, machine, commit


@dataclass(frozen=True)
class Runs:
    """Everything a report is made of, in the order in which it was named; training runs as they were measured."""

    measurements: list[Measurement]
    training: list[TrainingRun]
    access: list[Access]
    attributions: list[Attribution]
    evaluations: list[Evaluation]
    benchmarks: list[Benchmark]

    @property
    def models(self) -> list[str]:
        """Names of all models, measured ones first, each once; controls belong to the model they control."""
        measured = [owner(row) for m in self.measurements for row in m.results if row["training"] != "none"]
        asked = [row["model"] for found in (*self.access, *self.evaluations) for row in found.rows]
        return list(dict.fromkeys([*measured, *asked, *(run.name for run in self.training)]))


Run = TrainingRun | Measurement | Access | Attribution | Evaluation | Benchmark


def owner(row: Row) -> str:
    """The model that a row is about: an untrained twin is about the model it is the twin of."""
    return row.get("twin_of", row["model"])
