"""How training curves are read: who gets where first, and what the frontier is."""

import pytest
import torch
from small_benchmarks import run

from memlm.bench import slots
from memlm.bench.form import Options
from memlm.bench.frontier import Point, frontier, most, plan
from memlm.bench.mixer import PlainMixing
from memlm.errors import WorkError
from memlm.nn.config import StackConfig
from memlm.nn.mixer import FlatMixing


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_the_mixer_s_peer_computes_the_same():
    config = StackConfig(width=8, kernel=4)
    ours, plain = FlatMixing(config, 5), PlainMixing(config, 5)
    plain.convolutions[0].load_state_dict(ours.state_dict())
    x_BTD = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x_BTD), plain(x_BTD))


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
            token_accuracy_ci=[accuracy, accuracy],
            exact_match=0.0,
            commit="c",
        )

    points = [point(4, 30, 0.995), point(1, 10, 0.99), point(2, 40, 0.98), point(3, 9, 1.0), point(5, 30, 1.0)]
    assert frontier(points) == [(1, 10), (4, 30)]
    assert most(points) == points[0]
    assert most(points[2:3]) is None
