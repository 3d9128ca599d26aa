"""What the measurements share: the order that gives each example another one's memory, and the device."""

import numpy as np
import torch

from memlm.measure.config import Device


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """An order [n] in which nobody keeps its own place (n > 1): a random rotation of a random order."""
    order = rng.permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out


def device_of(wanted: Device) -> torch.device:
    """The device that is asked for; `auto` is a GPU where there is one."""
    return torch.device(wanted if wanted != "auto" else ("cuda" if torch.cuda.is_available() else "cpu"))
