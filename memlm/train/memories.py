"""Frozen encoders run once: memories of chunks on disk, read in the place of encoding (paper, claim C6).

CACHE/<hash>/memories.npy   fp32 [N, M]; or the words that they hold, uint16 or uint32 [N, T]
CACHE/<hash>/meta.json      what they are of
CACHE/<hash>/sha256.json    of both

A run whose encoder is frozen as a whole keeps the memories of all chunks of its training stream in DATA/memories; if
its reader reads nothing of them but the words that a frozen decoder recalls, these words. Chunks that an objective
makes up are encoded as they come. Runs with the same encoder share what is kept; `memlm prepare --overwrite` removes
it with the data.
"""

import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlm import ui
from memlm.arrays import read_npy
from memlm.data.corpus import Corpus
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, read_json, sha256_json, write_json, write_sums
from memlm.memory.encoder import fingerprint
from memlm.models.model import TextMemory, chunked
from memlm.nn.compiled import Encoding
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import MADE, Batch
from memlm.precision import computing
from memlm.train.config import TrainConfig
from memlm.train.ranks import ALONE, Ranks


def keep_memories(
    encode: Callable[[Tensor], Tensor],
    tokens_NT: np.ndarray,
    memory_dim: int,
    cache: Path,
    origin: dict[str, Any],
    device: torch.device,
    name: str,
    batch: int = 256,
    ranks: Ranks = ALONE,
    dtype: str = "<f4",
) -> np.ndarray:
    """Memories of chunks, memory-mapped: read from `cache`, or computed once and kept there.

    Args:
        encode: token ids [B, T] -> memories [B, M].
        tokens_NT: the chunks [N, T], memory-mapped or not.
        memory_dim: M.
        cache: a folder for memories of many encoders and texts; an entry appears whole or not at all.
        origin: what the memories depend on; those of another origin are not found.
        device: where `encode` runs.
        name: of the encoder, for the progress that is shown.
        batch: chunks at once.
        ranks: processes that compute a share each.
        dtype: of the numbers on disk.

    Returns:
        [N, M], read-only.

    Raises:
        UsageError: the entry is damaged.
        WorkError: the disk is full, or `cache` cannot be written.
    """
    kinds = [(origin, memory_dim)]
    return keep_all(lambda ids_BT: [encode(ids_BT)], tokens_NT, kinds, cache, device, name, batch, ranks, dtype)[0]


@torch.inference_mode()
def keep_all(
    encode: Callable[[Tensor], list[Tensor]],
    tokens_NT: np.ndarray,
    kinds: list[tuple[dict[str, Any], int]],
    cache: Path,
    device: torch.device,
    name: str,
    batch: int = 256,
    ranks: Ranks = ALONE,
    dtype: str = "<f4",
) -> list[np.ndarray]:
    """`keep_memories` for several kinds of memories of the same chunks, which one pass computes.

    Args:
        encode: token ids [B, T] -> memories [B, M] of each kind; not called if all are kept already.
        kinds: origin and M of each.
    """
    size = np.dtype(dtype).itemsize
    metas = [{**origin, "shape": [len(tokens_NT), memory_dim]} for origin, memory_dim in kinds]
    folders = [Path(cache) / sha256_json(meta)[:32] for meta in metas]
    missing = ranks.agreed(lambda: [k for k, folder in enumerate(folders) if not (folder / "meta.json").exists()])
    if missing:
        with ExitStack() as stack:

            def begin() -> dict[int, tuple[Path, int]]:
                """A file with nothing but a header for each kind, and where that ends."""
                _refuse_full_disk(Path(cache), size * len(tokens_NT) * sum(kinds[k][1] for k in missing))
                begun = {}
                for k in missing:
                    folder = stack.enter_context(atomic_folder(folders[k], replace=True))
                    with open(folder / "memories.npy", "wb") as file:
                        header = {"descr": dtype, "fortran_order": False, "shape": tuple(metas[k]["shape"])}
                        np.lib.format.write_array_header_1_0(file, header)
                        begun[k] = folder, file.tell()
                    write_json(folder / "meta.json", metas[k])
                return begun

            made = ranks.agreed(begin)
            batches = -(-len(tokens_NT) // batch)
            first, end = (batch * (batches * rank // ranks.world) for rank in (ranks.rank, ranks.rank + 1))
            with ranks.together(), ExitStack() as opened:
                # Written and not memory-mapped: a full disk is an error then, and not the end of the process.
                files = {k: opened.enter_context(open(one / "memories.npy", "r+b")) for k, (one, _) in made.items()}
                for k, file in files.items():
                    file.seek(made[k][1] + size * kinds[k][1] * first)
                bar = opened.enter_context(ui.progress(unit="chunks"))
                task = bar.add_task(f"{name}: memories", total=min(end, len(tokens_NT)) - first)
                for i in range(first, end, batch):
                    ids_BT = torch.from_numpy(tokens_NT[i : i + batch].astype(np.int64)).to(device)
                    memories = encode(ids_BT)
                    for k, file in files.items():
                        numbers = memories[k].float() if dtype == "<f4" else memories[k]
                        file.write(numbers.cpu().numpy().astype(dtype, copy=False).tobytes())
                    bar.advance(task, len(ids_BT))
            with ranks.together():
                for folder, _ in made.values() if ranks.first else ():
                    write_sums(folder)
                stack.close()
    return [_opened(folder, meta) for folder, meta in zip(folders, metas, strict=True)]


class StreamMemories:
    """Memories of all chunks of a token stream, for windows that are made of whole chunks of it.

    Args:
        memory_NM: chunk n is tokens [n * T, (n + 1) * T) of the stream; memories, or the words that they hold.
        encode: token ids [B, T] -> the same of any chunks, on the CPU.
        chunk_tokens: T.
        window_chunks: chunks of a window.
    """

    def __init__(
        self, memory_NM: np.ndarray, encode: Callable[[Tensor], Tensor], chunk_tokens: int, window_chunks: int
    ):
        self.memory_NM, self.encode, self.chunk_tokens = memory_NM, encode, chunk_tokens
        self.blank_M = encode(torch.full((1, chunk_tokens), PAD))[0]
        self._columns = np.arange(window_chunks)

    def of(self, starts_B: np.ndarray, batch: Batch) -> Tensor:
        """Where windows begin [B], and what was made of them -> memories of its chunks but the last [R, C - 1, M]."""
        assert batch.sources is not None
        source_RC = batch.sources[:, :-1]
        windows_R = torch.arange(len(source_RC)) if batch.windows is None else batch.windows
        used, row_R = windows_R.unique(return_inverse=True)  # of a share of a batch some windows alone
        numbers_UW = (starts_B[used.numpy()] // self.chunk_tokens)[:, None] + self._columns
        memory_UWM = torch.from_numpy(self.memory_NM[numbers_UW]).to(self.blank_M.dtype)
        own_RCM = memory_UWM[row_R[:, None], source_RC.clamp(min=0)]
        own_RCM = torch.where(source_RC[..., None] < 0, self.blank_M, own_RCM)
        if (made_RC := source_RC == MADE).any():
            own_RCM[made_RC] = self.encode(chunked(batch.input_ids, self.chunk_tokens)[:, :-1][made_RC])
        return own_RCM


def stream_memories(
    config: TrainConfig, model: TextMemory, corpus: Corpus, window: int, batch: Batch, ranks: Ranks = ALONE
) -> StreamMemories | None:
    """The memories that a run reads from disk; None if it encodes as it goes.

    With `cache_memories` auto it reads them if it can and would encode at least as many chunks as the stream has.
    That depends on the config alone, so that a resumed run does as it did.

    Args:
        config: the run.
        model: with all that is frozen frozen, and on its device.
        corpus: its data.
        window: tokens of a window.
        batch: what the objective makes of a step's windows.
        ranks: the processes, each of which encodes a share.

    Raises:
        UsageError: `cache_memories` is on and it cannot be; damaged memories.
        WorkError: the disk is full, or the data's folder cannot be written.
    """
    obstacle = _obstacle(config, model, batch)
    if config.cache_memories == "on" and obstacle:
        raise UsageError(f"memories cannot be read from disk, since {obstacle}: leave --cache-memories at auto.")
    if config.cache_memories == "off" or obstacle or batch.sources is None:
        return None
    T, stream = config.model.chunk_tokens, corpus.train.tokens
    count, context = len(stream) // T, config.context
    chunks = config.model.window_tokens // T + context / math.log(context + 1) if context else batch.sources.shape[1]
    encoded = len(batch.sources) * (chunks - 1) * config.steps  # of contexts as many as are drawn in the mean
    if config.cache_memories == "auto" and encoded < count:
        return None
    encoder, recalling, device = model.encoder, model.recalling, next(model.parameters()).device
    assert encoder is not None  # or there was an obstacle
    origin = {"encoder": encoder.fingerprint(), "data": corpus.hash, "chunk_tokens": T}
    if recalling is not None and any(p.requires_grad for p in recalling.parameters()):
        recalling = None
    if recalling is not None:
        origin["words_by"] = fingerprint(recalling, "checked")
    if ranks.world > 1 and config.parallel == "fsdp":  # which takes weights apart that made-up chunks need whole
        encoder, recalling = deepcopy((encoder, recalling))

    @torch.no_grad()
    def encode(ids_BT: Tensor, form: Callable[[Tensor], Tensor] = encoder) -> Tensor:
        with computing(device, config.precision):  # of its own: batches are made in another thread
            memory_BM = form(ids_BT.to(device))
            return (memory_BM.float() if recalling is None else recalling.words(memory_BM)).cpu()

    numbers, dtype = (
        (model.memory_dim, "<f4") if recalling is None else (T, "<u2" if corpus.vocab_size <= 2**16 else "<u4")
    )
    try:
        memory_NM = keep_memories(
            partial(encode, form=Encoding(model)),
            stream[: count * T].reshape(count, T),
            numbers,
            config.data / "memories",
            origin,
            device,
            "frozen encoder",
            ranks=ranks,
            dtype=dtype,
        )
    except WorkError as error:
        raise WorkError(f"{str(error).rstrip('.')}, or train with --cache-memories off.") from error
    return StreamMemories(memory_NM, encode, T, window // T)


def _obstacle(config: TrainConfig, model: TextMemory, batch: Batch) -> str | None:
    """Why a run cannot read its memories from disk."""
    if not model.reads_given_memories or model.encoder is None:
        return "this model does not read memories of single chunks"
    if not model.encoder.is_frozen():
        return "the encoder is trained"
    if batch.sources is None:
        return f"the objective {config.objective} makes up chunks that are not in the data"
    return None


def _opened(folder: Path, meta: dict[str, Any]) -> np.ndarray:
    try:
        memory_NM = read_npy(folder / "memories.npy", mapped=True)
        if read_json(folder / "meta.json") != meta or [*memory_NM.shape] != meta["shape"]:
            raise ValueError
    except (ValueError, UsageError):
        raise UsageError(f"the memories in {folder} are damaged: remove that folder, and they are made anew.") from None
    return memory_NM


def _refuse_full_disk(cache: Path, size: int) -> None:
    """Told before the work and not after it."""
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise WorkError(
            f"memories need {size / 1e6:,.1f} MB and {there} has {free / 1e6:,.1f} MB left: free some room."
        )
