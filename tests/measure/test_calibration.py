"""AUROC and calibration error against what they are defined as."""

import numpy as np
import pytest

from memlm.measure.calibration import auroc, calibration_error


def test_auroc_counts_pairs_and_ties_by_half():
    rng = np.random.default_rng(0)
    p = rng.integers(0, 8, 60) / 7
    right = rng.random(60) < p
    pairs = [(a > b) + 0.5 * (a == b) for a in p[right] for b in p[~right]]
    assert auroc(p, right) == pytest.approx(np.mean(pairs))
    assert auroc(p, np.ones(60, bool)) is None


def test_a_probability_that_is_a_share_has_no_error_and_one_that_is_off_has_its_distance():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    right = rng.random(200_000) < p
    assert calibration_error(p, right) < 0.005
    assert calibration_error(np.full(10, 0.9), np.arange(10) < 7) == pytest.approx(0.2)
