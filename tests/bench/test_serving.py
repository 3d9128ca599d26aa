"""What contexts cost: caches as counted, what is left out and told, sides that compute the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_benchmarks import STACK, run, small_plan

from memlm.bench import far, memory, parallel, peak
from memlm.bench.form import Options
from memlm.bench.serving import FULL, KEPT, MEMORY, RECURRENT, cache_bytes, models_of, serve, sides
from memlm.errors import WorkError
from memlm.loading import build_model
from memlm.measure.reading import predicted
from memlm.nn.config import StackConfig
from memlm.readers.config import VectorReader


@pytest.mark.parametrize("rows", [1, 3])
def test_a_context_s_cache_is_that_of_the_formula(rows):
    T, entry = 4, 2 * 2 * 8 * 4  # bytes of an entry: layers x (key, value) x width x fp32
    models = models_of(sides(T, STACK), 20, torch.device("cpu"))
    for context in (4, 12, 64):
        entries = {FULL: context + T, MEMORY: context // T + T, KEPT: context // T + T, RECURRENT: 1 + T}
        for name, one in serve(models, context, rounds=1, rows=rows).items():
            assert one.cache_bytes == rows * cache_bytes(name, context, T, STACK) == rows * entry * entries[name]
            assert models[name].cache_bytes(context) == entry * entries[name]


def test_some_sides_alone_tell_what_a_context_saves(options, monkeypatch):
    monkeypatch.setattr(memory, "ROUNDS", (1, 1))
    monkeypatch.setattr(memory, "forecast", lambda seen, context, **powers: 0.0)  # a busy machine leaves nothing out
    report, _ = run("memory", options, contexts=(4, 256), brief=True, names=(FULL, MEMORY))
    assert {row[1] for row in report.rows} == {FULL, MEMORY}
    assert sorted(told.partition(" at ")[0] for told in report.ratios) == ["cache", "time per token"]


def test_contexts_that_would_take_too_long_are_left_out_and_told(options, monkeypatch):
    forecasts = {4: 0.0, 8: 1e9}

    def step_cost(step, device):
        if step.kept:
            raise WorkError("it does not fit")
        return peak.StepCost(seconds=1.0, peak_bytes=1000)

    monkeypatch.setattr(memory, "forecast", lambda seen, context, powers=None: 0.0 if powers else forecasts[context])
    monkeypatch.setattr(memory, "step_cost", step_cost)
    report, text = run("memory", options, contexts=(4, 8))
    assert [row[:2] for row in report.rows] == [(4, name) for name in (FULL, MEMORY, KEPT, RECURRENT)]
    assert [row[-2:] for row in report.rows] == [(0.001, 1.0), (0.001, 1.0), ("-", "-"), (0.001, 1.0)]
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
    monkeypatch.setattr(memory, "forecast", lambda seen, context, **powers: 0.0)  # a busy machine leaves nothing out
    report, _ = run("memory", Options(data=options.data, out=options.out, seconds=600.0))
    assert report.ratios["cache at 256 tokens, full context / memory (asked, at least 16)"] == 256 / (64 + 4)
    assert "time per token at 256 tokens, full context / memory (asked, at least 4)" in report.ratios
    assert not any("Left out" in note for note in report.notes)


def test_token_ids_in_the_place_of_memories_are_served_as_they_are_scored():
    plan = small_plan()
    shape = plan.stages[plan.last].model  # with a window the newest memories are encoded, and recalled, all the same
    model = build_model(replace(shape, reader=replace(shape.reader, window=0)), 20, 0).eval()
    ids_1N = torch.randint(2, 20, (1, 40), generator=torch.Generator().manual_seed(0))
    scored_1NV = predicted(model, ids_1N, None, "ids", None, 4).logits
    served = far._served(model, 20)["ids"](ids_1N[:, :32])
    for n in range(8):
        torch.testing.assert_close(served.logits, scored_1NV[:, n])
        served.step(ids_1N[:, 32 + n])


def test_forecasts_are_powers_within_bounds():
    assert memory.forecast({}, 100) == 0.0
    assert memory.forecast({10: 1.0}, 100) == pytest.approx(100.0)
    assert memory.forecast({10: 1.0, 20: 2.0}, 100) == pytest.approx(10.0)
    assert memory.forecast({20: 2.0, 10: 2.0 / 2**1.5}, 80) == pytest.approx(16.0)
    assert memory.forecast({10: 3.0, 20: 2.0}, 100) == pytest.approx(10.0)
    assert memory.forecast({10: 1.0, 20: 9.0}, 40) == pytest.approx(36.0)
    tokens = {"powers": (0.0, 1.0)}  # of writing, after which a short context costs no more than a long one
    assert memory.forecast({10: 1.0}, 100, **tokens) == pytest.approx(10.0)
    assert memory.forecast({10: 1.0, 20: 1.0}, 100, **tokens) == pytest.approx(1.0)
    assert memory.forecast({10: 1.0, 20: 9.0}, 40, **tokens) == pytest.approx(18.0)


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


@pytest.mark.parametrize("reader", [VectorReader(), VectorReader(vectors=16)])
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
