"""Who holds most: rows of retention ranked by usable bits a token, those that can be compared with each other only.

Rows can be compared if they are of the same data, vocabulary, chunk length and number of chunks, and were read by the
same kind of decoder after the same budget; the seed is a property of a row. Own decoders differ from one another, so
that they have a table of their own. Shuffled memories and random tokens are controls, and are not ranked.
"""

import json
from dataclasses import dataclass

from memlm.report.choose import CONTROLS
from memlm.report.lineage import chain, run_of
from memlm.report.runs import Measurement, Row, Runs, owner
from memlm.report.text import figure_of, number, plural

USABLE = "usable_bits_per_token"
RANKED = {"untrained": CONTROLS["untrained"], "none": CONTROLS["none"]}  # controls that are what they seem: encoders


@dataclass(frozen=True)
class Entry:
    """A row with what is known of its model's training: tokens read and seconds, all stages counted."""

    row: Row
    tokens: float | None
    seconds: float | None

    @property
    def name(self) -> str:
        """Who it is: a twin has its model's name."""
        row = self.row
        return f"{owner(row)}, {RANKED['untrained']}" if row["training"] == "untrained" else str(row["model"])


@dataclass(frozen=True)
class Ranking:
    """Entries that can be compared, the best one first."""

    data: str
    vocab_size: int | None
    chunk_tokens: int | None
    chunks: int | None
    decoder: str
    probe: Row  # the budget of a fresh decoder, which also is what usable bits are counted from
    entries: list[Entry]

    @property
    def title(self) -> str:
        """The chunk length, and whose decoders."""
        tokens = plural(self.chunk_tokens, "token") if self.chunk_tokens else "chunks of unknown length"
        return f"{tokens}, {'a fresh decoder for each' if self.decoder == 'fresh' else 'own decoders'}"

    @property
    def conditions(self) -> str:
        """What else its rows share."""
        steps, chunks = (figure_of(self.probe, key) for key in ("steps", "train_chunks"))
        floor = "" if self.decoder == "fresh" else " without memory, which usable bits are counted from"
        facts = [
            plural(self.chunks, "held-out chunk") if self.chunks else "",
            f"vocabulary of {number(self.vocab_size)}" if self.vocab_size else "",
            f"data {self.data[:12]}",
            f"fresh decoders{floor}: {number(steps)} steps over {number(chunks)} chunks" if steps and chunks else "",
        ]
        return ", ".join(fact for fact in facts if fact)


def rankings(runs: Runs) -> list[Ranking]:
    """All tables: by chunk length, then data, then fresh decoders before own ones."""
    groups: dict[str, list[tuple[Measurement, Row]]] = {}
    for measurement in runs.measurements:
        for row in measurement.results:
            if figure_of(row, USABLE) is not None and (row["training"] not in CONTROLS or row["training"] in RANKED):
                groups.setdefault(_key(measurement, row), []).append((measurement, row))
    found = [Ranking(**json.loads(key), entries=_ranked(runs, some)) for key, some in groups.items()]
    return sorted(found, key=lambda r: (r.chunk_tokens or 0, r.data, r.decoder != "fresh", json.dumps(r.probe)))


def _key(measurement: Measurement, row: Row) -> str:
    """All that two rows must share."""
    probe = row.get("probe") or measurement.config.get("measure", {}).get("probe") or {}
    facts = {key: row.get(key) for key in ("data", "vocab_size", "chunk_tokens", "chunks", "decoder")}
    facts |= {"data": str(facts["data"]), "probe": {key: value for key, value in probe.items() if key != "seed"}}
    return json.dumps(facts, sort_keys=True)


def _ranked(runs: Runs, some: list[tuple[Measurement, Row]]) -> list[Entry]:
    """Entries in their order; a figure that two measurements have to the last digit, as of no memory, stands once."""
    entries: dict[str, Entry] = {}
    for measurement, row in some:
        told = [row["model"], row["training"], row.get("seed"), row[USABLE], row["token_accuracy"]]
        entries.setdefault(json.dumps(told), _entry(runs, measurement, row))
    return sorted(entries.values(), key=lambda entry: (-entry.row[USABLE], entry.name, str(entry.row.get("seed"))))


def _entry(runs: Runs, measurement: Measurement, row: Row) -> Entry:
    """What its training cost is known if its run is among those read."""
    trained = row["training"] not in CONTROLS
    run = run_of(runs.training, row["model"], measurement.path) if trained else None
    stages = [one.last for one in chain(run, runs.training)] if run else []
    return Entry(row, _total(stages, "tokens"), _total(stages, "train_seconds"))


def _total(stages: list[Row], key: str) -> float | None:
    """The sum over stages; None unless all are known."""
    known = [value for stage in stages if (value := figure_of(stage, key)) is not None]
    return sum(known) if known and len(known) == len(stages) else None
