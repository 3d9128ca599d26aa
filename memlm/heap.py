"""Keep large activations in the process' heap.

glibc gives every block over a few megabytes pages of its own and takes them back at once, so that each training step
on a CPU faults in all its activations anew: a quarter of a step of the slots autoencoder (LOG.md). Elsewhere, and
where the user has set MALLOC_... variables, nothing is done.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h


def keep_large_blocks() -> bool:
    """Tell glibc's malloc to keep large blocks; returns whether that was done."""
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(
        mallopt(what, value) for what, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26))
    )
