"""How good probabilities are: whether they tell right from wrong, and whether they are shares of what is right."""

import numpy as np

BINS = 15


def auroc(p_N: np.ndarray, right_N: np.ndarray) -> float | None:
    """How often something right has a higher probability than something wrong, ties by half; None if all are alike."""
    right_N = right_N.astype(bool)
    if right_N.all() or not right_N.any():
        return None
    _, place_N, count_U = np.unique(p_N, return_inverse=True, return_counts=True)
    rank_N = (np.cumsum(count_U) - (count_U - 1) / 2)[place_N]  # the mean of those that are equal
    positive, negative = int(right_N.sum()), int((~right_N).sum())
    return float((rank_N[right_N].sum() - positive * (positive + 1) / 2) / (positive * negative))


def calibration_error(p_N: np.ndarray, right_N: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: the mean distance of probabilities from the share of what is right, over equal bins
    ([Guo et al. 2017](https://arxiv.org/abs/1706.04599)).
    """
    bin_N = np.minimum((p_N * bins).astype(int), bins - 1)
    gap_U = np.bincount(bin_N, p_N - right_N, minlength=bins)
    return float(np.abs(gap_U).sum() / len(p_N))
