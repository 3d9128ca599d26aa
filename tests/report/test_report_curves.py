"""Curves against length and layer, and the table of what needs no probe, from made-up rows."""

import json

import pytest
from made_up_runs import result, write_measurement
from test_report_page import Outline, page_of

from memlm.report.figures import draw
from memlm.report.leaderboard import write_leaderboard
from memlm.report.page import make_report
from memlm.report.plots import bits_along, by_budget, comparable
from memlm.results.ranking import rankings
from memlm.results.reading import read_runs


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
    lines = bits_along(rows, "chunk_tokens", "tokens").lines
    assert [(line.label, line.dash != "-") for line in lines] == [
        ("other", False),
        ("other", True),
        ("slots, autoencoder", False),
    ]
    assert lines[0].colour == lines[1].colour  # a twin has its model's
    assert all(line.x == [16, 32, 64] for line in lines)
    row = next(row for row in ROWS if row["model"] == "other" and row["chunk_tokens"] == 64)
    assert lines[0].y[2] == pytest.approx(row["usable_bits_per_token"])
    assert [end[2] for end in lines[0].band] == pytest.approx(row["usable_bits_per_token_ci"])
    (by_layer,) = bits_along(rows, "layer", "layer").lines
    assert by_layer.label == "other, last, 32 tokens"
    assert by_layer.x == [10, 20, 30]


def test_other_probes_are_not_joined_and_seeds_are_their_mean(tmp_path):
    rows = [theirs("other", "causal", nats, 16, 30) for nats in (5.0, 5.5)]
    rows += [theirs("other", "causal", 5.2, 32, 30), theirs("other", "causal", 5.2, 64, 30, steps=9)]
    groups = comparable(read_runs([write(tmp_path / "m", rows)]))
    assert [len(group) for group in groups] == [3, 1]
    (line,) = bits_along(groups[0], "chunk_tokens", "tokens").lines
    mean = (rows[0]["usable_bits_per_token"] + rows[1]["usable_bits_per_token"]) / 2
    assert line.y[0] == pytest.approx(mean)
    assert bits_along(groups[1], "chunk_tokens", "tokens").lines == []


@pytest.mark.usefixtures("undrawn")
def test_the_page_draws_them_and_tells_what_needs_no_probe(folders):
    report = make_report(read_runs(folders))
    drawn = {chart.name: draw(chart) for chart in report["charts"]["measurement"] if chart.kind.startswith("bits")}
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


def by_family(bits: dict[str, float]) -> dict[str, dict[str, object]]:
    return {
        name: {"usable_bits_per_token": x, "usable_bits_per_token_ci": [x - 0.1, x + 0.1]} for name, x in bits.items()
    }


def test_what_families_of_probes_do_not_agree_on_is_told(tmp_path):
    told = {"protocol": 2, "part": "test", "family": "slots", "learnt": True, "last_doubling": 0.25}
    rows = [
        theirs("better", "causal", 5.0, 16, 30) | told | {"families": by_family({"linear": 0.6, "slots": 1.0})},
        theirs("worse", "causal", 5.2, 16, 30) | told | {"families": by_family({"linear": 0.7, "slots": 0.7})},
        theirs("old", "causal", 4.0, 16, 30),  # of no protocol that is told: never in their table
    ]
    tables = rankings(read_runs([write(tmp_path / "m", rows)]))
    assert [[row["model"] for row in table.rows] for table in tables] in (
        [["better", "worse"], ["old"]],
        [["old"], ["better", "worse"]],
    )
    (table,) = (table for table in tables if len(table.rows) == 2)
    assert table.disagreement == "Other families of probes put worse before better (linear)."
    write_leaderboard([tmp_path / "m"], tmp_path / "board.md")
    text = (tmp_path / "board.md").read_text()
    assert table.disagreement in text
    assert "linear 0.60, slots 1.00" in text


def test_what_vectors_add_to_guesses_has_a_section_by_chunk_length(tmp_path):
    folder = write(tmp_path / "m", ROWS)
    assert "Beyond a language model" not in page_of(folder)
    report = json.loads((folder / "results.json").read_text())
    given = [
        {"model": "other", "training": "causal", "prior": "small", "memory_dim": 8, "chunk_tokens": tokens}
        | {"usable_bits_per_token": 0.25, "usable_bits_per_token_ci": [0.2, 0.3], "token_accuracy": 0.5}
        | {"usable_bits_per_embedding": value, "usable_bits_per_embedding_ci": [value - 0.5, value + 0.5]}
        for tokens, value in ((16, 4.5), (32, 7.5))
    ]
    (folder / "results.json").write_text(json.dumps(report | {"given": given}))
    page = page_of(folder)
    section = page[page.index("<h2>Beyond a language model") :].split("<h2>")[1]
    assert section.index("m, 16 tokens") < section.index("4.5") < section.index("m, 32 tokens") < section.index("7.5")
    assert "tokens before read by" in section
    assert "4.0" in section  # of its interval


def test_budget_curves_are_drawn_with_their_twins(tmp_path):
    folder = write(tmp_path / "m", [row for row in ROWS if row["chunk_tokens"] == 16])
    curves = [
        {"model": model, "training": training, "chunk_tokens": 16, "family": family, "train_chunks": chunks}
        | {"usable_bits_per_token": chunks / 1e5, "usable_bits_per_token_ci": [0.0, 1.0]}
        for model, training in (("other", "causal"), ("other-untrained", "untrained"))
        for family, budgets in (("slots", (65_536,)), ("linear", (1024, 4096, 65_536)))
        for chunks in budgets
    ]
    report = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(report | {"curves": curves}))
    (run,) = read_runs([folder]).measurement
    lines = by_budget(run, {"other": "#0072b2"}).lines
    assert [(line.label, line.dash != "-", line.x) for line in lines] == [
        ("other", False, [1024, 4096, 65_536]),
        ("", True, [1024, 4096, 65_536]),
    ]
    assert "by the chunks that it learnt from" in page_of(folder)
