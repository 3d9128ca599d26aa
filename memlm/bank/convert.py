"""A bank as memlm 0.2 and earlier wrote it -> one of today, with the same memories; nothing else reads it.

OLD/memories.npy   float32 or float16 [K, M]: the memories of all documents, one after the other
OLD/meta.json      format 1: the documents with their SHA-256 and their memories', and what today's tells
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memlm.arrays import read_npy
from memlm.bank.bank import FORMAT, META, SINCE_3, Bank, Meta, chunk_rows
from memlm.bank.digest import sha256_rows
from memlm.bank.encode import seen_from
from memlm.bank.kept import Stored
from memlm.bank.rows import LABELS, Label, as_unicode
from memlm.bank.table import damaged
from memlm.bank.writing import making
from memlm.errors import UsageError, refusing
from memlm.files import read_json
from memlm.locks import mend, one_writer
from memlm.records import from_dict

_BLOCK = 2**14  # rows that are written at a time
_DTYPES: dict[Any, Stored] = {"float32": "fp32", "float16": "fp16"}


@one_writer
def convert_bank(old: Path, out: Path, dtype: Stored | None = None) -> Bank:
    """Write the memories of an old bank as a new one; every document's are compared with their SHA-256 first.

    Args:
        old: the folder of the old one, which stays as it is.
        out: the new one's.
        dtype: of the new one's numbers; the old one's if not given.

    Raises:
        UsageError: `old` is no old bank or is damaged, or `out` is there already.
        WorkError: `out` cannot be written.
    """
    old = Path(old)
    mend(old)
    meta, documents = _read(old / META)
    with refusing(f"{old / META} is damaged", ": restore it, or encode the documents anew"):
        model = None if meta.model is None else seen_from(out, old.resolve() / meta.model)
    meta = replace(meta, model=model, dtype=dtype or meta.dtype)
    count = sum(-(-document["tokens"] // meta.chunk_tokens) for document in documents)
    memory_KM = read_npy(old / "memories.npy", mapped=bool(count))
    if memory_KM.shape != (count, meta.memory_dim) or memory_KM.dtype not in (np.float32, np.float16):
        raise damaged(old / "memories.npy", "it does not fit meta.json")
    first = 0
    with making(out, meta) as writer:
        for document in documents:
            held_n = chunk_rows(0, document["tokens"], meta.chunk_tokens)[:, 2].tolist()
            own_nM = memory_KM[first : first + len(held_n)]
            if sha256_rows(own_nM) != document["memories_sha256"]:
                raise damaged(old / "memories.npy", f"memories of {document['name']!r} have changed")
            first += len(held_n)
            if not held_n:
                held_n, own_nM = [0], np.zeros((1, meta.memory_dim), np.float32)
            for start in range(0, len(held_n), _BLOCK):
                part = held_n[start : start + _BLOCK]
                labels = [Label(as_unicode(document["name"]), start + n, held) for n, held in enumerate(part)]
                if start + len(part) == len(held_n):
                    labels[-1] = labels[-1]._replace(**{name: document[name] for name in LABELS[3:]})
                writer.add(own_nM[start : start + _BLOCK].astype(np.float32), labels)
    return Bank.open(out)


def _read(path: Path) -> tuple[Meta, list[dict[str, Any]]]:
    """What an old meta.json tells, as today's, and its documents."""
    if not path.is_file():
        raise UsageError(
            f"{path.parent} is not a bank (it has no meta.json): name one that memlm 0.2 or earlier wrote."
        )
    told: Any = read_json(path)
    if not isinstance(told, dict) or told.get("format") != 1 or "documents" not in told:
        raise UsageError(f"{path.parent} is no bank of memlm 0.2 or earlier: only such a one is converted.")
    documents = told.pop("documents")
    try:
        meta = from_dict(Meta, {**told, **SINCE_3, "format": FORMAT, "dtype": _DTYPES[told.get("dtype")]}, "meta.json")
        sound = min(meta.memory_dim, meta.chunk_tokens) > 0 and all(
            isinstance(one["name"], str)
            and all(isinstance(one[name], str) and one[name].isascii() for name in ("sha256", "memories_sha256"))
            and all(type(one[name]) is int and one[name] >= 0 for name in ("characters", "bytes", "tokens"))
            for one in documents
        )
    except (UsageError, TypeError, KeyError):
        sound = False
    if not sound:
        raise damaged(path, "it does not tell what a bank tells")
    return meta, documents  # pyright: ignore[reportPossiblyUnboundVariable]
