"""Every benchmark runs from end to end on a tiny corpus and writes the fixed form."""

import json
import re
from typing import Any, cast

import pytest
import torch
from small_benchmarks import run
from torch.nn import functional as F

from memlm.bench import BENCHMARKS, encode, far, longsides, memory, tokenise, yardsticks
from memlm.bench.form import Options
from memlm.bench.longtext import Asked
from memlm.bench.timing import in_turn, pair_ratio
from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.loading import build_model
from memlm.presets import preset

FIGURES = {"slots", "frontier", "memory", "far"}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_runs_and_writes_the_form(name, options, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ROUNDS", (1, 1))
    monkeypatch.setattr(far, "WRITTEN", 4)
    monkeypatch.setattr(yardsticks, "ROWS", 2)
    monkeypatch.setattr(yardsticks, "TESTED", 2)
    monkeypatch.setattr(far, "STEPS", (2, 8))
    report, text = run(name, options)
    assert text.startswith(f"# {name}\n\n{report.claim}\n\n- command: `memlm bench {name}`\n- machine: ")
    assert re.search(r"^- commit: \S+\n- setting: \S", text, re.M)
    table = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(report.rows)
    assert set(table) == {len(report.columns) - 1}
    result = json.loads((options.out / f"{name}.json").read_text())
    assert result["benchmark"] == name
    told = [*report.columns, *report.told, "device", "commit"]
    assert [list(row) for row in result["results"]] == [told] * len(report.rows)
    assert result["ratios"] == report.ratios
    assert all(f"- **{what}: " in text for what in report.ratios)
    assert report.ratios or name == "frontier"  # which learns nothing in four steps
    assert (report.figure is not None) == (name in FIGURES)
    if report.figure:
        assert f"![{name}]({name}.png)" in text
        assert (options.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in text
    if name == "far":
        falls_by_its_rises(report.rows)


def falls_by_its_rises(rows: list[tuple[Any, ...]]) -> None:
    """Next tokens after each context are those before it and their rise, book by book."""
    nats, rises = ({row[1:5]: row[5] for row in rows if row[0] == task} for task in ("causal", "causal-rise"))
    assert rises
    for (text, *_, chunks), rise in rises.items():
        of = {K: value for (one, _, by, K), value in nats.items() if one == text and by == ("memory" if K else "none")}
        shorter = max(K for K in of if chunks > K)
        assert rise == pytest.approx(of[chunks] - of[shorter], abs=1e-6), (text, chunks)


def test_models_of_all_seeds_are_asked_and_an_example_counts_once():
    models, answer_N = [object(), object()], torch.tensor([3, 1])
    bench = longsides.Bench(cast(Any, models), None, cast(Any, None), None, 0.0)
    right_1QV, wrong_1QV = F.one_hot(answer_N[None], 5).float(), F.one_hot(torch.tensor([[3, 2]]), 5).float()
    told = bench.by_models(
        lambda: {("memory", 8): [right_1QV if bench.model is cast(Any, models[0]) else wrong_1QV, right_1QV]}
    )
    assert bench.model is cast(Any, models[0])
    asked = [Asked(task, answer_N, answer_N) for task in ("needle", "quote")]
    bench.answered(asked[:1] * 2, told["memory", 8], "memory", 4, 8)
    bench.answered(asked[1:], told["memory", 8][:1], "memory", 4, 8)
    of = {key[0]: parts for key, parts in bench.sums.items()}
    assert of == {"needle": [(0.5, 1.0), (1.0, 1.0)], "quote": [(0.75, 1.0)]}


def test_operations_are_those_counted_by_hand(data):
    T, D, layers = 64, 256, 2
    ids_BT = torch.ones(3, T, dtype=torch.long)
    by_hand = {
        "slots": 2 * 64 * 256,
        "mixer": layers * (2 * T * 4 * D + 2 * 8 * D * D),
        "transformer": layers * (2 * 4 * D * D + 2 * 12 * D * D + 4 * T * D),
    }
    for name, flops in by_hand.items():
        model = build_model(preset(name).model, 300, 0)
        assert encode.encoding_flops(model, ids_BT) == pytest.approx(3 * T * flops, rel=0.001), name


def test_the_text_is_the_source_s(data):
    opened = Corpus.open(data)
    whole = list(tokenise.texts(opened, 10**9))
    originals = [path.read_text() for path in sorted((data.parent / "source").iterdir())]
    assert sorted(whole) == sorted(originals)
    ids = opened.tokenizer.encode("".join(tokenise.texts(opened, 1000))).ids
    assert len(ids) == pytest.approx(1000, abs=5)


def test_a_missing_corpus_is_prepared_and_a_present_one_is_not(data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("memlm.data.prepare.prepare", asked.append)
    assert Options(data=data, out=tmp_path).corpus().vocab_size == 300
    assert not asked
    Options(data=tmp_path / "new", out=tmp_path).corpus()
    assert (asked[0].source, asked[0].out) == ("gutenberg", tmp_path / "new")


def test_sides_are_called_in_turn():
    calls = []
    times = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == list("ababab")
    assert [len(t) for t in times.values()] == [2, 2]
    assert pair_ratio([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]) == 4.0


def test_the_command_line(data, tmp_path, capsys):
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--seconds", "0.01"]
    assert main(["bench", "tokenise", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "tokenise"
    assert main(["bench", "tokenise", *arguments[:-1], "-1"]) == 2
    assert "seconds must be above 0" in capsys.readouterr().err
    assert main(["bench", "nothing"]) == 2
    assert main(["bench"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHMARKS)
    with pytest.raises(UsageError):
        Options(data=data, out=tmp_path, seconds=0.0)
