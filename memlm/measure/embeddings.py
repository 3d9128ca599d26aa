"""Frozen encoders run once: memories of the chunks of a measurement, kept on disk (train/memories.py)."""

import hashlib
from pathlib import Path

import numpy as np

from memlm.measure.encoders import Encoder
from memlm.train.memories import keep_memories

Array = np.ndarray


def embed(encoder: Encoder, tokens_NT: Array, cache: Path, batch: int = 256) -> Array:
    """Memories [N, M] of chunks [N, T]: read from the cache, or computed once and kept there.

    A cache entry appears whole or not at all, and is found only by an equal encoder, over equal tokens.

    Raises:
        UsageError: the entry is damaged.
        WorkError: the disk is full, or the cache cannot be written.
    """
    origin = {
        "encoder": encoder.model.fingerprint(),
        "tokens": hashlib.sha256(np.ascontiguousarray(tokens_NT, dtype="<i8").tobytes()).hexdigest(),
    }
    model = encoder.model
    return keep_memories(
        model.encode, tokens_NT, encoder.memory_dim, cache, origin, model.device, encoder.name, batch=batch
    )
