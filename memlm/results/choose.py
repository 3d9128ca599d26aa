"""Which rows of a measurement are compared: the headline's, a model's with its controls, a chooser's samples."""

from memlm.results.compared import Model, Setting
from memlm.results.runs import Row, Run, is_control, owner
from memlm.results.text import figure_of

FAR = 64  # chunks of a text, from which on the page tells of it first


def headline(measurements: list[Run]) -> tuple[Run | None, dict[str, Row]]:
    """The autoencoder whose vector holds most, and what it is to be compared with, all from one measurement.

    Most in bits of the vector: a shorter chunk is recalled better and tells less. `best` is read by its own decoder if
    any has one, `fresh` is the same encoder read by a fresh one, as the best `causal` encoder and `none` must be.
    """
    pairs = [(run, row) for run in measurements for row in run.rows if row["training"] == "autoencoder"]
    pairs = [pair for pair in pairs if pair[1]["decoder"] == "own"] or pairs
    if not pairs:
        return None, {}

    def right(row: Row) -> float:
        return figure_of(row, "token_accuracy") or 0.0

    held = "usable_bits_per_embedding"
    measurement, best = max(pairs, key=lambda pair: (figure_of(pair[1], held) or 0.0, right(pair[1])))
    fresh = {"training": "autoencoder", "model": best["model"], "decoder": "fresh"}
    wanted = {"fresh": fresh, "causal": {"training": "causal"}, "none": {"training": "none"}}
    rows = {name: [row for row in measurement.rows if asked.items() <= row.items()] for name, asked in wanted.items()}
    return measurement, {"best": best} | {name: max(some, key=right) for name, some in rows.items() if some}


def farthest(settings: list[Setting]) -> Model | None:
    """The model that facts were asked of among most chunks, `FAR` at least; of several the one that tells most."""
    asked = [(model, told) for setting in settings for model in setting if (told := model.access("facts", "own"))]
    far = [(model.chunks, told.value, n) for n, (model, told) in enumerate(asked) if model.chunks >= FAR]
    return asked[max(far)[2]][0] if far else None


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

    def key(row: Row) -> tuple[str, str, str]:
        return row["model"], row["training"], row["decoder"]

    found = headline([measurement])[1]
    first = [key(found[name]) for name in ("best", "causal", "none") if name in found]
    order = {"autoencoder": 1, "causal": 2, "none": 3, "untrained": 4}

    def rank(sample: Row) -> tuple[int, int, bool]:
        place = first.index(key(sample)) if key(sample) in first else len(first)
        return place, order.get(sample["training"], 9), sample["decoder"] != "own"

    chosen: dict[str, Row] = {}
    for sample in sorted((sample for sample in measurement.samples if sample.get("passages")), key=rank):
        if sample["training"] != "untrained" or not found or owner(sample) == found["best"]["model"]:
            chosen.setdefault(sample["model"], sample)
    scores = {key(row): figure_of(row, "token_accuracy") for row in measurement.rows}
    return [(sample, scores.get(key(sample))) for sample in chosen.values()]
