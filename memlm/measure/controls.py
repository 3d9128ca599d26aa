"""What the measurements share: whose memory each example gets in the place of its own, the device, the origin."""

from typing import Any

import numpy as np
import torch

from memlm.data.corpus import Corpus
from memlm.measure.config import Device
from memlm.provenance import commit, machine


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """An order [n] in which nobody keeps its own place (n > 1): a random rotation of a random order."""
    order = rng.permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out


def device_of(wanted: Device) -> torch.device:
    """The device that is asked for; `auto` is a GPU where there is one."""
    return torch.device(wanted if wanted != "auto" else ("cuda" if torch.cuda.is_available() else "cpu"))


def origin(corpus: Corpus, seed: int, device: torch.device) -> dict[str, Any]:
    """What every row says of where it comes from."""
    made_on = {"device": str(device), "machine": machine(device.type), "commit": commit()}
    return {"seed": seed, "data": corpus.hash, **made_on}
