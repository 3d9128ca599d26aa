"""A probe finds what a memory holds, finds nothing where there is nothing, and stops where it reads best."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from memlm.errors import UsageError
from memlm.measure.config import ProbeConfig
from memlm.measure.probe import kept_aside, train_floor, train_probe
from memlm.measure.scores import score_chunks
from memlm.memory.encoder_shape import BRIDGES
from memlm.nn.config import StackConfig

V, T, M = 30, 4, 64
CPU = torch.device("cpu")
PROBE = ProbeConfig(decoder=StackConfig(kind="pointwise", width=24, layers=1), steps=100, batch=64)
CODE_VM = np.random.default_rng(9).normal(size=(T * V, M)).astype(np.float32)


def text(count: int, seed: int) -> np.ndarray:
    """Chunks of tokens that are independent of each other, some frequent."""
    return np.random.default_rng(seed).choice(V, (count, T), p=np.arange(1, V + 1) / (V * (V + 1) / 2))


def telling(tokens_NT: np.ndarray) -> np.ndarray:
    """Memories that hold their chunk: a random direction for each token at each place, added up."""
    return CODE_VM[tokens_NT + V * np.arange(T)].sum(1)


def silent(tokens_NT: np.ndarray) -> np.ndarray:
    """Memories that hold nothing."""
    return np.random.default_rng(len(tokens_NT)).normal(size=(len(tokens_NT), M)).astype(np.float32)


def fit(config, memories, count, floor=None):
    tokens_NT = text(count, 0)
    return train_probe(config, memories(tokens_NT), tokens_NT, V, CPU, "it", floor)


def nothing(tokens_NT: np.ndarray) -> np.ndarray:
    return np.zeros((len(tokens_NT), 1), np.float32)


@cache
def floor_of(config: ProbeConfig, count: int):
    """The floor of `count` chunks of text, trained once for all tests that ask for it."""
    return train_floor(config, text(count, 0), V, CPU)


def usable_bits(probe, memories, floor) -> float:
    """On other chunks."""
    tokens_NT = text(400, 1)
    nats = [
        score_chunks(p, of(tokens_NT), tokens_NT, CPU).nats_N.mean() for p, of in ((floor, nothing), (probe, memories))
    ]
    return (nats[0] - nats[1]) / T / np.log(2)


@pytest.mark.parametrize("count", [300, 1500])
def test_a_memory_that_holds_nothing_is_worth_nothing(count):
    floor = floor_of(PROBE, count)
    probe = fit(PROBE, silent, count, floor)
    assert abs(usable_bits(probe, silent, floor)) < 0.02


@pytest.mark.parametrize("bridge", BRIDGES)
def test_a_memory_that_holds_its_text_is_read(bridge):
    # Only a decoder that knows positions tells apart what `repeat` says alike at each.
    decoder = StackConfig(kind="mixer", width=M, layers=1) if bridge == "repeat" else PROBE.decoder
    config = replace(PROBE, bridge=bridge, decoder=decoder)
    floor = floor_of(PROBE, 1500)
    probe = fit(config, telling, 1500, floor)
    assert usable_bits(probe, telling, floor) > (3 if bridge == "slots" else 0.3)
    assert usable_bits(probe, silent, floor) < 0


def test_before_its_first_step_a_probe_says_what_the_floor_says():
    floor = fit(PROBE, nothing, 300)
    assert 0 < floor.step <= PROBE.steps
    probe = fit(replace(PROBE, steps=1, optim=replace(PROBE.optim, lr=9.0, matrix_lr=9.0)), silent, 300, floor)
    assert probe.step == 0  # a step as long as that only spoils it
    assert usable_bits(probe, silent, floor) == pytest.approx(0, abs=1e-6)


def test_the_floor_leaves_nothing_that_training_alone_would_gain():
    floor = floor_of(PROBE, 300)
    assert abs(usable_bits(fit(PROBE, nothing, 300, floor), nothing, floor)) < 0.003  # trained once, 0.006 to 0.014


def test_the_kept_step_reads_the_kept_chunks_best(monkeypatch):
    seen = []

    def watched(probe, memories_NM, tokens_NT, device):
        scores = score_chunks(probe, memories_NM, tokens_NT, device)
        seen.append((len(tokens_NT), scores.nats_N.mean()))
        return scores

    monkeypatch.setattr("memlm.measure.probe.score_chunks", watched)
    tokens_NT = text(300, 0)
    probe = train_probe(PROBE, telling(tokens_NT), tokens_NT, V, CPU, "it")
    kept, nats = [count for count, _ in seen], [nats for _, nats in seen]
    assert kept == [kept_aside(300)] * 11
    assert probe.step == PROBE.steps * int(np.argmin(nats)) // 10
    again = score_chunks(probe, telling(tokens_NT[-64:]), tokens_NT[-64:], CPU).nats_N.mean()
    assert again == pytest.approx(min(nats), rel=1e-6)


def test_the_same_seed_gives_the_same_probe_and_another_another():
    first, second = (fit(replace(PROBE, steps=20), telling, 200) for _ in range(2))
    other = fit(replace(PROBE, steps=20, seed=1), telling, 200)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_some_training_chunks_are_kept_and_most_are_learnt():
    assert [kept_aside(n) for n in (2, 3, 100, 2500, 32_768)] == [1, 1, 50, 156, 256]
    with pytest.raises(UsageError, match="two training chunks"):
        fit(PROBE, nothing, 1)
