import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlm.data.sampler import ChunkSampler
from memlm.errors import UsageError

# (window, tokens of the stream beyond one window, batch, seed, align)
SHAPES = st.tuples(
    st.integers(1, 9), st.integers(0, 200), st.integers(1, 7), st.integers(0, 2**64 - 1), st.integers(1, 4)
).map(lambda shape: (shape[0] * shape[4], *shape[1:]))


def starts(sampler: ChunkSampler, steps: int) -> np.ndarray:
    return np.concatenate([sampler.starts_at(step) for step in range(steps)])


@settings(deadline=None)
@given(SHAPES)
def test_every_window_comes_once_an_epoch_and_epochs_follow_without_a_gap(shape) -> None:
    window, extra, batch, seed, align = shape
    n = window + extra
    drawn = starts(ChunkSampler(np.arange(n), window, batch, seed, align=align), 3 * (n // window) // batch + 1)
    place = 0
    while place < len(drawn):
        phase = drawn[place] % window
        epoch = drawn[place : place + (n - phase) // window]
        place += len(epoch)
        assert (epoch % window == phase).all()
        assert phase % align == 0
        assert len(set(epoch)) == len(epoch)
        assert epoch.min() >= 0
        assert epoch.max() + window <= n


@settings(deadline=None)
@given(SHAPES, st.integers(0, 10_000))
def test_any_step_is_the_same_whatever_was_drawn_before(shape, step: int) -> None:
    window, extra, batch, seed, align = shape
    tokens = np.arange(window + extra, dtype=np.uint16)
    used, fresh = (ChunkSampler(tokens, window, batch, seed, align=align) for _ in range(2))
    for earlier in range(3):
        used.batch_at(earlier)
    assert (used.batch_at(step) == fresh.batch_at(step)).all()
    assert fresh.batch_at(step).dtype == np.int64
    assert fresh.batch_at(step).shape == (batch, window)


def test_a_batch_holds_the_stream_at_its_starts() -> None:
    tokens = np.random.default_rng(0).integers(0, 60_000, 5000).astype(np.uint16)
    sampler = ChunkSampler(tokens, 8, 16, seed=1)
    for row, start in zip(sampler.batch_at(5), sampler.starts_at(5), strict=True):
        assert (row == tokens[start : start + 8]).all()


def test_what_was_drawn_once_is_always_drawn() -> None:
    """Runs of long ago can be repeated: these starts never change."""
    sampler = ChunkSampler(np.arange(5000), 8, 16, seed=1)
    drawn = [sampler.starts_at(step)[:4].tolist() for step in (0, 7, 1000)]
    assert drawn == [[750, 1422, 798, 2262], [2422, 1070, 2878, 2054], [3773, 4581, 3693, 2045]]


def test_aligned_epochs_have_every_phase() -> None:
    sampler = ChunkSampler(np.arange(64), 12, 5, seed=0, align=4)
    assert {int(start) % 12 for start in starts(sampler, 40)} == {0, 4, 8}


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
    with pytest.raises(UsageError, match="24 tokens is not made of whole chunks of 16"):
        ChunkSampler(np.arange(70), 24, 1, 0, align=16)
