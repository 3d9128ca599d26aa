"""Two settings of this process that a CPU needs to train well; both measured in LOG.md.

- Denormal numbers are flushed to zero. A confident softmax has probabilities below 1e-38, whose gradients a CPU
  multiplies in microcode: a nearly perfect autoencoder trains three to six times slower with them than without.
- glibc keeps large activations in the heap. It would give each of them fresh pages and take them back at once, so that
  every step faults in its activations anew: a quarter of a step. Left alone where the user set MALLOC_... variables.
"""

import ctypes
import os
import sys

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h


def tune_cpu() -> None:
    """Apply both, as far as this machine has them. Call it before any parallel work: threads inherit the first."""
    torch.set_flush_denormal(True)
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for what, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
        mallopt(what, value)
