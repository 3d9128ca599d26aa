"""Who holds most: rows of retention ranked by usable bits a token, those that can be compared with each other only.

Rows can be compared if they are of the same protocol, data, part, vocabulary, chunk length and number of chunks, and
were read by the same probes after the same budget; the seed is a property of a row. Own decoders differ from one
another, so that they have a table of their own. Shuffled memories and random tokens are controls, and are not ranked.
Where a family of probes puts two neighbours in the other order, the table says so (docs/protocol.md).
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from memlm.results.runs import CONTROLS, Row, Run, Runs, owner
from memlm.results.text import figure_of, listed, number, plural

USABLE = "usable_bits_per_token"
SHARED = ("protocol", "data", "part", "vocab_size", "chunk_tokens", "chunks", "decoder")  # by all rows of a table


@dataclass(frozen=True)
class Ranking:
    """Rows that can be compared, the best one first, with name and training's cost; and what all of them share."""

    shared: Row
    probe: Row  # the budget of a fresh decoder, which also is what usable bits are counted from
    rows: list[Row]

    @property
    def title(self) -> str:
        """The chunk length, and whose decoders."""
        length, fresh = self.shared["chunk_tokens"], self.shared["decoder"] == "fresh"
        tokens = plural(length, "token") if length else "chunks of unknown length"
        return f"{tokens}, {'a fresh decoder for each' if fresh else 'own decoders'}"

    @property
    def conditions(self) -> str:
        """What else its rows share."""
        chunks, words, part = (self.shared[key] for key in ("chunks", "vocab_size", "part"))
        return listed(
            f"protocol {self.shared['protocol'] or 1}",
            f"{plural(chunks, 'chunk')} of {part or 'held-out text'}" if chunks else "",
            f"vocabulary of {number(words)}" if words else "",
            f"data {self.shared['data'][:12]}",
            self._probes if self.shared["decoder"] == "fresh" else "",
        )

    @property
    def _probes(self) -> str:
        """The budget of its probes."""
        families, chunks, seeds = (self.probe.get(key) for key in ("families", "train_chunks", "seeds"))
        if not isinstance(families, list) or not isinstance(chunks, list):
            return ""
        most = max((row["train_chunks"] for row in self.rows if row.get("train_chunks")), default=max(chunks))
        return f"probes {', '.join(families)} over {number(most)} chunks, {plural(seeds or 1, 'seed')}"

    @property
    def disagreement(self) -> str:
        """Which neighbours, if any, a family of probes puts in the other order."""
        found = []
        for better, worse in pairwise(self.rows):
            ours, theirs = better.get("families") or {}, worse.get("families") or {}
            other = [name for name in ours.keys() & theirs.keys() if ours[name][USABLE] < theirs[name][USABLE]]
            if other:
                found.append(f"{worse['name']} before {better['name']} ({', '.join(sorted(other))})")
        return f"Other families of probes put {listed(*found)}." if found else ""


def rankings(runs: Runs) -> list[Ranking]:
    """All tables: by chunk length, then data, then fresh decoders before own ones."""
    groups: dict[str, dict[str, Row]] = {}
    for run in runs.measurement:
        for row in run.rows:
            ranked = row["training"] not in CONTROLS or row["training"] in ("untrained", "none")
            if not ranked or figure_of(row, USABLE) is None:
                continue
            probe = row.get("probe") or run.config.get("measure", {}).get("probe") or {}
            shared = {key: row.get(key) for key in SHARED} | {"data": str(row.get("data"))}
            facts = [shared, {key: value for key, value in probe.items() if key != "seed"}]
            # A figure that two measurements have to the last digit, as of no memory, stands once.
            once = json.dumps([row["model"], row["training"], row.get("seed"), row[USABLE], row["token_accuracy"]])
            groups.setdefault(json.dumps(facts, sort_keys=True), {}).setdefault(once, row | _cost(runs, run, row))

    def place(one: Ranking) -> tuple[int, str, bool, str]:
        shared = one.shared
        return shared["chunk_tokens"] or 0, shared["data"], shared["decoder"] != "fresh", json.dumps(one.probe)

    def rank(row: Row) -> tuple[float, str, str]:
        return -row[USABLE], row["name"], str(row.get("seed"))

    tables = [Ranking(*json.loads(k), rows=_told_apart([*rows.values()])) for k, rows in groups.items()]
    for table in tables:
        table.rows.sort(key=rank)
    return sorted(tables, key=place)


def _told_apart(rows: list[Row]) -> list[Row]:
    """Views of one model that share its name are told by their layer and readout."""
    views: dict[str, set[Any]] = {}
    for row in rows:
        views.setdefault(row["name"], set()).add((row.get("layer"), row.get("readout")))
    return [
        row | {"name": f"{row['name']}, layer {row['layer']} {row['readout']}"}
        if len(views[row["name"]]) > 1 and row.get("layer") is not None
        else row
        for row in rows
    ]


def _cost(runs: Runs, measurement: Run, row: Row) -> Row:
    """Who it is (a twin has its model's name), and what its training cost, if all stages of its run tell that."""
    run = runs.of(row["model"], measurement.path) if row["training"] not in CONTROLS else None
    stages = [one.last for one in run.chain] if run else []
    twin = row["training"] == "untrained"
    found: Row = {"name": f"{owner(row)}, {CONTROLS['untrained']}" if twin else str(row["model"])}
    for key in ("tokens", "train_seconds"):
        known = [value for stage in stages if (value := figure_of(stage, key)) is not None]
        found[f"train_{key.removeprefix('train_')}"] = sum(known) if known and len(known) == len(stages) else None
    return found
