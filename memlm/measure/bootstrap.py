"""Bootstrap intervals over chunks: chunks are the unit of sampling, tokens within one are not independent."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95


def interval(
    statistic: Callable[[np.ndarray], np.ndarray], values_NK: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> list[float]:
    """The 95 % percentile interval of a statistic of per-chunk means.

    Args:
        statistic: means [R, K] over resampled chunks -> the figure for each resample [R].
        values_NK: K values for each of the N chunks.

    Returns:
        [low, high].
    """
    values_NK = values_NK.reshape(len(values_NK), -1)
    rng = np.random.default_rng(seed)
    # A resample's mean is its counts times the values: one product instead of R gathers.
    counts_RN = rng.multinomial(len(values_NK), np.full(len(values_NK), 1 / len(values_NK)), size=resamples)
    figures_R = statistic(counts_RN @ values_NK / len(values_NK))
    tail = (1 - COVERAGE) / 2
    return [float(q) for q in np.quantile(figures_R, [tail, 1 - tail])]
