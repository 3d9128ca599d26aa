"""A bank's memories, filed by a model's reader: made once, kept beside the bank, and memory-mapped.

BANK/index/<hash>/<array>.npy   a `PlaceIndex` (readers/filed.py) of a reader with this fingerprint
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from memlm import ui
from memlm.bank.bank import INDEX, Bank
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, sha256_json
from memlm.memory.encoder import fingerprint
from memlm.readers.filed import PlaceIndex

if TYPE_CHECKING:
    from memlm.models.memory_model import ReadsMemories

FORMAT = 2  # of an index; a change of it makes banks be filed anew
_BATCH = 4096  # memories whose words are recalled at a time


@torch.inference_mode()
def filed(bank: Bank, model: "ReadsMemories") -> PlaceIndex:
    """The index of a bank's memories for a model's reader; made if it is not there.

    Raises:
        UsageError: what is there is damaged.
    """
    reader: Any = model.reader  # one that files
    folder = index_folder(bank, reader)
    if not folder.exists():
        words_KT = np.empty((len(bank), model.chunk_tokens), np.int32)
        with ui.progress(unit="memories") as bar:
            task = bar.add_task(f"{bank.path.name}: filing", total=len(bank))
            for start in range(0, len(bank), _BATCH):
                memory_nM = bank.memories(slice(start, start + _BATCH)).to(model.device)
                words_KT[start : start + _BATCH] = reader.words(memory_nM[None])[0].cpu().numpy()
                bar.advance(task, len(memory_nM))
        words_KT[np.arange(model.chunk_tokens) >= bank.held()[:, None]] = 0
        newest_kM = bank.memories(slice(max(0, len(bank) - (reader.window or 0)), None))
        file = partial(reader.index_words, torch.from_numpy(words_KT), newest_kM)
        if (unkept := written(bank, folder, file)) is not None:
            return unkept
    return opened_index(folder, len(bank))


def index_folder(bank: Bank, reader: Any, more: Sequence[Any] = ()) -> Path:
    """Where the index of a bank's rows for a reader is, or will be."""
    rows = hashlib.sha256(bank.table.column("crc").tobytes()).hexdigest()
    return bank.path / INDEX / sha256_json([FORMAT, fingerprint(reader, ""), rows, *more])[:32]


def written(bank: Bank, folder: Path, file: Callable[[Path | None], PlaceIndex]) -> PlaceIndex | None:
    """Write an index by `file`; where that cannot be, the index itself."""
    try:
        with atomic_folder(folder, replace=True) as scratch:  # another process may have made it meanwhile
            file(scratch)
        return None
    except WorkError as error:
        ui.say(f"{str(error).rstrip('.')}; the memories of {bank.path} are filed for this call alone.")
        return file(None)


def opened_index(folder: Path, memories: int | None) -> PlaceIndex:
    """An index that was written, of so many memories if that is known.

    Raises:
        UsageError: it is damaged.
    """
    try:
        index = PlaceIndex.open(folder)
        many = len(index) if memories is None else memories
        if len(index) != many or not len(index.place_P) == len(index.key_Pd) == len(index.second_P):
            raise ValueError
        return index
    except (OSError, ValueError, EOFError):
        raise UsageError(f"{folder} is damaged: remove it, and it is made anew.") from None
