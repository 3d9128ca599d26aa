"""What the measurements share: the order that gives each example another one's memory."""

import numpy as np


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """An order [n] in which nobody keeps its own place (n > 1): a random rotation of a random order."""
    order = rng.permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out
