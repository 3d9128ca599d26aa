"""The families of probes, by name: how each is fitted to memories and a lesson. A new one is a row here."""

from collections.abc import Callable

import numpy as np
import torch

from memlm.measure.config import DECODERS, STACKED, ProbeConfig
from memlm.measure.linear_probe import fit_linear
from memlm.measure.probe import Lesson, Probe
from memlm.measure.stacked_probe import fit_stacked
from memlm.measure.trained_probe import fit_trained

Fit = Callable[[np.ndarray, Lesson, torch.device, ProbeConfig, str], Probe]


def _by(fit: Callable[..., Probe], family: str, decoder: str) -> Fit:
    return lambda memories_NM, lesson, device, config, name: fit(
        memories_NM, lesson, device, DECODERS[decoder], config, f"{name}, {family}"
    )


FITS: dict[str, Fit] = {"linear": lambda memories_NM, lesson, device, *_: fit_linear(memories_NM, lesson, device)}
FITS |= {family: _by(fit_trained, family, family) for family in DECODERS}
FITS |= {family: _by(fit_stacked, family, decoder) for family, decoder in STACKED.items()}
