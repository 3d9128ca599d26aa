"""The families of probes, fitted to one encoder's memories and one lesson: the closed form, and decoders on top of it.

    linear           linear_probe.py
    linear+slots     a stacked probe (stacked_probe.py) by the decoder of `slots`
    linear+unroll    the same by the paper's

A new decoder is a row of `DECODERS` (measure/config.py).
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from memlm.measure.config import DECODERS, LINEAR, STACKED, ProbeConfig
from memlm.measure.linear_probe import fit_linear
from memlm.measure.probe import Lesson, Probe
from memlm.measure.stacked_probe import StackedProbe
from memlm.measure.trained_probe import fit_trained


def fit_families(
    memories_NM: np.ndarray,
    lesson: Lesson,
    device: torch.device,
    config: ProbeConfig,
    name: str,
    families: Sequence[str] | None = None,
) -> dict[str, Probe]:
    """A probe of each family (`config.families` if none is named); they share one closed form."""
    linear = fit_linear(memories_NM, lesson, device)
    fitted: dict[str, Probe] = {}
    for family in families or config.families:
        if family == LINEAR:
            fitted[family] = linear
        else:
            told = DECODERS[STACKED[family]], config, f"{name}, {family}", partial(StackedProbe, linear)
            fitted[family] = fit_trained(memories_NM, lesson, device, *told)
    return fitted
