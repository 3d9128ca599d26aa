"""Intervals cover about as often as they say, are never empty, and grow where chunks or seeds are alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlm.measure.intervals import (
    bootstrap,
    independent,
    interval,
    share_interval,
    share_over_seeds,
    units_of,
    wilson,
)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        low, high = interval(lambda m: m[:, 0], rng.normal(3, 1, size=80), seed=seed)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_they_are_the_same_for_the_same_seed_and_tight_for_constants():
    values = np.random.default_rng(0).normal(size=50)
    assert interval(lambda m: m[:, 0], values, 1) == interval(lambda m: m[:, 0], values, 1)
    assert interval(lambda m: m[:, 0], np.full(30, 2.0)) == pytest.approx([2.0, 2.0])


@given(st.integers(1, 500), st.data())
def test_a_share_has_a_monotone_interval_that_is_never_empty(units, data):
    right = data.draw(st.integers(0, units - 1))
    (low, high), (low_more, high_more) = (
        share_interval(np.array([[float(i < n), 1.0] for i in range(units)])) for n in (right, right + 1)
    )
    assert 0 <= low < high <= 1
    assert low <= right / units <= high
    assert low < low_more or low == low_more == 0
    assert high < high_more or high == high_more == 1


def test_wilson_as_it_is_written_in_books():
    assert wilson(0.5, 10) == pytest.approx([0.2366, 0.7634], abs=1e-4)  # Agresti & Coull 1998
    assert wilson(0.0, 10) == pytest.approx([0, 0.2775], abs=1e-4)


def test_wilson_covers_small_shares_about_as_often_as_it_says():
    rng, truth, units = np.random.default_rng(0), 0.01, 400
    found = [wilson(right / units, units) for right in rng.binomial(units, truth, 2000)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in found]) <= 0.99


def test_chunks_of_one_run_that_are_alike_count_as_fewer():
    rng, unit_N = np.random.default_rng(0), np.arange(2000) // 20
    alone, alike = rng.normal(size=2000), rng.normal(size=100)[unit_N]
    assert independent(alone, unit_N) > 1300
    assert 70 < independent(alike, unit_N) < 140
    assert independent(np.zeros(2000), unit_N) == 2000
    mean = [interval(lambda m: m[:, 0], alike), bootstrap(lambda m: m[:, 0], alike[None, :, None], unit_N)]
    narrow, wide = (high - low for low, high in mean)
    assert wide > 3 * narrow


def test_seeds_that_differ_make_an_interval_wider():
    same, differ = np.full((3, 100), 0.9), np.repeat([[0.8], [0.9], [1.0]], 100, axis=1)
    (low, high), (low_wide, high_wide) = (share_over_seeds(shares, 100) for shares in (same, differ))
    assert low_wide < low < 0.9 < high < high_wide
    tight, wide = (bootstrap(lambda m: m[:, 0], of[..., None], np.arange(100)) for of in (same, differ))
    assert wide[1] - wide[0] > 0.1 > tight[1] - tight[0]


def test_documents_are_resampled_where_there_are_many_and_runs_of_neighbours_where_there_are_few():
    np.testing.assert_array_equal(units_of(np.repeat(np.arange(150), 3)), np.repeat(np.arange(150), 3))
    few = units_of(np.repeat([0, 1, 2], [1500, 450, 50]))
    assert 95 <= few[-1] + 1 <= 105
    for edge in (1500, 1950):
        assert few[edge] == few[edge - 1] + 1  # no run reaches into the next document
    assert (np.diff(few) >= 0).all()
    np.testing.assert_array_equal(units_of(np.zeros(5, int)), np.arange(5))
