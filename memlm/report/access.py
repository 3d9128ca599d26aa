"""Rows of access to memory under the models that they are about; seeds of one config stand together, as a mean."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from memlm.report.lineage import recipe, run_of, unseeded
from memlm.report.runs import Access, Row, Runs, TrainingRun
from memlm.report.text import figure_of, interval_of, span

Form = Callable[[float], str]


@dataclass(frozen=True)
class Told:
    """A figure with what is known of its spread: 95 % over examples of one seed, from lowest to highest of several."""

    value: float
    interval: tuple[float, float] | None
    seeds: int

    def spread(self, form: Form) -> str:
        """The interval; empty if there is none."""
        return span(self.interval, form) if self.interval else ""


@dataclass(frozen=True)
class Accessed:
    """One model in one measurement."""

    name: str
    rows: list[Row]
    source: Access
    run: TrainingRun | None  # that trained it, where that one is known

    def row(self, task: str, metric: str, memory: str, mode: str | None = None) -> Row | None:
        """The row of a figure over all places."""
        asked = {"task": task, "metric": metric, "memory": memory, "group": None}
        asked |= {"mode": mode} if mode else {}
        return next((row for row in self.rows if all(row[key] == value for key, value in asked.items())), None)

    def about(self, key: str) -> str:
        """What all of its rows say: its kind, its reader."""
        return str(next((row[key] for row in self.rows if row.get(key) is not None), ""))


@dataclass(frozen=True)
class Model:
    """A model, or several that differ in their seed alone."""

    name: str
    seeds: list[Accessed]

    @property
    def first(self) -> Accessed:
        """The one that says what is the same for all."""
        return self.seeds[0]

    @property
    def runs(self) -> list[TrainingRun]:
        """The runs that trained it, one for each seed; empty unless all are known."""
        runs = [one.run for one in self.seeds if one.run]
        return runs if len(runs) == len(self.seeds) else []

    def told(self, task: str, metric: str, memory: str, mode: str | None = None) -> Told | None:
        """A figure over all places; None unless every seed has it."""
        return summarised([one.row(task, metric, memory, mode) for one in self.seeds])

    def curve(self, task: str, metric: str, memory: str, group: str) -> list[tuple[int, Told]]:
        """A figure at every chunk, distance or depth."""
        wanted = (task, metric, memory, group)
        places: dict[int, list[Row | None]] = {}
        for one in self.seeds:
            for row in one.rows:
                if (row["task"], row["metric"], row["memory"], row["group"]) == wanted and isinstance(row["at"], int):
                    places.setdefault(row["at"], []).append(row)
        whole = [(at, summarised(rows)) for at, rows in sorted(places.items()) if len(rows) == len(self.seeds)]
        return [(at, told) for at, told in whole if told]


@dataclass(frozen=True)
class Setting:
    """Models that were asked the same: the same text, in chunks of the same length and number."""

    models: list[Model]

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for model in self.models for one in model.seeds for row in one.rows]

    def chance(self, task: str, key: str = "chance") -> float | None:
        """The accuracy of a guess, if it is the same for all models."""
        values = {figure_of(row, key) for row in self.rows if row["task"] == task} - {None}
        return values.pop() if len(values) == 1 else None


def summarised(rows: list[Row | None], key: str = "value") -> Told | None:
    """One seed's figure and interval, or the mean of several and their range; None if a seed is without."""
    values = [figure_of(row, key) if row else None for row in rows]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(rows):
        return None
    if len(known) == 1:
        assert rows[0] is not None
        return Told(known[0], interval_of(rows[0], key), 1)
    return Told(sum(known) / len(known), (min(known), max(known)), len(known))


def settings_of(runs: Runs) -> list[Setting]:
    """Everything measured of access, in the order of measuring."""
    settings: dict[tuple[object, ...], list[Accessed]] = {}
    for one in accessed(runs):
        causal = one.row("causal", "cross_entropy", "own") or one.rows[0]
        asked = tuple(causal.get(key) for key in ("data", "vocab_size", "chunk_tokens", "chunks"))
        settings.setdefault(asked, []).append(one)
    return [Setting(_by_config(models, runs.training)) for models in settings.values()]


def accessed(runs: Runs) -> list[Accessed]:
    """Every measured model; one name in several measurements has its run's or its measurement's in front."""
    found: list[Accessed] = []
    for access in runs.access:
        rows: dict[str, list[Row]] = {}
        for row in access.rows:
            rows.setdefault(str(row["model"]), []).append(row)
        found += [Accessed(m, part, access, run_of(runs.training, m, access.path)) for m, part in rows.items()]
    often = Counter(one.name for one in found)
    trained = Counter(one.run.name for one in found if one.run)

    def name(one: Accessed) -> str:
        if often[one.name] == 1:
            return one.name
        return one.run.name if one.run and trained[one.run.name] == 1 else f"{one.source.name}/{one.name}"

    return [Accessed(name(one), one.rows, one.source, one.run) for one in found]


def _by_config(models: list[Accessed], training: list[TrainingRun]) -> list[Model]:
    """Seeds of one config as one model; without their runs, their names and kinds tell which they are."""
    groups: dict[str, list[Accessed]] = {}
    for one in models:
        same = (unseeded(one.name), one.about("kind"), one.about("reader"))
        groups.setdefault(recipe(one.run, training) if one.run else str(same), []).append(one)
    found: list[Model] = []
    for seeds in groups.values():
        marks = [one.run.config.get("seed") if one.run else one.name for one in seeds]
        if len(set(marks)) < len(marks):  # the same seed twice is no second opinion
            found += [Model(one.name, [one]) for one in seeds]
        else:
            found.append(Model(unseeded(seeds[0].name) if len(seeds) > 1 else seeds[0].name, seeds))
    return found
