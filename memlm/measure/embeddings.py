"""Frozen encoders run once, their memories are kept on disk (train/memories.py); and what forming memories costs."""

import hashlib
import time
from pathlib import Path

import numpy as np
import torch

from memlm import ui
from memlm.errors import UsageError
from memlm.files import read_json, sha256_json, write_json
from memlm.measure.encoders import Encoder
from memlm.protocol import PROTOCOL
from memlm.train.memories import keep_all

Array = np.ndarray
_SHARD = 4096  # chunks
_BATCH = 256
_TIMED = 32  # chunks of a batch whose encoding is timed, eight of them or as many as start ...
_ENOUGH = 2.0  # ... within so many seconds


def embed(encoder: Encoder, tokens_NT: Array, cache: Path) -> Array:
    """Memories [N, M] of chunks [N, T]: read from the cache, or computed once and kept there.

    A cache entry appears whole or not at all, and is found only by an equal encoder, over equal tokens.

    What an encoder's pass gives beside its memories, those of other layers, is kept with them.

    Raises:
        UsageError: the entry is damaged, or a vector is no number.
        WorkError: the disk is full, or the cache cannot be written.
    """
    kept_NM = _kept(encoder, tokens_NT, cache) if encoder.kept else _embed(encoder, tokens_NT)
    if not np.isfinite(kept_NM).all():
        raise UsageError(f"{encoder.name} gives vectors that are no numbers: its weights are damaged.")
    return kept_NM


def _kept(encoder: Encoder, tokens_NT: Array, cache: Path) -> Array:
    """The same, kept on disk shard by shard: what was stopped goes on, and fewer chunks are read from those of more."""
    shards = []
    for shard_NT in np.split(tokens_NT, range(_SHARD, len(tokens_NT), _SHARD)):
        tokens = hashlib.sha256(np.ascontiguousarray(shard_NT, dtype="<i8").tobytes()).hexdigest()
        kinds = [
            ({**origin, "protocol": PROTOCOL, "tokens": tokens}, memory_dim) for origin, memory_dim in encoder.kinds
        ]
        kept = keep_all(encoder.encode, shard_NT, kinds, cache, encoder.device, encoder.name, _BATCH)
        shards.append(kept[encoder.number])
    return shards[0] if len(shards) == 1 else np.concatenate(shards)


@torch.inference_mode()
def _embed(encoder: Encoder, tokens_NT: Array) -> Array:
    """The same in this process' memory alone."""
    vectors = []
    with ui.progress(unit="chunks") as bar:
        task = bar.add_task(f"{encoder.name}: memories", total=len(tokens_NT))
        for ids_BT in torch.from_numpy(tokens_NT.astype(np.int64)).split(_BATCH):
            vectors.append(encoder.encode(ids_BT.to(encoder.device))[encoder.number].float().cpu())
            bar.advance(task, len(ids_BT))
    return torch.cat(vectors).numpy()


def encoding_cost(encoder: Encoder, tokens_NT: Array, cache: Path) -> dict[str, float | None]:
    """What memories cost: `encoder_parameters`, and `encode_seconds` of 1,000 chunks, timed once and kept; or None."""
    if encoder.parameters is None:  # what is brought: unknown, and calling it again for its time may cost money
        return {"encoder_parameters": None, "encode_seconds": None}
    origin = encoder.origin
    kept = Path(cache) / f"cost-{sha256_json([PROTOCOL, origin, tokens_NT.shape[1]])[:32]}.json"
    if not kept.exists():
        seconds = {"encode_seconds": _seconds(encoder, tokens_NT)}
        write_json(kept, {"encoder_parameters": encoder.parameters, **seconds})
    return read_json(kept)


@torch.inference_mode()
def _seconds(encoder: Encoder, tokens_NT: Array) -> float:
    """Seconds for 1,000 chunks, timed on some batches of these."""
    batches = torch.from_numpy(tokens_NT[: 8 * _TIMED].astype(np.int64)).to(encoder.device).split(_TIMED)
    encoder.encode(batches[0][:8])[0].cpu()  # the first call also sets up
    begin, chunks = time.perf_counter(), 0
    for ids_BT in batches:
        encoder.encode(ids_BT)[0].cpu()  # on the CPU when it is done
        chunks += len(ids_BT)
        if time.perf_counter() - begin > _ENOUGH:
            break
    return 1000 * (time.perf_counter() - begin) / chunks
