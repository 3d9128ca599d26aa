"""Every benchmark runs from end to end on a tiny corpus and writes the fixed form; how curves are read."""

import json
import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from foreign_models import save_foreign
from texts import write_documents
from tiny_models import save_tiny

from memlm import presets
from memlm.bench import BENCHMARKS, encode, far, memory, parallel, peak, slots, smollm2far, tokenise, yardsticks
from memlm.bench.form import Options
from memlm.bench.frontier import Point, frontier, most, plan
from memlm.bench.mixer import PlainMixing
from memlm.bench.serving import FULL, KEPT, MEMORY, RECURRENT, SOFT, cache_bytes, models_of, serve, sides
from memlm.bench.timing import in_turn, pair_ratio
from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError, WorkError
from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.nn.config import StackConfig
from memlm.nn.mixer import FlatMixing
from memlm.presets import preset
from memlm.pretrained.shapes import BaseConfig, PretrainedShape, SoftAutoencoderShape, SoftTokens
from memlm.readers.config import SoftReader, VectorReader
from memlm.train.adapt import Adapting
from memlm.train.config import Curriculum

STACK = StackConfig(kind="transformer", width=8, layers=2, heads=2)
# What makes each benchmark small; a new one needs a row.
SMALL = {
    "slots": {"target": 1e-4},
    "mixer": {"batch": 1},
    "encode": {"models": ("slots", "mixer", "transformer", "causal-mixer"), "batch": 2},
    "bank": {"memories": 300, "appended": 100, "rounds": 1, "alone": False},
    "memory": {"contexts": (4, 256), "chunk_tokens": 4, "stack": STACK, "vocab_size": 20},
    "attention": {"cases": {"vector": ((3, 4), (2, 70)), "slots": ((3, 4),)}},
    "parallel": {
        "stack": STACK,
        "vocab_size": 20,
        "forms": {(3, 4): "asked"},
        "frozen": {(2, 4): "asked"},
        "stream": 16,
        "prompt": 6,
        "new": 3,
    },
    "tokenise": {"limit": 2000},
    "probe": {
        "tokens": 4,
        "chunks": 24,
        "batch": 8,
    },
    "far": {"seeds": (0,), "contexts": (1, 4, 8), "cost": (16, 32)},
    "far64": {"seeds": (0,), "contexts": (4, 8)},
    "yardsticks": {"pairs": (4,), "times": (32, 64), "mqar_vocab": 600, "share": 0.001},
    "kept": {"seeds": 1, "chunks": 6, "scale": 0.001},
    "startup": {"rounds": 1, "warm_up": 0},
    "frontier": {"grid": {32: (2,), 64: (2, 4)}, "budgets": (4, 2), "batch": 4},
}
FIGURES = {"slots", "frontier", "memory", "far"}


@pytest.fixture
def options(data, tmp_path, monkeypatch) -> Options:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slots, "matrix_rate", lambda device: 1e9)
    return Options(data=data, out=tmp_path / "benchmarks", seconds=0.2)


def small_language_model(options) -> dict:
    """What makes the benchmark of a real language model one of a tiny one, with data in its tokens."""
    lm = save_tiny("llama", options.data.parent / "lm")
    source = write_documents(options.data.parent / "documents")
    prepare(Prepare(source=str(source), out=options.data, tokenizer=lm))
    encoder = EncoderShape(
        chunk_tokens=4, memory_dim=16, stack=StackConfig(kind="pointwise", width=4, layers=0), readout="slots"
    )
    soft, base = SoftTokens(width=4, hidden=8), BaseConfig(name=str(lm), lora_rank=2)
    models = {"soft": SoftAutoencoderShape(base=str(lm), encoder=encoder, decoder=soft, negatives=8)}
    other = PretrainedShape(encoder=encoder, chunks=2, reader=soft, decoder=base)
    stages = {
        name: replace(config, model=models.get(name, other), steps=1, batch=2)
        for name, config in presets.smollm2_curriculum().stages.items()
    }
    return {"curriculum": Curriculum(stages=stages), "context": 8, "examples": 3, "plain": 6, "rounds": 1}


def small_far(options) -> dict:
    """The same for a language model over long texts."""
    lm = save_tiny("llama", options.out.parent / "far-lm")
    adapting = Adapting(base=str(lm), data=options.data, windows=4, steps=1, context=8)
    sizes = {"contexts": (256,), "examples": 1, "windows": (8,), "remembered": (64,), "places": 1, "most": 512}
    return {"sizes": smollm2far.Sizes(**sizes, train=adapting, autoencoder_steps=1)}


def small_plan() -> Curriculum:
    """The memory model of the benchmark, small."""
    few = StackConfig(kind="pointwise", width=4, layers=0)
    stages = presets.memory().stages
    first = replace(stages["autoencoder"].model, chunk_tokens=8, memory_dim=8, encoder=few, decoder=few)
    reader = replace(stages["find"].model.reader, unroll=few, word_dim=4, key_dim=4)
    shape = replace(stages["find"].model, encoder=first.encoder_shape, reader=reader, decoder=STACK, chunks=4)
    models = {"autoencoder": first, "language": shape, "find": shape}
    stages = {
        name: replace(stage, model=models[name], steps=1, batch=4, context=min(2, stage.context))
        for name, stage in stages.items()
    }
    return Curriculum(stages=stages)


def run(name, options, **more):
    if name == "smollm2":
        options = replace(options, data=options.out.parent / "language-model" / "data")
        more = {**small_language_model(options), **more}
    if name == "kept":
        more = {"runs": options.out.parent / "kept", **more}
    if name in ("far", "far64", "yardsticks"):
        more = {"plan": small_plan(), **more}
    if name == "smollm2far":
        options, more = replace(options, seconds=None), {**small_far(options), **more}
        more = {"runs": options.out.parent / "far-runs", **more}
    if name == "probe":
        more = {"model": str(save_foreign("causal", options.out.parent / "foreign")), "rounds": 1, **more}
    report = import_module(f"memlm.bench.{name}").run(options, **{**SMALL.get(name, {}), **more})
    return report, report.save(options.out).read_text()


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


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_the_mixer_s_peer_computes_the_same():
    config = StackConfig(width=8, kernel=4)
    ours, plain = FlatMixing(config, 5), PlainMixing(config, 5)
    plain.convolutions[0].load_state_dict(ours.state_dict())
    x_BTD = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x_BTD), plain(x_BTD))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_context_s_cache_is_that_of_the_formula(rows):
    T, entry = 4, 2 * 2 * 8 * 4  # bytes of an entry: layers x (key, value) x width x fp32
    models = models_of(sides(T, STACK), 20, torch.device("cpu"))
    for context in (4, 12, 64):
        entries = {FULL: context + T, MEMORY: context // T + T, KEPT: context // T + T, RECURRENT: 1 + T}
        entries[SOFT] = entries[FULL]
        for name, one in serve(models, context, rounds=1, rows=rows).items():
            assert one.cache_bytes == rows * cache_bytes(name, context, T, STACK) == rows * entry * entries[name]
            assert models[name].cache_bytes(context) == entry * entries[name]


def test_contexts_that_would_take_too_long_are_left_out_and_told(options, monkeypatch):
    forecasts = {4: 0.0, 8: 1e9}

    def step_cost(step, device):
        if step.kept:
            raise WorkError("it does not fit")
        return peak.StepCost(seconds=1.0, peak_bytes=1000)

    monkeypatch.setattr(memory, "forecast", lambda seen, context: forecasts[context])
    monkeypatch.setattr(memory, "step_cost", step_cost)
    report, text = run("memory", options, contexts=(4, 8))
    assert [row[:2] for row in report.rows] == [(4, name) for name in (FULL, MEMORY, KEPT, SOFT, RECURRENT)]
    assert [row[-2:] for row in report.rows] == [(0.001, 1.0), (0.001, 1.0), ("-", "-"), (0.001, 1.0), (0.001, 1.0)]
    assert "reading with full context from 8 tokens on (about 3000000000 s)" in text
    assert "training steps of memory, frozen and kept from 4 tokens on (memory)" in text
    assert "training steps of recurrent from 8 tokens on (about 1000000000 s)" in text
    assert list(report.ratios) == [
        "prefill of 4 tokens, recurrent / memory (asked, at least 2)",
        "prefill of 4 tokens, recurrent / memory, chunks of 1",
        "prefill of 4 tokens, recurrent / memory, encoder of the slots preset",
    ]


def test_targets_are_told_where_a_context_is_64_chunks(options, monkeypatch):
    monkeypatch.setattr(memory, "ROUNDS", (1, 1))
    monkeypatch.setattr(memory, "step_cost", lambda step, device: peak.StepCost(seconds=1e-3, peak_bytes=9))
    monkeypatch.setattr(memory, "forecast", lambda seen, context: 0.0)  # a busy machine leaves nothing out
    report, _ = run("memory", Options(data=options.data, out=options.out, seconds=600.0))
    assert report.ratios["cache at 256 tokens, full context / memory (asked, at least 16)"] == 256 / (64 + 4)
    assert "time per token at 256 tokens, full context / memory (asked, at least 4)" in report.ratios
    assert not any("Left out" in note for note in report.notes)


def test_forecasts_are_powers_between_the_first_and_the_second():
    assert memory.forecast({}, 100) == 0.0
    assert memory.forecast({10: 1.0}, 100) == pytest.approx(100.0)
    assert memory.forecast({10: 1.0, 20: 2.0}, 100) == pytest.approx(10.0)
    assert memory.forecast({20: 2.0, 10: 2.0 / 2**1.5}, 80) == pytest.approx(16.0)
    assert memory.forecast({10: 3.0, 20: 2.0}, 100) == pytest.approx(10.0)
    assert memory.forecast({10: 1.0, 20: 9.0}, 40) == pytest.approx(36.0)


def test_a_step_s_peak_is_its_own_process_s(monkeypatch):
    held = np.ones(1 << 26)  # half a gigabyte that is ours and not the step's
    shape = sides(16, StackConfig(kind="transformer", width=64, layers=2, heads=2))[MEMORY]
    small, large = (
        peak.step_cost(peak.Step(shape=shape, vocab_size=50, tokens=n), torch.device("cpu")) for n in (64, 1024)
    )
    assert 0 <= small.peak_bytes < large.peak_bytes < held.nbytes / 2
    assert large.seconds > 0

    def killed(*_, **__):
        raise peak.BrokenProcessPool

    monkeypatch.setattr(peak, "ProcessPoolExecutor", killed)
    with pytest.raises(WorkError, match="64 tokens does not fit into memory"):
        peak.step_cost(peak.Step(shape=shape, vocab_size=50, tokens=64), torch.device("cpu"))


@pytest.mark.parametrize("reader", [VectorReader(), SoftReader()])
def test_the_plain_loop_computes_the_same_loss_and_gradients(reader):
    device, gradients = torch.device("cpu"), []
    model = parallel._built(STACK, 20, 3, 4, reader, device)
    ids_BN = torch.randint(2, 20, (2, 12), generator=torch.Generator().manual_seed(0))
    for way in ("packed", "folded", "one after the other"):
        model.zero_grad()
        model.form = "folded" if way == "folded" else "packed"
        loss = parallel.one_after_the_other(model, ids_BN) if "one" in way else model(ids_BN, labels=ids_BN).loss
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()} | {"loss": loss.detach()})
    torch.testing.assert_close(gradients[0], gradients[2])
    torch.testing.assert_close(gradients[1], gradients[2])


def test_sides_that_compute_something_else_are_not_timed():
    model = parallel._built(STACK, 20, 3, 4, VectorReader(), torch.device("cpu"))
    losses = {"a": lambda: model.head.weight.sum(), "b": lambda: model.head.weight.sum() + 1}
    with pytest.raises(AssertionError, match="different losses"):
        parallel.compare_steps(model, losses, 1.0)


def test_a_side_that_never_gets_there_gives_a_lower_bound(options, monkeypatch):
    curves = {"pointwise": [(1.0, 0.25), (2.0, 0.75)], "mixer": [(1.0, 0.1), (9.0, 0.2)]}

    def told(config):
        rows = [
            {"step": i + 1, "train_seconds": s, "token_accuracy": a}
            for i, (s, a) in enumerate(curves[config.model.encoder.kind])
        ]
        return rows, "" if config.optim.kind == "adamw" else "the loss has diverged"

    monkeypatch.setattr(slots, "_train", told)
    report, text = run("slots", options, target=0.5)
    assert [row[1] for row in report.rows] == [1.5, "more than 9", "more than 9"]
    assert list(report.ratios.values()) == [6.0, 6.0]
    assert all("a lower bound" in what for what in report.ratios)
    assert "stopped after 9.0 s: the loss has diverged" in text
    curves["pointwise"] = [(1.0, 0.25)]
    report, text = run("slots", options, target=0.5)
    assert not report.ratios
    assert "slots itself did not reach 50 %" in text


def test_a_diverged_side_keeps_its_curve(options, monkeypatch):
    def diverge(config, out):
        out.mkdir()
        (out / "metrics.jsonl").write_text('{"step": 5}\n')
        raise WorkError("the loss has diverged; lower it")

    monkeypatch.setattr(slots, "train", diverge)
    config = slots.sides(options.data, 1.0)["slots"]
    assert slots._train(config) == ([{"step": 5}], "the loss has diverged")


def test_sides_differ_in_what_they_should_only(data):
    sides = slots.sides(data, 1.0)
    assert sides["mixer"].optim.kind == "adamw"
    assert sides["mixer, optimiser of slots"].optim == sides["slots"].optim
    assert sides["mixer, optimiser of slots"].model == sides["mixer"].model
    assert sides["mixer"].model.memory_dim == sides["slots"].model.memory_dim == 256
    assert {(s.batch, s.eval_every, s.optim.warmup, s.optim.decay_from) for s in sides.values()} == {(128, 5, 50, 1.0)}


def test_crossings_are_interpolated():
    curve = [(1.0, 0.2), (2.0, 0.4), (4.0, 0.8), (5.0, 0.3)]
    assert slots.crossing(curve, 0.5) == pytest.approx(2.5)
    assert slots.crossing(curve, 0.1) == pytest.approx(0.5)  # from nothing at the start
    assert slots.crossing(curve, 0.9) is None
    assert slots.crossing([], 0.5) is None
    dense = [(1 + i / 1000, i / 1000) for i in range(1000)]
    thin = slots.thinned(dense, near=1.5)
    assert len(thin) < 500
    assert slots.crossing(thin, 0.5) == pytest.approx(slots.crossing(dense, 0.5))
    assert thin[-1] == dense[-1]


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


def test_the_frontier_goes_on_where_it_was_and_tells_what_it_left_out(options, tmp_path, monkeypatch):
    from memlm.bench import frontier as module

    _, text = run("frontier", Options(data=options.data, out=options.out, seconds=1e-9))
    assert "Left out, as 1e-09 s were over or would have been: 2 tokens in 64 numbers, 2 steps; 4 tokens" in text
    trained = []
    real = module.train
    monkeypatch.setattr(module, "train", lambda c, out, resume: trained.append(resume) or real(c, out, resume=resume))
    whole = Options(data=options.data, out=options.out)
    report, text = run("frontier", whole)
    assert trained == [True, *[False] * 5]
    assert "Left out" not in text
    assert [row[:2] for row in report.rows] == [(32, 2), (32, 2), (64, 2), (64, 2), (64, 4), (64, 4)]
    trained.clear()
    again, _ = run("frontier", whole)
    assert trained == [True] * 6
    assert again.rows == report.rows


def test_the_frontier_s_order_and_line(data):
    order = [
        (c.steps, c.model.memory_dim, c.model.chunk_tokens) for c in plan({8: (2, 3), 16: (4,)}, (20, 10), data, 4)
    ]
    assert order == [(10, 8, 2), (10, 16, 4), (10, 8, 3), (20, 8, 2), (20, 16, 4), (20, 8, 3)]

    def point(seconds, characters, accuracy):
        return Point(
            memory_dim=8,
            chunk_tokens=2,
            characters=characters,
            steps=1,
            train_seconds=seconds,
            token_accuracy=accuracy,
            exact_match=0.0,
            commit="c",
        )

    points = [point(4, 30, 0.995), point(1, 10, 0.99), point(2, 40, 0.98), point(3, 9, 1.0), point(5, 30, 1.0)]
    assert frontier(points) == [(1, 10), (4, 30)]
    assert most(points) == points[0]
    assert most(points[2:3]) is None


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
