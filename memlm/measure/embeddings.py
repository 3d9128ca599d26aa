"""Frozen encoders run once: memories of chunks on disk, under a hash of the encoder and the chunks.

CACHE/<hash>/memories.npy   fp32 [N, M]
CACHE/<hash>/meta.json      what they are of
"""

import hashlib
from pathlib import Path

import numpy as np
import torch

from memlm import ui
from memlm.files import atomic_folder, sha256_json, write_json
from memlm.measure.encoders import Encoder

Array = np.ndarray


@torch.inference_mode()
def embed(encoder: Encoder, tokens_NT: Array, cache: Path, batch: int = 256) -> Array:
    """Memories [N, M] of chunks [N, T]: read from the cache, or computed once and kept there.

    A cache entry appears whole or not at all, and is found only by an equal encoder, over equal tokens.
    """
    meta = {
        "encoder": encoder.model.fingerprint(),
        "tokens": hashlib.sha256(np.ascontiguousarray(tokens_NT, dtype="<i8").tobytes()).hexdigest(),
        "shape": [len(tokens_NT), encoder.memory_dim],
    }
    folder = Path(cache) / sha256_json(meta)[:32]
    if not (folder / "meta.json").exists():
        with atomic_folder(folder, replace=True) as scratch, ui.progress(unit="chunks") as bar:
            out_NM = np.lib.format.open_memmap(
                scratch / "memories.npy", "w+", np.float32, (len(tokens_NT), encoder.memory_dim)
            )
            task = bar.add_task(f"{encoder.name}: embeddings", total=len(tokens_NT))
            for i in range(0, len(tokens_NT), batch):
                ids_BT = torch.from_numpy(tokens_NT[i : i + batch].astype(np.int64)).to(encoder.model.device)
                out_NM[i : i + batch] = encoder.model.encode(ids_BT).float().cpu().numpy()
                bar.advance(task, batch)
            out_NM.flush()
            del out_NM
            write_json(scratch / "meta.json", meta)
    return np.load(folder / "memories.npy", mmap_mode="r")
