"""Arrays on disk, of which nothing is taken for granted: no pickles, no header that numpy stumbles over."""

from pathlib import Path

import numpy as np

from memlm.errors import UsageError


def read_npy(path: Path, *, mapped: bool) -> np.ndarray:
    """The array in an .npy file, memory-mapped or read.

    Raises:
        UsageError: there is none. Damaged headers make numpy raise errors of Python's own tokenizer, and ask for
            memory that no machine has.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception:
        raise UsageError(f"{path} is no whole .npy file of numbers: save it with numpy.save.") from None
    if not isinstance(array, np.ndarray):  # of an .npz file
        raise UsageError(f"{path} holds several arrays: save one with numpy.save.")
    return array
