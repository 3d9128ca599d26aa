"""A trained probe that begins with what the closed form tells of a vector, and learns what that leaves.

    first    fitted before, with its trust, on the same chunks: `linear`
    probe    the floor and, times one trust for both, what the first says of the vector and what a trained decoder adds

A trained probe alone has to learn first what the closed form has in seconds, and with few chunks gets no further: on
top of it the same decoder tells more at every budget, and grows less by the next one (LOG.md, 49).
"""

import numpy as np
import torch
from torch import Tensor

from memlm.measure.config import DecoderConfig
from memlm.measure.probe import Probe
from memlm.measure.trained_probe import Beside, TrainedProbe

Array = np.ndarray


class StackedProbe(TrainedProbe):
    """It says what another probe says, and more."""

    def __init__(self, first: Probe, decoder: DecoderConfig, memories_NM: Array, known_TV: Tensor):
        super().__init__(decoder, memories_NM, known_TV)
        self._first = (first,)  # in a tuple: not a part of the probe, which would be trained

    def beside(self, memory_BM: Tensor) -> Beside:
        """As of `TrainedProbe`."""
        (first,) = self._first
        with torch.no_grad():
            known, first_BTV = first.parts(memory_BM)
            return Beside(known, first_BTV.mul_(first.trust_T[:, None]))
