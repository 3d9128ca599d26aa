"""Frozen encoders run once: memories of the chunks of a measurement, kept on disk (train/memories.py)."""

import hashlib
from pathlib import Path

import numpy as np

from memlm.measure.encoders import AnyEncoder
from memlm.train.memories import keep_all

Array = np.ndarray


def embed(encoder: AnyEncoder, tokens_NT: Array, cache: Path, batch: int = 256) -> Array:
    """Memories [N, M] of chunks [N, T]: read from the cache, or computed once and kept there.

    A cache entry appears whole or not at all, and is found only by an equal encoder, over equal tokens.

    What an encoder's pass gives beside its memories, those of other layers, is kept with them.

    Raises:
        UsageError: the entry is damaged.
        WorkError: the disk is full, or the cache cannot be written.
    """
    tokens = hashlib.sha256(np.ascontiguousarray(tokens_NT, dtype="<i8").tobytes()).hexdigest()
    kinds = [({**origin, "tokens": tokens}, memory_dim) for origin, memory_dim in encoder.kinds()]
    kept = keep_all(encoder.encode_all, tokens_NT, kinds, cache, encoder.device, encoder.name, batch)
    return kept[encoder.number]
