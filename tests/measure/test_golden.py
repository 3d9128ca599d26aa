"""Golden rows: a change that should not change what is measured changes none of these figures.

Losses and usable bits move with every weight, interval and control, so that a row here stands for the whole way from
held-out text to the report. To change them on purpose, raise `PROTOCOL`
(memlm/protocol.py), so that nothing kept under the old number is handed out, and write what the test
prints into the file.
"""

import json
from pathlib import Path

import pytest
import torch
from handmade_models import ENCODER, ordinary, shape

from memlm.data.corpus import Corpus
from memlm.loading import save_model
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.measure.run import measure

QUICK = MeasureConfig(
    chunks=50,
    probe=ProbeConfig(train_chunks=(100, 200), seeds=2, steps=10, batch=32),
    access_examples=12,
    free_running=4,
    attribution=4,
    device="cpu",
)
GOLDEN = Path(__file__).with_name("golden_rows.json")


@pytest.fixture(scope="module")
def report(data, tmp_path_factory):
    corpus, place = Corpus.open(data), tmp_path_factory.mktemp("golden")
    save_model(ordinary(shape(encoder=ENCODER), corpus.vocab_size), corpus.tokenizer, place / "model")
    with torch.random.fork_rng():
        return measure([str(place / "model")], data, place / "out", QUICK)


def figures(report) -> dict[str, dict[str, list[float]]]:
    """[figure, low end, high end] by row."""
    retention = {
        f"{row['training']}, {row['decoder']} decoder, {name}": [row[name], *row[f"{name}_ci"]]
        for row in report["results"]
        for name in ("cross_entropy", "usable_bits_per_token")
    }
    access = {
        f"{row['task']}, {row['mode']}, {row['memory']}": [row["value"], *row["value_ci"]]
        for row in report["access"]
        if row["metric"] == "cross_entropy" and row["at"] is None and row["symbols"] != "trained"
    }
    attribution = {
        f"{row['text']}, {row['places']}, {row['metric']}": [row["value"], *row["value_ci"]]
        for row in report["attribution"]
        if row["figure"] == "mean"
    }
    return {"retention": retention, "access": access, "attribution": attribution}


def test_what_is_measured_is_what_was_measured(report):
    found = figures(report)
    print(json.dumps(found, indent=1))
    golden = json.loads(GOLDEN.read_text())
    assert {kind: list(rows) for kind, rows in found.items()} == {kind: list(rows) for kind, rows in golden.items()}
    for kind, rows in golden.items():
        for name, values in rows.items():
            assert found[kind][name] == pytest.approx(values, rel=2e-3, abs=1e-4), f"{kind}: {name}"
