import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlm.data.sampler import ChunkSampler
from memlm.errors import UsageError

SHAPES = st.tuples(st.integers(1, 9), st.integers(0, 200), st.integers(1, 7), st.integers(0, 2**64 - 1))


def starts(sampler: ChunkSampler, steps: int) -> np.ndarray:
    return np.concatenate([sampler.starts_at(step) for step in range(steps)])


@settings(deadline=None)
@given(SHAPES)
def test_every_window_comes_once_an_epoch_and_epochs_follow_without_a_gap(shape) -> None:
    window, extra, batch, seed = shape
    n = window + extra
    drawn = starts(ChunkSampler(np.arange(n), window, batch, seed), 3 * (n // window) // batch + 1)
    place = 0
    while place < len(drawn):
        phase = drawn[place] % window
        epoch = drawn[place : place + (n - phase) // window]
        place += len(epoch)
        assert (epoch % window == phase).all()
        assert len(set(epoch)) == len(epoch)
        assert epoch.min() >= 0
        assert epoch.max() + window <= n


@settings(deadline=None)
@given(SHAPES, st.integers(0, 10_000))
def test_any_step_is_the_same_whatever_was_drawn_before(shape, step: int) -> None:
    window, extra, batch, seed = shape
    tokens = np.arange(window + extra, dtype=np.uint16)
    used, fresh = (ChunkSampler(tokens, window, batch, seed) for _ in range(2))
    for earlier in range(3):
        used.batch_at(earlier)
    assert (used.batch_at(step) == fresh.batch_at(step)).all()
    assert fresh.batch_at(step).dtype == np.int64
    assert fresh.batch_at(step).shape == (batch, window)


@settings(deadline=None)
@given(SHAPES, st.integers(1, 4), st.integers(0, 50))
def test_the_ranks_together_draw_the_one_batch(shape, world: int, step: int) -> None:
    window, extra, share, seed = shape
    tokens = np.arange(window + extra)
    whole = ChunkSampler(tokens, window, share * world, seed).batch_at(step)
    shares = [
        ChunkSampler(tokens, window, share * world, seed, rank=rank, world=world).batch_at(step)
        for rank in range(world)
    ]
    assert (np.concatenate(shares) == whole).all()


def test_a_batch_holds_the_stream_at_its_starts() -> None:
    tokens = np.random.default_rng(0).integers(0, 60_000, 5000).astype(np.uint16)
    sampler = ChunkSampler(tokens, 8, 16, seed=1)
    for row, start in zip(sampler.batch_at(5), sampler.starts_at(5), strict=True):
        assert (row == tokens[start : start + 8]).all()


def test_seeds_and_epochs_differ() -> None:
    tokens = np.arange(64_000)
    first, second = (starts(ChunkSampler(tokens, 64, 100, seed), 20) for seed in (0, 1))
    assert (first != second).mean() > 0.9
    assert (first[:999] // 64 != first[1000:1999] // 64).mean() > 0.9


def test_the_order_shows_no_pattern() -> None:
    count = 10_007
    order = starts(ChunkSampler(np.arange(count), 1, count, seed=3), 1)
    assert abs(np.corrcoef(order, np.arange(count))[0, 1]) < 0.04  # four standard deviations
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.04
    for bit in (1, 2, 4):
        assert abs(np.mean(order[:-1] & bit == order[1:] & bit) - 0.5) < 0.02
    # what comes first over many seeds is uniform: 8 bins, chi-square with 7 degrees of freedom
    firsts = [ChunkSampler(np.arange(80), 1, 1, seed).starts_at(0)[0] // 10 for seed in range(800)]
    assert ((np.bincount(firsts, minlength=8) - 100) ** 2 / 100).sum() < 24.3  # p = 0.001


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(UsageError, match="fewer than one window"):
        ChunkSampler(np.arange(7), 8, 1, 0)
    with pytest.raises(UsageError, match="shared"):
        ChunkSampler(np.arange(70), 8, 3, 0, rank=0, world=2)
