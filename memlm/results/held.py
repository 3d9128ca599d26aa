"""What was measured of encoders, seeds of one config together: rows and budget curves of fresh decoders."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from memlm.results import lineage
from memlm.results.rules import BySeed
from memlm.results.runs import Row, Run, Runs, owner
from memlm.results.text import figure_of

USABLE = "usable_bits_per_token"
DOUBLINGS = 4  # of the budget, that a curve is continued by
_SHARED = ("data", "vocab_size", "chunk_tokens", "chunks", "part", "protocol")  # by rows that can be compared


@dataclass
class Held:
    """One encoder, by seed."""

    name: str
    training: str
    decoder: str
    rows: dict[int, Row] = field(default_factory=dict)
    curves: dict[int, list[Row]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)  # that trained it; of a twin, what it is the twin of

    @property
    def config(self) -> dict[str, Any]:
        """What its seeds share; empty where their runs are not known."""
        return self.runs[0].config if self.runs else {}

    @property
    def families(self) -> list[str]:
        """Families of probes that all seeds were read by."""
        return [f for f in self._first.get("families") or {} if all(f in row["families"] for row in self.rows.values())]

    @property
    def _first(self) -> Row:
        return next(iter(self.rows.values()))

    def by_seed(self, key: str) -> BySeed:
        """A figure of its rows."""
        return {seed: value for seed, row in self.rows.items() if (value := figure_of(row, key)) is not None}

    def mean(self, key: str = USABLE) -> float:
        """Its mean over seeds."""
        values = self.by_seed(key).values()
        return sum(values) / len(values) if values else math.nan

    def usable(self, family: str) -> BySeed:
        """Usable bits at the largest budget by a family of probes."""
        found = {seed: figure_of(row["families"][family], USABLE) for seed, row in self.rows.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def continued(self, family: str) -> BySeed:
        """The same after `DOUBLINGS` more doublings at the rate of the last, where that rises; needs two budgets."""
        found = {}
        for seed, curve in self.curves.items():
            points = sorted((row["train_chunks"], row[USABLE]) for row in curve if row["family"] == family)
            if len(points) > 1:
                (few, before), (many, last) = points[-2:]
                found[seed] = last + DOUBLINGS * max(0.0, (last - before) / math.log2(many / few))
        return found


def held_by(runs: Runs, decoder: str = "fresh") -> list[list[Held]]:
    """All encoders that own or fresh decoders read, those together that can be compared, best ones first."""
    groups: dict[str, dict[str, Held]] = {}
    for measurement in runs.measurement:
        for row in measurement.rows:
            if row["decoder"] != decoder or row["training"] in ("none", "shuffled", "random-tokens"):
                continue
            if figure_of(row, USABLE) is None:
                continue
            probe = {key: value for key, value in (row.get("probe") or {}).items() if key != "seed"}
            shared = json.dumps([[row.get(key) for key in _SHARED], probe], sort_keys=True)
            trained = runs.of(owner(row), measurement.path)
            recipe = lineage.recipe(trained.chain) if trained else lineage.unseeded(owner(row))
            name = lineage.unseeded(trained.name if trained else row["model"])
            own = Held(f"{name}, untrained" if row["training"] == "untrained" else name, row["training"], decoder)
            one = groups.setdefault(shared, {}).setdefault(f"{row['training']} {recipe}", own)
            seed = trained.config["seed"] if trained and "seed" in trained.config else row.get("seed") or 0
            one.rows[seed] = row
            one.curves[seed] = [
                point
                for point in measurement.curves
                if (point["model"], point["training"]) == (row["model"], row["training"])
            ]
            one.runs += [trained] if trained else []
    return [sorted(group.values(), key=lambda one: -one.mean()) for group in groups.values()]


def encoder_of(config: dict[str, Any]) -> dict[str, Any]:
    """What forms memories, in the same words for every kind of model; empty where nothing does."""
    shape = config.get("model") or {}
    told = shape.get("encoder") or {}
    if shape.get("kind") == "autoencoder":
        told = shape | {"stack": told}
    return {key: told.get(key) for key in ("chunk_tokens", "memory_dim", "memory_norm", "stack", "readout")}


def largest(figures: Iterable[BySeed]) -> BySeed:
    """The figure whose mean over seeds is the largest; empty of none."""
    return max((one for one in figures if one), key=lambda one: sum(one.values()) / len(one), default={})


def shares(mine: BySeed, theirs: BySeed) -> BySeed:
    """Seed by seed, what one has as a share of the other; of seeds that both have, where there is something."""
    return {seed: mine[seed] / theirs[seed] for seed in mine.keys() & theirs.keys() if theirs[seed] > 0}


def minus(mine: BySeed, theirs: BySeed) -> BySeed:
    """Seed by seed, how much more one has."""
    return {seed: mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()}
