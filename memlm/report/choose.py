"""Which rows of a measurement are compared: the headline's, a model's with its controls, a chooser's samples."""

from dataclasses import dataclass
from typing import Any

from memlm.report.runs import Measurement, Row, owner
from memlm.report.text import figure_of

CONTROLS = {
    "untrained": "untrained twin",
    "shuffled": "shuffled memories",
    "random-tokens": "random tokens",
    "none": "no memory",
}


def is_control(row: Row) -> bool:
    """Whether a row is there to be compared with."""
    return row["training"] in CONTROLS


@dataclass(frozen=True)
class Headline:
    """The best recall beside what it is to be compared with, all from one measurement."""

    measurement: Measurement
    best: Row
    fresh: Row | None  # the same encoder read by a fresh decoder, as causal encoders must be
    causal: Row | None
    none: Row | None

    def as_json(self) -> dict[str, Any]:
        """Its figures, every one a number or null."""
        keys = ("chunk_tokens", "chunk_chars", "memory_dim", "token_accuracy", "exact_match", "usable_bits_per_token")
        rows = {"best": self.best, "fresh": self.fresh, "causal": self.causal, "none": self.none}
        return {
            name: {"model": row["model"], "decoder": row["decoder"]} | {key: figure_of(row, key) for key in keys}
            for name, row in rows.items()
            if row
        }


def headline(measurements: list[Measurement]) -> Headline | None:
    """The autoencoder whose vector holds most, by its own decoder if any has one; None if none was measured.

    Most in bits of the vector: a shorter chunk is recalled better and tells less.
    """
    rows = [(m, row) for m in measurements for row in m.results if row["training"] == "autoencoder"]
    rows = [pair for pair in rows if pair[1]["decoder"] == "own"] or rows
    if not rows:
        return None
    measurement, best = max(rows, key=lambda pair: _held(pair[1]))
    results = measurement.results
    fresh = [r for r in results if r["model"] == best["model"] and r["training"] == "autoencoder"]
    return Headline(
        measurement,
        best,
        _best([r for r in fresh if r["decoder"] == "fresh"]),
        _best([r for r in results if r["training"] == "causal"]),
        _best([r for r in results if r["training"] == "none"]),
    )


def by_model(measurement: Measurement) -> list[tuple[str, list[Row]]]:
    """Rows under the model they are about, in the order of measuring; the floor without memory comes last."""
    groups: dict[str, list[Row]] = {}
    for row in measurement.results:
        groups.setdefault(owner(row), []).append(row)
    floor = {name for name, rows in groups.items() if all(row["training"] == "none" for row in rows)}
    return sorted(groups.items(), key=lambda group: group[0] in floor)


def samples_to_show(measurement: Measurement) -> list[Row]:
    """One sample for each trained model, the headline's first, then a causal encoder's and no memory's.

    Of the untrained twins only the headline's is shown, last.
    """
    found = headline([measurement])
    wanted = [found.best, found.causal, found.none] if found else []
    first = [_key(row) for row in wanted if row]
    order = {"autoencoder": 1, "causal": 2, "none": 3, "untrained": 4}

    def rank(sample: Row) -> tuple[int, int, bool]:
        place = first.index(_key(sample)) if _key(sample) in first else len(first)
        return place, order.get(sample["training"], 9), sample["decoder"] != "own"

    chosen: dict[str, Row] = {}
    for sample in sorted((s for s in measurement.samples if s.get("passages")), key=rank):
        if sample["training"] == "untrained" and found and owner(sample) != found.best["model"]:
            continue
        chosen.setdefault(sample["model"], sample)
    return list(chosen.values())


def row_of(measurement: Measurement, sample: Row) -> Row | None:
    """The result that a sample illustrates."""
    return next((row for row in measurement.results if _key(row) == _key(sample)), None)


def _key(row: Row) -> tuple[str, str, str]:
    return row["model"], row["training"], row["decoder"]


def _held(row: Row) -> tuple[float, float]:
    return figure_of(row, "usable_bits_per_embedding") or 0.0, _accuracy(row)


def _accuracy(row: Row) -> float:
    return figure_of(row, "token_accuracy") or 0.0


def _best(rows: list[Row]) -> Row | None:
    return max(rows, key=_accuracy, default=None)
