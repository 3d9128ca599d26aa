"""Bootstrap intervals over chunks: chunks are the unit of sampling, tokens within one are not independent."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95


def interval(
    statistic: Callable[[np.ndarray], np.ndarray], values_NK: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> list[float]:
    """The 95 % percentile interval [low, high] of a statistic of the means of K values for each of N chunks.

    The statistic takes means [R, K] over resampled chunks and gives the figure for each resample [R].
    """
    values_NK = values_NK.reshape(len(values_NK), -1)
    # A resample's mean is its counts times the values: one product instead of R gathers.
    figures_R = statistic(_counts(len(values_NK), seed, resamples) @ values_NK / len(values_NK))
    tail = (1 - COVERAGE) / 2
    return [float(q) for q in np.quantile(figures_R, [tail, 1 - tail])]


def share_interval(parts_B2: np.ndarray, seed: int = 0) -> list[float]:
    """The 95 % interval of a share, the sum of what is right over the sum of what was asked, of B examples [B, 2].

    Where nothing, or all, is right, resamples know no other case: the interval is then that of Clopper and Pearson over
    examples (1934), so that no finite sample proves a share of exactly 0 or 1.
    """
    right, asked = parts_B2.sum(0)
    if 0 < right < asked:
        return interval(lambda m: m[:, 0] / m[:, 1], parts_B2, seed)
    rest = ((1 - COVERAGE) / 2) ** (1 / len(parts_B2))
    return [0.0, float(1 - rest)] if right == 0 else [float(rest), 1.0]


def ratio(parts_B2: np.ndarray, seed: int, *, share: bool) -> dict[str, Any]:
    """`value` and `value_ci` of the sum of the first over the sum of the second of B examples [B, 2]."""
    top, below = parts_B2.sum(0)
    of = share_interval(parts_B2, seed) if share else interval(lambda m: m[:, 0] / m[:, 1], parts_B2, seed)
    return {"value": float(top / below), "value_ci": of}


@lru_cache(maxsize=4)
def _counts(values: int, seed: int, resamples: int) -> np.ndarray:
    """How often each value is in each resample [R, N]; the figures of one report share them."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(values, np.full(values, 1 / values), size=resamples).astype(float)
