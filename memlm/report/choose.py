"""Which rows of a measurement are compared: the headline's, a model's with its controls, a chooser's samples."""

from dataclasses import dataclass
from typing import Any

from memlm.report.runs import Row, Run, owner
from memlm.report.text import figure_of

CONTROLS = {
    "untrained": "untrained twin",
    "shuffled": "shuffled memories",
    "random-tokens": "random tokens",
    "none": "no memory",
}
_FIGURES = ("chunk_tokens", "chunk_chars", "memory_dim", "token_accuracy", "exact_match", "usable_bits_per_token")


def is_control(row: Row) -> bool:
    """Whether a row is there to be compared with."""
    return row["training"] in CONTROLS


@dataclass(frozen=True)
class Headline:
    """The best recall beside what it is to be compared with, all from one measurement."""

    measurement: Run
    best: Row
    fresh: Row | None  # the same encoder read by a fresh decoder, as causal encoders must be
    causal: Row | None
    none: Row | None

    def as_json(self) -> dict[str, Any]:
        """Its figures, every one a number or null."""
        rows = {"best": self.best, "fresh": self.fresh, "causal": self.causal, "none": self.none}
        return {
            name: {"model": row["model"], "decoder": row["decoder"]} | {key: figure_of(row, key) for key in _FIGURES}
            for name, row in rows.items()
            if row
        }


def headline(measurements: list[Run]) -> Headline | None:
    """The autoencoder whose vector holds most, by its own decoder if any has one; None if none was measured.

    Most in bits of the vector: a shorter chunk is recalled better and tells less.
    """
    pairs = [(run, row) for run in measurements for row in run.rows if row["training"] == "autoencoder"]
    pairs = [pair for pair in pairs if pair[1]["decoder"] == "own"] or pairs
    if not pairs:
        return None
    measurement, best = max(pairs, key=lambda pair: (_figure(pair[1], "usable_bits_per_embedding"), _right(pair[1])))

    def most(training: str, **asked: str) -> Row | None:
        rows = [row for row in measurement.rows if row["training"] == training]
        return max((row for row in rows if asked.items() <= row.items()), key=_right, default=None)

    fresh = most("autoencoder", model=best["model"], decoder="fresh")
    return Headline(measurement, best, fresh, most("causal"), most("none"))


def by_model(measurement: Run) -> list[list[Row]]:
    """Rows under the model they are about, each decoder's with its controls after it; no memory comes last."""
    groups: dict[str, list[Row]] = {}
    for row in measurement.rows:
        groups.setdefault(owner(row), []).append(row)

    def place(row: Row) -> tuple[bool, bool, bool]:
        return row["decoder"] != "own", is_control(row), row["training"] == "untrained"

    some = [sorted(rows, key=place) for rows in groups.values()]
    return sorted(some, key=lambda rows: all(row["training"] == "none" for row in rows))


def samples_to_show(measurement: Run) -> list[tuple[Row, float | None]]:
    """One sample for each trained model with its share of right tokens, the headline's first.

    Then come a causal encoder's and no memory's. Of the untrained twins only the headline's is shown, last.
    """
    found = headline([measurement])
    first = [_key(row) for row in (found.best, found.causal, found.none) if row] if found else []
    order = {"autoencoder": 1, "causal": 2, "none": 3, "untrained": 4}

    def rank(sample: Row) -> tuple[int, int, bool]:
        place = first.index(_key(sample)) if _key(sample) in first else len(first)
        return place, order.get(sample["training"], 9), sample["decoder"] != "own"

    chosen: dict[str, Row] = {}
    for sample in sorted((s for s in measurement.samples if s.get("passages")), key=rank):
        if sample["training"] != "untrained" or not found or owner(sample) == found.best["model"]:
            chosen.setdefault(sample["model"], sample)
    scores = {_key(row): figure_of(row, "token_accuracy") for row in measurement.rows}
    return [(sample, scores.get(_key(sample))) for sample in chosen.values()]


def _key(row: Row) -> tuple[str, str, str]:
    return row["model"], row["training"], row["decoder"]


def _figure(row: Row, key: str) -> float:
    return figure_of(row, key) or 0.0


def _right(row: Row) -> float:
    return _figure(row, "token_accuracy")
