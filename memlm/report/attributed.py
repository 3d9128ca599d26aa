"""Rows and texts of attribution under the models that they are about; seeds of one config stand together."""

from collections import Counter
from dataclasses import dataclass

from memlm.report.access import Told, summarised
from memlm.report.lineage import unseeded
from memlm.report.runs import Row, Runs


@dataclass(frozen=True)
class Attributed:
    """A model, or several that differ in their seed alone."""

    name: str
    first: str  # the name of the one whose texts are shown
    seeds: list[list[Row]]  # all rows of each
    samples: list[Row]  # texts of the first one, token by token

    def told(self, text: str, places: str, figure: str, metric: str, against: str | None = None) -> Told | None:
        """A figure; None unless every seed has it."""
        asked = {"text": text, "places": places, "figure": figure, "metric": metric, "against": against}
        found = [
            next((row for row in rows if all(row[key] == value for key, value in asked.items())), None)
            for rows in self.seeds
        ]
        return summarised(found)

    def chance(self, text: str) -> float | None:
        """How often a guess among the memories that could be read names the one that was copied from."""
        rows = [row for row in self.seeds[0] if row["text"] == text and row["figure"] == "source"]
        return rows[0]["chance"] if rows else None


def attributed(runs: Runs) -> list[Attributed]:
    """Every model, in the order of measuring; one name in several measurements has its measurement's in front."""
    often = Counter(name for one in runs.attributions for name in {row["model"] for row in one.rows})
    rows: dict[str, list[Row]] = {}
    samples: dict[str, list[Row]] = {}
    for one in runs.attributions:
        for into, some in ((rows, one.rows), (samples, one.samples)):
            for row in some:
                name = row["model"] if often[row["model"]] == 1 else f"{one.name}/{row['model']}"
                into.setdefault(name, []).append(row)
    groups: dict[str, list[str]] = {}
    for name in rows:
        groups.setdefault(unseeded(name), []).append(name)
    return [
        Attributed(name if len(names) > 1 else names[0], names[0], [rows[n] for n in names], samples.get(names[0], []))
        for name, names in groups.items()
    ]
