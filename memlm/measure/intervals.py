"""95 % intervals: Wilson's for shares, the bootstrap for all else (docs/protocol.md, Intervals).

Tokens of one chunk are not independent, so chunks or examples are counted, never tokens; chunks of one document are
alike, so runs of neighbours are resampled, or whole documents where there are enough.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95
RUNS = 100  # of neighbouring chunks, about; documents are resampled where there are as many
_TAIL = (1 - COVERAGE) / 2
_Z = NormalDist().inv_cdf(1 - _TAIL)

Statistic = Callable[[np.ndarray], np.ndarray]  # means [R, K] -> the figure of each of R resamples


def interval(statistic: Statistic, values_NK: np.ndarray, seed: int = 0) -> list[float]:
    """The percentile interval [low, high] of a statistic of the means of K values for each of N examples."""
    values_NK = values_NK.reshape(len(values_NK), -1)
    return bootstrap(statistic, values_NK[None], np.arange(len(values_NK)), seed)


def bootstrap(statistic: Statistic, values_SNK: np.ndarray, unit_N: np.ndarray, seed: int = 0) -> list[float]:
    """The percentile interval of a statistic of means over S seeds and N chunks, both resampled.

    `unit_N`, rising, numbers what is resampled together: a run of neighbouring chunks, a document.
    """
    seeds = len(values_SNK)
    units = int(unit_N[-1]) + 1
    starts_U = np.flatnonzero(np.diff(unit_N, prepend=-1))
    sums_SUK = np.add.reduceat(values_SNK, starts_U, axis=1)
    # A resample's mean is its counts times the sums: one product instead of R gathers.
    unit_RU, seed_RS = _counts(units, seed), _counts(seeds, seed + 1)
    size_R = unit_RU @ np.bincount(unit_N, minlength=units) * seeds
    means_RK = np.einsum("rs,ru,suk->rk", seed_RS, unit_RU, sums_SUK, optimize=True) / size_R[:, None]
    return [float(q) for q in np.quantile(statistic(means_RK), [_TAIL, 1 - _TAIL])]


def units_of(document_N: np.ndarray) -> np.ndarray:
    """Number what is resampled together of N chunks in the order of their documents: about `RUNS` runs."""
    new_N = np.diff(document_N, prepend=document_N[:1]) != 0
    if np.count_nonzero(new_N) + 1 < RUNS:
        first_N = np.maximum.accumulate(np.where(new_N, np.arange(len(new_N)), 0))  # of each chunk's document
        new_N |= (np.arange(len(new_N)) - first_N) % max(1, len(new_N) // RUNS) == 0
        new_N[:1] = False
    return np.cumsum(new_N)


def independent(values_N: np.ndarray, unit_N: np.ndarray) -> float:
    """How many independent chunks N chunks are worth: N, or less where neighbours are alike."""
    rest_N, chunks, units = values_N - values_N.mean(), len(values_N), int(unit_N[-1]) + 1
    if units < 2 or not rest_N.any():
        return float(chunks)
    of_chunks = float((rest_N**2).sum()) * chunks / (chunks - 1)
    of_units = float((np.bincount(unit_N, rest_N) ** 2).sum()) * units / (units - 1)
    return chunks / max(1.0, of_units / of_chunks)


def wilson(share: float, units: float) -> list[float]:
    """The interval of a share of so many units (Wilson 1927), never empty: no finite sample proves a 0 or a 1.

    Units that are right in part, as chunks of some right tokens, vary less than those that are right or wrong: for them
    it is too wide, never too narrow.
    """
    middle = (share + _Z**2 / (2 * units)) / (1 + _Z**2 / units)
    half = _Z * math.sqrt(share * (1 - share) / units + _Z**2 / (4 * units**2)) / (1 + _Z**2 / units)
    return [0.0 if share == 0 else max(0.0, middle - half), 1.0 if share == 1 else min(1.0, middle + half)]


def share_interval(parts_B2: np.ndarray) -> list[float]:
    """`wilson` of the sum of what is right over the sum of what was asked, of B independent examples [B, 2]."""
    right, asked = parts_B2.sum(0)
    return wilson(float(right / asked), len(parts_B2))


def share_over_seeds(share_SN: np.ndarray, chunks: float) -> list[float]:
    """`wilson` of the mean of S seeds' shares of N chunks that are worth so many; seeds that differ make it wider."""
    share_S = share_SN.mean(1)
    share = float(share_S.mean())
    spread, own = float(share_S.var(ddof=1)) / len(share_S) if len(share_S) > 1 else 0.0, share * (1 - share)
    return wilson(share, own / (own / chunks + spread) if own > 0 else chunks)


def ratio(parts_B2: np.ndarray, seed: int, *, share: bool) -> dict[str, Any]:
    """`value` and `value_ci` of the sum of the first over the sum of the second of B examples [B, 2]."""
    top, below = parts_B2.sum(0)
    of = share_interval(parts_B2) if share else interval(lambda m: m[:, 0] / m[:, 1], parts_B2, seed)
    return {"value": float(top / below), "value_ci": of}


@lru_cache(maxsize=8)
def _counts(values: int, seed: int) -> np.ndarray:
    """How often each value is in each resample [R, N]; the figures of one report share them."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(values, np.full(values, 1 / values), size=RESAMPLES).astype(float)
