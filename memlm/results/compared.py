"""Figures under the models that they are about: seeds of one config stand together, as a mean, and share a colour."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from memlm.results.lineage import last_stage, recipe, unseeded
from memlm.results.runs import Row, Run, Runs, owner
from memlm.results.text import Told, figure_of, told

COLOURS = 8  # that can be told apart
TRAINED = ", trained symbols"
# What of a row says which figure it is, in the order in which figures are asked for.
_KEYS = {"access": ("task", "memory", "metric", "mode", "group", "at")}
_KEYS |= {"attribution": ("text", "places", "figure", "metric", "against")}


class Measured(NamedTuple):
    """One model in one measurement."""

    name: str
    rows: list[Row]
    source: Run
    run: Run | None  # that trained it, where that one is known

    def about(self, key: str) -> str:
        """What all of its rows say: its kind, its reader."""
        return str(next((row[key] for row in self.rows if row.get(key) is not None), ""))


@dataclass(frozen=True)
class Model:
    """A model, or several that differ in their seed alone; the first one says what is the same for all."""

    name: str
    seeds: list[Measured]

    @property
    def first(self) -> Measured:
        """Whose texts are shown, and whose colour."""
        return self.seeds[0]

    @property
    def chunks(self) -> int:
        """How many chunks the texts had that it was asked about; 0 where that is not told."""
        return self.first.rows[0].get("example_chunks") or 0

    @property
    def runs(self) -> list[Run]:
        """The runs that trained it, one for each seed; empty unless all are known."""
        runs = [one.run for one in self.seeds if one.run]
        return runs if len(runs) == len(self.seeds) else []

    @property
    def samples(self) -> list[Row]:
        """The first one's texts, token by token."""
        return [text for text in self.first.source.samples if text["model"] == self.first.rows[0]["model"]]

    @cached_property
    def figures(self) -> dict[tuple[Any, ...], Told]:
        """Every figure that all seeds have, by what says which it is; without a mode it is that of the first one."""
        found: dict[tuple[Any, ...], list[Row]] = {}
        for seed in self.seeds:
            mine: dict[tuple[Any, ...], Row] = {}
            for row in seed.rows:
                key = tuple(row[name] for name in _KEYS[seed.source.kind])
                key = (task_of(row), *key[1:]) if seed.source.kind == "access" else key
                mine.setdefault(key, row)
                mine.setdefault((*key[:3], None, *key[4:]) if seed.source.kind == "access" else key, row)
            for key, row in mine.items():
                found.setdefault(key, []).append(row)
        told = {key: summarised(rows) for key, rows in found.items() if len(rows) == len(self.seeds)}
        return {key: figure for key, figure in told.items() if figure}

    def access(self, task: str, memory: str, metric: str = "token_accuracy", mode: str | None = None) -> Told | None:
        """A figure of access to memory, over all places."""
        return self.figures.get((task, memory, metric, mode, None, None))

    def by_seed(
        self, task: str, memory: str, metric: str = "token_accuracy", mode: str | None = None
    ) -> dict[int, float]:
        """The same of every seed that has it; without a mode it is that of the first row."""
        found: dict[int, float] = {}
        for one in self.seeds:
            for row in one.rows:
                same = (row["task"], row["memory"], row["metric"], row["group"]) == (task, memory, metric, None)
                value = figure_of(row, "value")
                if same and mode in (None, row["mode"]) and value is not None:
                    seed = one.run.config.get("seed") if one.run else row.get("seed")
                    found.setdefault(seed or 0, value)
        return found

    def curve(self, task: str, metric: str, memory: str, group: str) -> list[tuple[int, Told]]:
        """A figure of access at every place of a kind (chunk, distance, depth)."""
        wanted = (task, memory, metric, None, group)
        return sorted((key[5], told) for key, told in self.figures.items() if key[:5] == wanted and key[5] is not None)


def task_of(row: Row) -> str:
    """The task of a row of access; of keys and values that were not unseen ones its name says so."""
    drawn = row["task"].partition("-")[0] in ("facts", "recall", "needle")
    return row["task"] + TRAINED * (drawn and row.get("symbols") != "unseen")


def summarised(rows: list[Row], key: str = "value") -> Told | None:
    """One seed's figure and interval, or the mean of several and their range; None if a seed is without."""
    known = [figure for row in rows if (figure := told(row, key))]
    if not known or len(known) < len(rows):
        return None
    values = [figure.value for figure in known]
    return known[0] if len(known) == 1 else Told(sum(values) / len(values), (min(values), max(values)))


Setting = list[Model]  # that were asked the same: the same text, in chunks of the same length and number


def chance_of(setting: Setting, task: str, key: str = "chance") -> float | None:
    """The accuracy of a guess, if it is the same for all models."""
    rows = [row for model in setting for one in model.seeds for row in one.rows]
    values = {figure_of(row, key) for row in rows if task_of(row) == task} - {None}
    return values.pop() if len(values) == 1 else None


def settings_of(runs: Runs) -> list[Setting]:
    """Everything measured of access, in the order of measuring."""
    settings: dict[tuple[object, ...], list[Measured]] = {}
    for every in _measured(runs, runs.access):
        for length in dict.fromkeys(row.get("example_chunks") for row in every.rows):
            one = every._replace(rows=[row for row in every.rows if row.get("example_chunks") == length])
            causal = next(
                (row for row in one.rows if row["task"] == "causal" and row["value"] is not None), one.rows[0]
            )
            asked = tuple(causal.get(key) for key in ("data", "vocab_size", "chunk_tokens", "chunks"))
            settings.setdefault(asked, []).append(one)
    return [_by_config(models) for models in settings.values()]


def attributed(runs: Runs) -> list[Model]:
    """Every model whose tokens were attributed to memories, in the order of measuring."""
    return _by_config(_measured(runs, runs.attribution))


def series_of(runs: Runs, models: list[Model]) -> dict[str, int]:
    """Each name's place among the colours, the same on the whole page, measured models first.

    A stage that nobody measured has the colour of the stage that its curriculum ends with.
    """
    keys: dict[str, str] = {}
    for run in runs.measurement:
        for name in (owner(row) for row in run.rows if row["training"] != "none"):
            trained = runs.of(name, run.path)
            keys.setdefault(name, unseeded(trained.name if trained else name))
    for model in models:
        for one in model.seeds:
            keys.setdefault(one.name, unseeded(one.run.name if one.run else one.name))
        keys.setdefault(model.name, keys[model.first.name])
    measured = set(keys.values())
    for run in runs.training:
        own = unseeded(run.name)
        keys.setdefault(run.name, own if own in measured or not run.stages else unseeded(last_stage(run)))
    order = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
    return {name: order[key] % COLOURS for name, key in keys.items()}


def _measured(runs: Runs, sources: list[Run]) -> list[Measured]:
    """Every measured model; one name in several measurements has its run's or its measurement's in front."""
    pairs = [(source, name) for source in sources for name in dict.fromkeys(row["model"] for row in source.rows)]
    often = Counter(name for _, name in pairs)
    trained = [runs.of(name, source.path) for source, name in pairs]
    known = Counter(run.name for run in trained if run)
    found = []
    for (source, name), run in zip(pairs, trained, strict=True):
        apart = run.name if run and known[run.name] == 1 else f"{source.name}/{name}"
        rows = [row for row in source.rows if row["model"] == name]
        found.append(Measured(name if often[name] == 1 else apart, rows, source, run))
    return found


def _by_config(models: list[Measured]) -> list[Model]:
    """Seeds of one config as one model; without their runs, their names and kinds tell which they are."""
    groups: dict[str, list[Measured]] = {}
    for one in models:
        same = (unseeded(one.name), one.about("kind"), one.about("reader"))
        groups.setdefault(recipe(one.run.chain) if one.run else str(same), []).append(one)
    found: list[Model] = []
    for seeds in groups.values():
        marks = {one.run.config.get("seed") if one.run else one.name for one in seeds}
        if len(marks) < len(seeds) or len(seeds) == 1:  # the same seed twice is no second opinion
            found += [Model(one.name, [one]) for one in seeds]
        else:
            found.append(Model(unseeded(seeds[0].name), seeds))
    return found
