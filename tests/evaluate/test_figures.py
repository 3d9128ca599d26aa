"""Figures of an evaluation: paired differences, and intervals that are never certain of all or nothing."""

import numpy as np
import pytest

from memlm.evaluate.figures import Outcome, rows_of


def outcome(model, condition, values):
    return Outcome(("task", "acc", "none"), model, condition, values, lambda v: float(np.mean(v)), {}, 0)


def test_differences_are_paired_and_point_to_the_right_row():
    rng = np.random.default_rng(0)
    easy = rng.random(400)
    a, b = ([int(x < share) for x in easy] for share in (0.6, 0.5))
    rows = list(rows_of([outcome("x", "own", a), outcome("x", "none", b), outcome("y", "own", b)]))
    assert [row["difference_of"] for row in rows] == [None, "own - none", "y - x"]
    assert rows[1]["difference"] == -rows[2]["difference"] == pytest.approx(np.mean(a) - np.mean(b))
    paired = np.ptp(rows[1]["difference_ci"])
    assert paired < 0.7 * np.ptp(rows[0]["value_ci"])  # the examples are the same ones
    assert rows[0]["stderr"] == pytest.approx(np.std(a) / 20, rel=0.1)


def test_a_share_of_all_or_nothing_is_not_certain():
    rows = list(rows_of([outcome("x", "own", [0] * 20), outcome("y", "own", [1.0] * 20)]))
    assert rows[0]["value_ci"][0] == 0 < rows[0]["value_ci"][1] < 0.2
    assert rows[1]["value_ci"][1] == 1 > rows[1]["value_ci"][0] > 0.8


def test_a_difference_that_no_example_shows_is_not_certain():
    same = [0, 1] * 10
    row = list(rows_of([outcome("x", "own", same), outcome("x", "none", same)]))[1]
    assert row["difference"] == 0
    low, high = row["difference_ci"]
    assert -0.2 < low == -high < 0
