"""A bank's memories, filed by a model's reader: made once, kept beside the bank, and memory-mapped.

BANK/index/<hash>/<array>.npy   a `PlaceIndex` (readers/finding.py) of a reader with this fingerprint
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from memlm import ui
from memlm.bank.bank import Bank
from memlm.errors import UsageError
from memlm.files import atomic_folder, sha256_json
from memlm.memory.encoder import fingerprint
from memlm.readers.finding import PlaceIndex

if TYPE_CHECKING:
    from memlm.models.memory_model import ReadsMemories

_BATCH = 4096  # memories whose words are recalled at a time


@torch.inference_mode()
def filed(bank: Bank, model: "ReadsMemories") -> PlaceIndex:
    """The index of a bank's memories for a model's reader; made if it is not there.

    Raises:
        UsageError: what is there is damaged.
        WorkError: it cannot be written.
    """
    reader: Any = model.reader  # one that files
    made_of = [fingerprint(reader, ""), *(entry.memories_sha256 for entry in bank.documents)]
    folder = bank.path / "index" / sha256_json(made_of)[:32]
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
        with atomic_folder(folder) as scratch:
            reader.index_words(torch.from_numpy(words_KT), newest_kM, scratch)
    try:
        return PlaceIndex.open(folder)
    except (OSError, ValueError, EOFError):
        raise UsageError(f"{folder} is damaged: remove it, and it is made anew.") from None
