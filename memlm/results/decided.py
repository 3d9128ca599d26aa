"""A folder of `memlm claims`: the claims that it decides, and the experiments that it shows."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from memlm.errors import UsageError
from memlm.files import read_object
from memlm.protocol import PROTOCOL
from memlm.results import claims
from memlm.results.compared import settings_of
from memlm.results.reading import read_runs, shown
from memlm.results.rules import RULES
from memlm.results.tables import BESIDE, TITLES, Table, tables_of


class Figures(NamedTuple):
    """What a folder decides and shows."""

    claims: list[claims.Judged]
    tables: list[Table]

    @property
    def names(self) -> set[str]:
        """The claims and experiments that it has figures of."""
        return {one.name.split()[0] for one in self.claims if one.findings} | {table.name for table in self.tables}


def figures_of(folder: Path) -> Figures:
    """Judge what is in a folder: training runs, measurements, benchmarks and experiments, one level down.

    Raises:
        UsageError: there is nothing of the kind, or it is of another protocol.
    """
    with shown([folder]):
        runs = read_runs([folder])
        for row in (row for run in (*runs.measurement, *runs.access, *runs.experiment) for row in run.rows):
            if (protocol := row.get("protocol") or 1) != PROTOCOL:
                raise UsageError(
                    f"{folder} holds figures of protocol {protocol}, this is protocol {PROTOCOL}: leave it out."
                )
        return Figures(claims.claims(runs, settings_of(runs)), tables_of(runs))


def finished(folder: Path) -> Figures:
    """The same of a folder that `memlm claims` wrote its page into: of what was asked there, and nothing that its runs
    would decide besides.

    Raises:
        UsageError: as of `figures_of`.
    """
    figures, page = figures_of(folder), folder / "claims.json"
    asked = read_object(page).get("asked") if page.exists() else None
    if not isinstance(asked, list):
        return figures
    claimed = [one for one in figures.claims if one.name.split()[0] in asked]
    return Figures(claimed, [table for table in figures.tables if BESIDE.get(table.name, table.name) in asked])


def joined(figures: list[Figures], asked: Collection[str]) -> tuple[list[claims.Judged], list[Table]]:
    """What is asked, each claim and experiment by the folder that has most seeds of it; of equals by the first."""
    judged: list[claims.Judged] = []
    tables: list[Table] = []
    for rule in RULES:
        told = [[claim for claim in one.claims if claim.rule == rule] for one in figures]
        if rule.name.split()[0] in asked:
            judged += max(told, key=lambda some: max((claim.most_seeds for claim in some), default=-1))
    for name in TITLES:
        found = [table for one in figures for table in one.tables if table.name == name]
        tables += [max(found, key=lambda table: table.seeds)] if found else []
    return judged, tables
