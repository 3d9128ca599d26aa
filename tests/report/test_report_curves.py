"""Curves against length and layer, and the table of what needs no probe, from made-up rows."""

import json

import pytest
from made_up_runs import result, write_measurement
from test_report_page import Outline, page_of

from memlm.report.plots import bits_along, comparable
from memlm.report.page import make_report
from memlm.report.reading import read_runs


def theirs(model, training, nats, tokens, layer, *, seed=0, steps=1000):
    """A row of a model of others."""
    row = result(model, "llama", training, "fresh", 0.1, 0.0, nats, tokens=tokens)
    return row | {"layer": layer, "readout": "last", "seed": seed, "probe": row["probe"] | {"steps": steps}}


ROWS = [
    row
    for tokens in (16, 64, 32)
    for row in (
        result("no memory", "none", "none", "fresh", 0.05, 0.0, 5.71, tokens=tokens),
        theirs("other", "causal", 5 + tokens / 100, tokens, 30),
        theirs("other", "shuffled", 6.0, tokens, 30),
        theirs("other-untrained", "untrained", 5.5, tokens, 30),
        result(f"slots{tokens}", "slots", "autoencoder", "own", 1.0, 1.0, 0.01, tokens=tokens),
        result(f"slots{tokens}", "slots", "autoencoder", "fresh", 1.0, 0.9, 0.1, tokens=tokens),
    )
]
LAYERS = [theirs(f"other layer {layer} last", "causal", 5.0 + layer / 100, 32, layer) for layer in (10, 20, 30)]
CEILINGS = [
    {"model": "other", "task": "cram", "mode": "free-running", "metric": "exact_match", "layer": 0, "chunks": 4}
    | {"chunk_tokens": tokens, "value": value, "value_ci": [0.25, 1.0]}
    for tokens, value in ((16, 0.75), (32, 0.5))
]


def write(folder, rows, ceilings=()):
    """A folder with these rows."""
    write_measurement(folder, samples=False)
    report = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(report | {"results": rows, "ceilings": list(ceilings)}))
    return folder


@pytest.fixture
def folders(tmp_path):
    return write(tmp_path / "lengths", ROWS, CEILINGS), write(tmp_path / "layers", LAYERS)


def test_lines_go_through_lengths_and_layers_of_all_folders(folders):
    (rows,) = comparable(read_runs(folders))
    by_length = {(line.name, line.twin): line.points for line in lines(rows, "chunk_tokens")}
    assert list(by_length) == [("other", False), ("other", True), ("slots, autoencoder", False)]
    assert all(list(points) == [16, 32, 64] for points in by_length.values())
    row = next(row for row in ROWS if row["model"] == "other" and row["chunk_tokens"] == 64)
    bits, low, high = by_length["other", False][64]
    assert bits == pytest.approx(row["usable_bits_per_token"])
    assert [low, high] == pytest.approx(row["usable_bits_per_token_ci"])
    (by_layer,) = lines(rows, "layer")
    assert by_layer.name == "other, last, 32 tokens"
    assert list(by_layer.points) == [10, 20, 30]


def test_other_probes_are_not_joined_and_seeds_are_their_mean(tmp_path):
    rows = [theirs("other", "causal", nats, 16, 30) for nats in (5.0, 5.5)]
    rows += [theirs("other", "causal", 5.2, 32, 30), theirs("other", "causal", 5.2, 64, 30, steps=9)]
    groups = comparable(read_runs([write(tmp_path / "m", rows)]))
    assert [len(group) for group in groups] == [3, 1]
    (line,) = lines(groups[0], "chunk_tokens")
    mean = (rows[0]["usable_bits_per_token"] + rows[1]["usable_bits_per_token"]) / 2
    assert line.points[16][0] == pytest.approx(mean)
    assert lines(groups[1], "chunk_tokens") == []


def test_the_page_draws_them_and_tells_what_needs_no_probe(folders):
    report = make_report(read_runs(folders))
    drawn = {plot.name: plot.figure for plot in report.plots if plot.group == "measurement-curves"}
    assert list(drawn) == ["bits-by-length", "bits-by-layer"]
    axes = drawn["bits-by-length"].axes[0]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 1
    assert list(axes.get_xticks()) == [16, 32, 64]
    page = page_of(*folders)
    assert Outline(page).open == []
    section = page[page.index("<h2>Without a probe</h2>") :]
    section = section[: section.index("</section>")]
    assert section.count("free-running") == 2  # each under its length
    assert "0.750<small>0.250–1.000</small>" in section
    assert "Without a probe" not in page_of(folders[1])
