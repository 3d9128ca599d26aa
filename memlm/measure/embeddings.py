"""Frozen encoders run once, their memories are kept on disk (train/memories.py); and what forming memories costs."""

import hashlib
import time
from pathlib import Path

import numpy as np
import torch

from memlm.measure.encoders import Encoder
from memlm.train.memories import keep_memories

Array = np.ndarray
_TIMED = 256  # chunks


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


@torch.inference_mode()
def encoding_cost(encoder: Encoder, tokens_NT: Array) -> dict[str, float]:
    """What memories cost: `encoder_parameters`, and `encode_seconds` of 1,000 chunks, timed on the first of these."""
    model, ids_NT = encoder.model, torch.from_numpy(tokens_NT[:_TIMED].astype(np.int64)).to(encoder.model.device)
    model.encode(ids_NT[:8]).cpu()  # the first call also sets up
    begin = time.perf_counter()
    model.encode(ids_NT).cpu()  # on the CPU when it is done
    seconds = time.perf_counter() - begin
    parameters = sum(p.numel() for p in model.encoder.parameters())
    return {"encoder_parameters": parameters, "encode_seconds": 1000 * seconds / len(ids_NT)}
