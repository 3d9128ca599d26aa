"""What commands left, as data: what each command wrote, and which runs started from which."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
CONTROLS = {"untrained": "untrained twin", "shuffled": "shuffled memories", "random-tokens": "random tokens"}
CONTROLS |= {"none": "no memory"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one command wrote into a folder, or the part of it that has a section of its own."""

    kind: str
    name: str
    path: Path
    rows: list[Row]  # of training: the metrics
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    samples: list[Row] = field(default_factory=list)  # texts, token by token
    ceilings: list[Row] = field(default_factory=list)  # what needs no probe
    curves: list[Row] = field(default_factory=list)  # of probes, by budget
    given: list[Row] = field(default_factory=list)  # beside a language model's guesses
    summary: Row = field(default_factory=dict)  # of training: where it ended, if it has; of a benchmark: its ratios
    stages: tuple[str, ...] = ()  # of the curriculum that it belongs to, in their order; its folder is the parent
    chain: tuple["Run", ...] = ()  # itself, what it started from, what that started from, as far as they are known

    @property
    def last(self) -> Row:
        """Its newest figures."""
        return self.summary or (self.rows[-1] if self.rows else {})

    @property
    def places(self) -> list[tuple[str, ...]]:
        """The folders under which its model is found: a curriculum's is that of its last stage."""
        path = self.path.resolve()
        return [path.parts, *([path.parent.parts] if self.stages and path.name == self.stages[-1] else [])]


class Runs(NamedTuple):
    """Everything that was read, in the order in which it was named; training runs as they were measured."""

    measurement: list[Run]  # retention (memlm measure): rows of one share data, chunk length and probe
    access: list[Run]  # what models get from memories
    attribution: list[Run]  # what single tokens owe to memories
    evaluation: list[Run]  # tasks of lm-eval (memlm eval)
    benchmark: list[Run]  # what contexts cost (memlm bench memory)
    experiment: list[Run]  # what memlm claims measured beside the claims
    training: list[Run]  # memlm train

    @property
    def models(self) -> list[str]:
        """Names of all models, measured ones first, each once; controls belong to the model they control."""
        measured = [owner(row) for run in self.measurement for row in run.rows if row["training"] != "none"]
        asked = [row["model"] for run in (*self.access, *self.evaluation) for row in run.rows]
        return list(dict.fromkeys([*measured, *asked, *(run.name for run in self.training)]))

    def of(self, model: str, near: Path) -> Run | None:
        """The run that a measured model is of: the one of that name, of several the one nearest to the measurement.

        A curriculum's name means its last stage. None where the name does not tell.
        """
        return _nearest([r for r in self.training if model in (r.name, *(place[-1] for place in r.places))], near)


def owner(row: Row) -> str:
    """The model that a row is about: an untrained twin is about the model it is the twin of."""
    return row.get("twin_of", row["model"])


def is_control(row: Row) -> bool:
    """Whether a row is there to be compared with."""
    return row["training"] in CONTROLS


def linked(training: list[Run]) -> list[Run]:
    """The same runs, each knowing those that it started from."""

    def chain(run: Run | None, seen: tuple[Path, ...] = ()) -> Iterator[Run]:
        if run and run.path not in seen:
            yield run
            yield from chain(_start(run, training), (*seen, run.path))

    return [replace(run, chain=tuple(chain(run))) for run in training]


def _start(run: Run, training: list[Run]) -> Run | None:
    """The run that it started from."""
    wanted = Path(str(run.config.get("start") or "\0").removesuffix("/model")).parts
    others = [other for other in training if other.path.resolve() != run.path.resolve()]
    return _nearest([o for o in others if any(place[-len(wanted) :] == wanted for place in o.places)], run.path)


def _nearest(runs: list[Run], near: Path) -> Run | None:
    """The run that shares most of its path with `near`; None if several do."""

    def shared(run: Run) -> int:
        pairs = zip(run.path.resolve().parts, near.resolve().parts, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    most = max(map(shared, runs), default=0)
    closest = [run for run in runs if shared(run) == most]
    return closest[0] if len(closest) == 1 else None
