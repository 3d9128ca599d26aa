import json
import re
import subprocess
import sys

import pytest
from made_up_access import rows_of, write_access
from made_up_runs import ROWS, result, write_demo, write_measurement, write_run
from test_report_memory import section
from test_report_page import page_of

from memlm.cli import main
from memlm.errors import UsageError
from memlm.report.leaderboard import write_leaderboard
from memlm.results.ranking import rankings
from memlm.results.reading import read_runs

RANKED = {"autoencoder", "causal", "untrained", "none"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("runs") / "demo")


def changed(folder, **facts):
    """The measurement of a folder with other facts in all of its rows."""
    report = json.loads((folder / "results.json").read_text())
    for row in report["results"]:
        row.update(facts)
    (folder / "results.json").write_text(json.dumps(report))
    return folder


def tables(markdown: str) -> list[list[list[str]]]:
    """Rows of cells of every table, its head first."""
    parts = re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE)
    return [
        [[c.strip() for c in line[1:-1].split(" | ")] for line in part.splitlines() if "---" not in line]
        for part in parts
    ]


def test_rows_are_ranked_by_usable_bits_and_controls_are_left_out(demo):
    fresh, own = rankings(read_runs([demo]))
    assert [table.shared["decoder"] for table in (fresh, own)] == ["fresh", "own"]
    for table in (fresh, own):
        bits = [row["usable_bits_per_token"] for row in table.rows]
        assert bits == sorted(bits, reverse=True)
    kept = [row for row in ROWS if row[2] in RANKED]
    assert len(fresh.rows) + len(own.rows) == len(kept)
    assert [row["name"] for row in fresh.rows][:3] == ["slots", "mixer", "slots, untrained twin"]
    assert fresh.rows[-1]["name"] == "no memory"


def test_costs_are_told_where_they_are_known(demo, tmp_path):
    best = rankings(read_runs([demo]))[0].rows[0]
    assert (best["train_tokens"], best["train_seconds"]) == (1000 * 128 * 64, 1000 * 0.06)
    alone = rankings(read_runs([demo / "retention"]))[0].rows[0]
    assert (alone["train_tokens"], alone["train_seconds"]) == (None, None)
    twin = next(row for row in rankings(read_runs([demo]))[0].rows if row["training"] == "untrained")
    assert twin["train_tokens"] is None


@pytest.mark.parametrize(
    "facts",
    [
        {"data": "other" * 8},
        {"vocab_size": 8000},
        {"chunk_tokens": 128},
        {"chunks": 512},
        {"probe": {"steps": 3, "train_chunks": 9}},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_what_cannot_be_compared_is_never_in_one_table(facts, tmp_path):
    write_measurement(tmp_path / "a", ROWS[:9])
    write_measurement(tmp_path / "b", ROWS[:9])
    assert len(rankings(read_runs([tmp_path]))) == 2  # fresh and own
    changed(tmp_path / "b", **facts)
    apart = rankings(read_runs([tmp_path]))
    assert len(apart) == 4
    for table in apart:
        assert len({json.dumps([row.get(key) for key in facts], sort_keys=True) for row in table.rows}) == 1
    lengths = [table.shared["chunk_tokens"] for table in apart]
    assert lengths == sorted(lengths)


def test_another_seed_of_the_probe_is_comparable_and_equal_rows_stand_once(tmp_path):
    write_measurement(tmp_path / "a", ROWS[:5])
    write_measurement(tmp_path / "b", ROWS[:5])
    once = rankings(read_runs([tmp_path]))
    assert [len(table.rows) for table in once] == [2, 1]
    report = json.loads((tmp_path / "b" / "results.json").read_text())
    for row in report["results"]:
        row["seed"] = 1
        if row.get("probe"):
            row["probe"]["seed"] = 1
    (tmp_path / "b" / "results.json").write_text(json.dumps(report))
    assert [len(table.rows) for table in rankings(read_runs([tmp_path]))] == [4, 2]


def test_views_of_one_model_are_told_apart_by_layer_and_readout(tmp_path):
    for layer, readout, nats in ((30, "last", 4.0), (2, "mean", 3.0)):
        row = ("theirs", "theirs", "causal", "fresh", 0.5, 0.1, nats)
        changed(write_measurement(tmp_path / f"m{layer}", [row]), layer=layer, readout=readout)
    (table,) = rankings(read_runs([tmp_path]))
    assert [row["name"] for row in table.rows] == ["theirs, layer 2 mean", "theirs, layer 30 last"]
    (alone,) = rankings(read_runs([tmp_path / "m2"]))
    assert [row["name"] for row in alone.rows] == ["theirs"]


def test_the_file_has_every_number_with_its_interval_and_is_the_same_again(demo, tmp_path):
    done = write_leaderboard([demo], tmp_path / "board.md")
    first = (tmp_path / "board.md").read_text()
    write_leaderboard([demo], tmp_path / "board.md")
    assert (tmp_path / "board.md").read_text() == first
    assert "memlm leaderboard demo --out board.md" in first
    assert str(tmp_path) not in first
    fresh = tables(first)[0]
    head, best = fresh[0], fresh[1]
    cell = dict(zip(head, best, strict=True))
    assert (cell["rank"], cell["model"], cell["training"], cell["tokens"]) == ("1", "slots", "autoencoder", "64")
    row = result(*next(r for r in ROWS if r[:4] == ("slots", "slots", "autoencoder", "fresh")))
    low, high = row["usable_bits_per_token_ci"]
    assert cell["usable bits a token"] == f"{row['usable_bits_per_token']:.2f} ({low:.2f}–{high:.2f})"
    assert cell["tokens right, %"].startswith("99.87 (")
    assert cell["training tokens"] == "8,192,000"
    for title in ("characters", "numbers", "H_r", "chunks right, %", "data", "vocabulary", "seed", "device", "commit"):
        assert cell[title]
    assert all(len(line) == len(head) for line in fresh)
    assert done["tables"][0]["rows"][0]["rank"] == 1
    json.dumps(done, allow_nan=False)


def test_names_cannot_break_the_table(tmp_path):
    name = "a | b\n<c>"
    write_measurement(tmp_path / "m", [(name if row[0] == "slots" else row[0], *row[1:]) for row in ROWS[:5]])
    write_leaderboard([tmp_path / "m"], tmp_path / "board.md")
    (line,) = [
        x for x in (tmp_path / "board.md").read_text().splitlines() if x.startswith("| 1 | a") and "fresh" not in x
    ][:1]
    assert "a \\| b &lt;c>" in line


def test_a_folder_without_results_is_refused_in_one_sentence(demo, tmp_path):
    write_access(tmp_path / "access", rows_of("one"))
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for wrong in ("access", "empty", "absent", "run"):
        with pytest.raises(UsageError, match=r"results|holds neither|is neither"):
            write_leaderboard([tmp_path / wrong], tmp_path / "board.md")
    with pytest.raises(UsageError, match="access holds no results"):
        write_leaderboard([demo, tmp_path / "access"], tmp_path / "board.md")
    with pytest.raises(UsageError, match=r"\.md"):
        write_leaderboard([demo], tmp_path / "board.txt")
    assert not (tmp_path / "board.md").exists()
    assert main(["leaderboard", str(tmp_path / "empty")]) == 2


@pytest.mark.usefixtures("undrawn")
def test_the_page_ranks_too(demo, tmp_path):
    words = section(page_of(demo), "Ranking")
    assert words.index("64 tokens, a fresh decoder for each") < words.index("64 tokens, own decoders")
    assert "1 slots autoencoder 256" in words
    assert "8,192,000" in words
    assert "1,114,880" in words
    assert "slots, untrained twin" in words


def test_the_command_loads_no_torch_and_prints_one_object(tmp_path):
    folder = write_measurement(tmp_path / "m", ROWS[:5])
    code = (
        "import sys; from memlm.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 9 * any(name in sys.modules for name in ('torch', 'matplotlib')))"
    )
    call = [sys.executable, "-c", code, "leaderboard", str(folder), "--out", str(tmp_path / "b.md"), "--json"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["tables"]) == 2
