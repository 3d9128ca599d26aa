"""Access to memory: hand-made models get the figures that they must, conditions are what they say, chance is chance."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from handmade_models import ENCODER, TRANSFORMER, C, T, carrier, ordinary, recurrent_shape, shape, verbatim

from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.errors import UsageError, WorkError
from memlm.loading import build_model, save_model
from memlm.measure.access import measure_access
from memlm.measure.access_table import access_table
from memlm.measure.config import AccessConfig, MeasureConfig
from memlm.measure.controls import derangement
from memlm.measure.intervals import wilson
from memlm.measure.reading import PlaceScores, memories_read
from memlm.measure.run import measure
from memlm.measure.subject import examined
from memlm.models.shapes import AutoencoderShape
from memlm.nn.loss import IGNORED
from memlm.objectives.recall import Recall
from memlm.objectives.registry import build_objective
from memlm.objectives.symbols import symbols
from memlm.train.held_out import evaluate

X = IGNORED
QUICK = AccessConfig(examples=40, free_running=8)
LOSS = ("causal", "cross_entropy", "own")
ORIGIN = {"model", "kind", "reader", "chunk_tokens", "seed", "data", "vocab_size", "device", "machine", "commit"}


@pytest.fixture(scope="module")
def corpus(data):
    return Corpus.open(data)


def all_rows(model, corpus, config=QUICK):
    return measure_access(model, corpus, config, "it")


def measured(model, corpus, config=QUICK):
    """Rows of what fits chunks as short as these."""
    return [row for row in all_rows(model, corpus, config) if row["note"] is None]


def value(rows, task, metric="token_accuracy", memory="own", mode=None, at=None, symbols=None):
    return found(rows, task, metric, memory, mode, at, symbols)["value"]


def found(rows, task, metric="token_accuracy", memory="own", mode=None, at=None, symbols=None):
    mode = mode or ("both" if task == "blank" else "teacher-forced")
    symbols = symbols or ("unseen" if task in ("recall", "needle") else None)
    wanted = {"task": task, "metric": metric, "memory": memory, "mode": mode, "at": at, "symbols": symbols}
    (row,) = [r for r in rows if all(r[key] == item for key, item in wanted.items())]
    return row


# Models whose figures are known


@pytest.mark.parametrize("make", [lambda v: verbatim("copies", v), carrier])
def test_a_perfect_copier_is_perfect_with_its_own_memories_alone(make, corpus):
    rows = measured(make(corpus.vocab_size), corpus)
    for task, mode in (("copy", "teacher-forced"), ("copy", "free-running"), ("blank", "both")):
        for metric in ("token_accuracy", "exact_match", "chunk_match"):
            assert value(rows, task, metric, mode=mode) == 1
            assert value(rows, task, metric, "other", mode=mode) < 0.5
            assert value(rows, task, metric, "none", mode=mode) < 0.2
            gain = found(rows, task, metric, "gain", mode=mode)
            assert gain["value"] == 1 - value(rows, task, metric, "none", mode=mode)
            assert gain["value_ci"][0] > 0.8


def test_a_copier_that_needs_a_teacher_fails_without_one(corpus):
    """It goes on with a copy only while the token before is right, and never knows how to begin."""
    rows = measured(verbatim("copies if on the way", corpus.vocab_size), corpus)
    assert value(rows, "copy") == pytest.approx((T - 1) / T, abs=0.05)
    assert value(rows, "copy", mode="free-running") < 0.1
    assert value(rows, "copy", "exact_match") < 0.1


def test_a_lookup_recalls_all_pairs_and_all_needles_and_is_nothing_without_its_memory(corpus):
    rows = measured(verbatim("looks up", corpus.vocab_size), corpus)
    for task, group in (("recall", (1, 2, 3)), ("needle", (0, 1, 2))):
        for memory, expected in (("own", 1.0), ("none", 0.0), ("other", 0.0)):
            assert value(rows, task, memory=memory) == pytest.approx(expected, abs=0.1)
        for at in group:
            row = found(rows, task, at=at)
            assert row["value"] == row["value_ci"][1] == 1
            assert row["value_ci"][0] == wilson(1, row["examples"])[0]  # no example failed, of so many
        parts = [r for r in rows if (r["task"], r["symbols"], r["memory"]) == (task, "unseen", "own") and r["group"]]
        assert [row["at"] for row in parts] == list(group)
        assert sum(row["tokens"] for row in parts) == found(rows, task)["tokens"]


@pytest.mark.parametrize(("kind", "which"), [("guesses", "chance"), ("guesses a told value", "chance_told")])
def test_a_guess_scores_chance(kind, which, corpus):
    torch.manual_seed(0)
    row = found(measured(verbatim(kind, corpus.vocab_size), corpus, replace(QUICK, examples=400)), "recall")
    assert row["chance"] == 1 / (len(symbols(corpus.vocab_size, "unseen")) - (C - 1) * T // 2)
    assert row["chance_told"] == 1 / ((C - 1) * T // 2)
    low, high = row["value_ci"]
    assert 0 < low <= row[which] <= high < 3 * row[which]


def test_some_tasks_alone_say_the_same(corpus):
    model, asked = verbatim("copies", corpus.vocab_size), ("blank", "recall")
    rows = measured(model, corpus, replace(QUICK, tasks=asked))
    assert rows == [row for row in measured(model, corpus, QUICK) if row["task"] in asked]
    with pytest.raises(UsageError, match="no task 'blink'; there are causal"):
        measured(model, corpus, replace(QUICK, tasks=("blink",)))


@pytest.mark.parametrize("reader", ["none", "full"])
def test_models_without_memories_read_none(reader, corpus):
    rows = measured(ordinary(shape(reader), corpus.vocab_size), corpus)
    assert {row["memories_max"] for row in rows} == {0}
    assert {row["reader"] for row in rows} == {reader}
    for row in rows:
        if row["memory"] == "gain" and reader == "none":
            assert (row["value"], row["value_ci"]) == (0, [0, 0])
    if reader == "full":  # it reads earlier tokens, and these are what it loses
        assert value(rows, "causal", "cross_entropy", "gain") != 0
        assert value(rows, "causal", "cross_entropy", "gain", at=0) == pytest.approx(0, abs=1e-6)


# Rows


@pytest.mark.parametrize("reader", ["vector", "pointer"])
def test_losses_are_those_of_the_evaluation_in_training(reader, corpus):
    model = ordinary(shape(reader), corpus.vocab_size)
    rows = measured(model, corpus)
    for name in ("causal", "copy", "blank", "recall"):
        objective = build_objective(name, corpus.vocab_size)
        objective = Recall(corpus.vocab_size, "unseen") if name == "recall" else objective
        windows = corpus.chunks("test", objective.window(C * T), limit=QUICK.examples).tokens
        for memory, options in (("own", {}), ("none", {"read": False})):
            expected = evaluate(model, objective, windows, T, torch.device("cpu"), **options)
            assert value(rows, name, "cross_entropy", memory) == pytest.approx(expected.cross_entropy, rel=1e-5)
            assert value(rows, name, memory=memory) == pytest.approx(expected.token_accuracy)
        gain = value(rows, name, "cross_entropy", "none") - value(rows, name, "cross_entropy")
        assert value(rows, name, "cross_entropy", "gain") == pytest.approx(gain, abs=1e-9)
    windows = corpus.chunks("test", C * T, limit=QUICK.examples).tokens
    bits = value(rows, "causal", "cross_entropy") / np.log(2) * windows.size / corpus.token_bytes[windows].sum()
    assert value(rows, "causal", "bits_per_byte") == pytest.approx(bits)
    by_chunk = [value(rows, "causal", "cross_entropy", at=c) for c in range(C)]
    assert np.mean(by_chunk) == pytest.approx(value(rows, "causal", "cross_entropy"))


def test_every_row_has_its_interval_its_memories_and_its_origin(corpus):
    rows = measured(ordinary(shape(), corpus.vocab_size), corpus)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert row.keys() == rows[0].keys() >= ORIGIN
        assert row["value_ci"][0] <= row["value"] <= row["value_ci"][1]
        assert (row["data"], row["chunks"], row["chunk_tokens"]) == (corpus.hash, C, T)
        assert 2 <= row["examples"] <= (8 if row["mode"] == "free-running" else 40)
        if row["memory"] == "none":
            assert row["memories_max"] == 0
    told = {(r["task"], r["at"]): (r["memories_min"], r["memories_mean"], r["memories_max"])
            for r in rows if r["memory"] == "own"}  # fmt: skip
    assert told["causal", None] == (0, 1.5, 3)
    assert told["causal", 2] == (2, 2, 2)
    assert told["copy", None] == told["blank", None] == (2, 2.5, 3)
    assert told["recall", None] == told["needle", 0] == (3, 3, 3)
    assert {(row["task"], row["symbols"]) for row in rows if row["symbols"]} == {
        (task, which) for task in ("facts", "recall", "needle") for which in ("unseen", "trained")
    }


def test_a_recurrent_model_reads_one_memory(corpus):
    model = ordinary(recurrent_shape(), corpus.vocab_size)
    rows = measured(model, corpus)
    assert {row["reader"] for row in rows} == {"carried"}
    assert found(rows, "causal", "cross_entropy")["memories_mean"] == 0.75
    assert found(rows, "needle")["memories_max"] == 1
    assert memories_read(model, np.arange(4), "own").tolist() == [0, 1, 1, 1]
    assert value(rows, "causal", "cross_entropy", "gain", at=0) == pytest.approx(0, abs=1e-6)
    assert value(rows, "causal", "cross_entropy", "gain", at=1) != 0


def test_more_chunks_than_the_models_own_and_an_odd_number(corpus):
    model = ordinary(shape(chunks=2), corpus.vocab_size)
    rows = measured(model, corpus, replace(QUICK, chunks=5))
    assert {(row["task"], row["chunks"]) for row in rows} == {
        ("causal", 5), ("facts", 5), ("recall", 5), ("needle", 5), ("copy", 4), ("blank", 4),
    }  # fmt: skip
    fixed = build_model(replace(shape(chunks=2), positions="fixed"), corpus.vocab_size, 0)
    with pytest.raises(UsageError, match="room for 12 tokens"):
        measured(fixed, corpus, replace(QUICK, chunks=5))


def test_what_does_not_fit_is_noted(corpus):
    odd = replace(shape(), encoder=replace(ENCODER, chunk_tokens=3))
    rows = all_rows(build_model(odd, corpus.vocab_size, 0), corpus, replace(QUICK, free_running=0))
    noted = {row["task"]: row["note"] for row in rows if row["note"]}
    assert noted.keys() == {"facts", "facts-3", "facts-changed", "quote", "recall"}
    assert [row["value"] for row in rows if row["note"]] == [None] * 5
    assert "even number" in noted["recall"]
    assert "facts need" in noted["facts"]
    assert "no recall: key-value recall needs" in access_table(rows)
    assert not [row for row in rows if row["mode"] == "free-running"]
    assert not measured(build_model(shape(chunks=1), corpus.vocab_size, 0), corpus)


def test_what_cannot_be_measured_is_refused(corpus):
    with pytest.raises(UsageError, match="reads no chunks"):
        measured(build_model(AutoencoderShape(chunk_tokens=T, encoder=TRANSFORMER), corpus.vocab_size, 0), corpus)
    with pytest.raises(UsageError, match="77 tokens"):
        measured(build_model(shape(), 77, 0), corpus)
    with pytest.raises(UsageError, match="no document is as long"):
        measured(build_model(shape(), corpus.vocab_size, 0), corpus, replace(QUICK, chunks=100_000))
    for wrong in ({"examples": 1}, {"free_running": 1}, {"free_running": -1}, {"chunks": 1}):
        with pytest.raises(UsageError):
            AccessConfig(**wrong)
    with pytest.raises(UsageError):
        MeasureConfig(access_examples=0)
    broken = build_model(shape(), corpus.vocab_size, 0)
    torch.nn.init.constant_(broken.head.weight, float("nan"))
    with pytest.raises(WorkError, match="no number"):
        measured(broken, corpus)


def test_the_model_is_left_as_it_was(corpus):
    model = build_model(shape(), corpus.vocab_size, 0).train()
    before = model.fingerprint()
    first = measured(model, corpus)
    assert model.training
    assert model.fingerprint() == before
    assert measured(model, corpus) == first


# Conditions


def test_a_derangement_leaves_nobody_in_place():
    for n in (2, 3, 50):
        order = derangement(n, np.random.default_rng(n))
        assert sorted(order) == list(range(n))
        assert (order != np.arange(n)).all()


# Figures by hand


def test_figures_by_hand():
    right = np.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1]], bool)
    scored = np.array([[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]], bool)
    nats = np.arange(12.0).reshape(2, 6) * scored
    scores, size = PlaceScores(nats, right & scored, scored), np.full((2, 6), 3)
    assert scores.sums("cross_entropy", size, 2).tolist() == [[14, 4], [38, 4]]
    assert scores.sums("token_accuracy", size, 2).tolist() == [[4, 4], [3, 4]]
    assert scores.sums("exact_match", size, 2).tolist() == [[1, 1], [0, 1]]
    assert scores.sums("chunk_match", size, 2).tolist() == [[2, 2], [1, 2]]
    assert scores.sums("bits_per_byte", size, 2)[0].tolist() == pytest.approx([14 / np.log(2), 12])
    second = scores.at(np.arange(6) // 2 == 1)
    assert second.sums("token_accuracy", size, 2).tolist() == [[2, 2], [1, 2]]
    assert second.sums("cross_entropy", size, 2).tolist() == [[5, 2], [17, 2]]


def test_the_table_shows_each_figure_once(corpus):
    table = access_table(measured(verbatim("copies", corpus.vocab_size), corpus)).splitlines()
    (free,) = [line.split("  ") for line in table if "copy, free" in line and "tokens right" in line]
    assert "100.00%" in [cell.strip() for cell in free]
    assert len(table) == 2 + 14


# The command


@pytest.fixture(scope="module")
def saved(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models = {"memory": shape(), "nothing": shape("none"), "recurrent": recurrent_shape()}
    models |= {"autoencoder": AutoencoderShape(chunk_tokens=T, encoder=TRANSFORMER)}
    for name, any_shape in models.items():
        save_model(build_model(any_shape, corpus.vocab_size, 0), corpus.tokenizer, folder / name)
    return folder


PROBE = ["--probe.steps", "2", "--probe.train-chunks", "200", "--no-controls", "--chunks", "50", "--free-running", "2"]


def test_memory_and_recurrent_models_are_measured_both_ways(saved, data, tmp_path, capsys, monkeypatch):
    models = [str(saved / name) for name in ("memory", "nothing", "recurrent")]
    argv = ["measure", *models, "--data", str(data), "--out", str(tmp_path / "out"), *PROBE, "--access-examples", "20"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "usable bits" in printed
    assert "another's" in printed
    access = json.loads((tmp_path / "out" / "access.json").read_text())
    assert {row["model"] for row in access} == {"memory", "nothing", "recurrent"}
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert {row["model"] for row in results} == {"no memory", "memory", "recurrent"}
    monkeypatch.setattr("memlm.measure.run.measure_access", None)  # would fail if anything were measured again
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["access"] == access


def test_a_model_without_encoder_has_access_and_no_retention(saved, data, tmp_path, capsys):
    argv = ["measure", str(saved / "nothing"), "--data", str(data), *PROBE]
    assert main([*argv, "--out", str(tmp_path / "out"), "--access-examples", "20"]) == 0
    assert "usable bits" not in capsys.readouterr().out
    assert main([*argv, "--out", str(tmp_path / "other"), "--no-access"]) == 2
    said = capsys.readouterr().err
    assert "forms no memories" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_access_at_several_lengths_and_nothing_else(saved, data, tmp_path, capsys, monkeypatch):
    argv = ["measure", str(saved / "memory"), "--data", str(data), "--no-retention", "--access-examples", "20"]
    assert main([*argv, "--access-chunks", "2", "6", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "usable bits" not in printed
    rows = json.loads((tmp_path / "out" / "access.json").read_text())
    losses = {r["example_chunks"]: r for r in rows if (r["task"], r["metric"], r["memory"]) == LOSS and not r["group"]}
    assert {C: row["memories_max"] for C, row in losses.items()} == {2: 1, 6: 5}
    for row in losses.values():  # the table has each length's own figures
        assert f"{row['value']:.3f}" in printed
    attribution = json.loads((tmp_path / "out" / "attribution.json").read_text())["results"]
    assert {row["example_chunks"] for row in attribution} == {2}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["results"] == []
    monkeypatch.setattr("memlm.measure.run.measure_access", None)  # would fail if anything were measured
    for more, wrong, said in (
        ([str(saved / "autoencoder")], [], "reads no memories"),
        ([], ["--no-access"], "nothing is asked"),
        ([], ["--access-chunks", "2", "100000"], "no document is as long"),
    ):
        assert main(["measure", *more, *argv[1:], *wrong, "--out", str(tmp_path / "other")]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("chunks", "examples"), [(2, 40), (2**11, 8), (2**12, 8), (2**9, 16)])
def test_of_long_examples_there_are_fewer(corpus, chunks, examples):
    """As many as have 8,192 chunks, 8 at least; the text is asked for no more, wherever it ends."""
    asked = []
    model = verbatim("copies", corpus.vocab_size)
    with examined(model, corpus, "it", replace(QUICK, chunks=chunks), ()) as subject:
        few = replace(subject, corpus=SimpleNamespace(chunks=lambda part, tokens, limit: asked.append(limit)))
        with pytest.raises(AttributeError):  # there is no text in it
            next(iter(few.examples({"it": (lambda *_: None, lambda n: n)}, 40)))
    assert asked == [examples]


def test_without_access_there_is_no_access_report(saved, data, tmp_path):
    config = MeasureConfig(access=False, controls=False, chunks=50)
    quick = replace(config, probe=replace(config.probe, families=("linear",), train_chunks=(200,), seeds=1))
    assert measure([str(saved / "memory")], data, tmp_path / "out", quick)["access"] == []
    assert not (tmp_path / "out" / "access.json").exists()
