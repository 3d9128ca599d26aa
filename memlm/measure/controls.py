"""What the measurements share: whose memory each example gets in the place of its own, and where a row comes from."""

from typing import Any

import numpy as np
import torch

from memlm.data.corpus import Corpus
from memlm.data.split import Part
from memlm.measure.texts import GivenTexts
from memlm.protocol import PROTOCOL
from memlm.provenance import commit, machine


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """An order [n] in which nobody keeps its own place (n > 1): a random rotation of a random order."""
    order = rng.permutation(n)
    out = np.empty(n, np.int64)
    out[order] = np.roll(order, 1)
    return out


def origin(corpus: Corpus | GivenTexts, part: Part, seed: int, device: torch.device) -> dict[str, Any]:
    """What every row says of where it comes from."""
    made_on = {"device": str(device), "machine": machine(device.type), "commit": commit()}
    return {"protocol": PROTOCOL, "part": part, "seed": seed, "data": corpus.hash, **made_on}
