"""A row of a bank's table: a memory as it is kept, whose it is, and a checksum of all that.

    memory      its numbers as they are stored (bank/kept.py): a list of one length, or of as many as each needs
    numbers     how many of them, where each memory has as many as it needs
    scale       float32, of int8 alone: the number is `scale` times what is stored
    document    name of the document; chunk: number of the memory in it; tokens: how many it holds
    characters, bytes, sha256    of the document's text in UTF-8, in its last row alone
    corrections of a lossless bank alone: what its decoder gets wrong of the chunk
    crc         CRC-32 of all else in the row, compared whenever memories are handed out

An empty document has one row of 0 tokens, which is no memory.
"""

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memlm.bank.kept import TYPES, Stored, elements, pack, row_bytes, unpack
from memlm.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = "document", "chunk", "tokens", "characters", "bytes", "sha256"


class Label(NamedTuple):
    """What a row says beside its memory; the last three are None but in a document's last row."""

    document: str
    chunk: int
    tokens: int
    characters: int | None = None
    bytes: int | None = None
    sha256: str | None = None


class Form(NamedTuple):
    """What rows hold of memories.

    Args:
        dtype: of their numbers.
        memory_dim: M, numbers of a memory.
        numbers: how many of them are stored, the first ones; None: of each as many as it needs.
        lossless: whether there are corrections.
    """

    dtype: Stored
    memory_dim: int
    numbers: int | None
    lossless: bool = False

    @property
    def most_bytes(self) -> int:
        """Bytes of a memory, at most."""
        return row_bytes(self.dtype, self.numbers or self.memory_dim)


def as_unicode(name: str) -> str:
    """A name as the table takes it: that of a file may be no Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()


def schema(form: Form, made: str = "") -> "pa.Schema":
    """The columns of rows; `made` is the SHA-256 of what meta.json tells."""
    import pyarrow as pa

    number = pa.from_numpy_dtype(TYPES[form.dtype].element)
    many = [] if form.numbers is None else [elements(form.dtype, form.numbers)]
    fields = [("memory", pa.list_(number, *many)), *([] if many else [("numbers", pa.int32())])]
    fields += [("scale", pa.float32())] if form.dtype == "int8" else []
    fields += [("document", pa.string()), ("chunk", pa.int32()), ("tokens", pa.int32())]
    fields += [("characters", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string())]
    fields += [*([("corrections", pa.binary())] if form.lossless else []), ("crc", pa.uint32())]
    return pa.schema(fields, {"meta.json": made})


def as_rows(
    memory_KM: np.ndarray,
    labels: Sequence[Label],
    form: Form,
    numbers_K: np.ndarray | None = None,
    corrections: Sequence[bytes] = (),
) -> "pa.Table":
    """Memories in float32 [K, M] and their labels as rows.

    `numbers_K` tells how many numbers of each are kept where the form does not, `corrections` those of a lossless one.

    Raises:
        UsageError: a number that the type cannot hold, or that is none.
    """
    import pyarrow as pa

    dtype, most_K = form.dtype, np.abs(memory_KM).max(1, initial=0)
    if not np.isfinite(most_K).all() or (dtype == "fp16" and (most_K > np.finfo(np.float16).max).any()):
        why = "leave --dtype at fp32." if dtype == "fp16" else "its weights are damaged, or it diverged."
        raise UsageError(f"the model's memories hold numbers that {dtype} cannot: {why}")
    stored_KE, scale_K = pack(memory_KM[:, : form.numbers], dtype)
    columns: list[Any] = []
    if form.numbers is None:
        assert numbers_K is not None
        held_K = elements(dtype, numbers_K)
        flat, ends = stored_KE[np.arange(stored_KE.shape[1]) < held_K[:, None]], np.cumsum(held_K)
        columns += [pa.ListArray.from_arrays(np.append(0, ends).astype(np.int32), pa.array(flat)), numbers_K]
    else:
        columns += [pa.FixedSizeListArray.from_arrays(pa.array(stored_KE.ravel()), stored_KE.shape[1])]
    columns += [] if scale_K is None else [scale_K]
    columns += map(list, zip(*labels, strict=True) if labels else [[]] * len(LABELS))
    columns += [*([list(corrections)] if form.lossless else []), np.zeros(len(labels), np.uint32)]
    fields = schema(form)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    rows = pa.Table.from_arrays(arrays, schema=fields)
    return rows.set_column(rows.num_columns - 1, "crc", pa.array(checksums(rows), pa.uint32()))


def as_stored(rows: "pa.Table") -> tuple[np.ndarray, np.ndarray]:
    """What is stored of memories [K, E], with zeros at the end of shorter ones, and how many elements each has [K]."""
    column = rows["memory"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if "numbers" not in rows.column_names:
        most = column.type.list_size
        return flat.reshape(len(rows), most), np.full(len(rows), most)
    length_K = column.value_lengths().to_numpy()
    stored_KE = np.zeros((len(rows), length_K.max(initial=0)), flat.dtype)
    stored_KE[np.arange(stored_KE.shape[1]) < length_K[:, None]] = flat
    return stored_KE, length_K


def unpacked(rows: "pa.Table", form: Form) -> tuple[np.ndarray, np.ndarray | None]:
    """The memories of rows, float32 [K, M], and their steps; as of `bank.kept.unpack`."""
    scale_K = rows["scale"].to_numpy() if "scale" in rows.column_names else None
    return unpack(as_stored(rows)[0], scale_K, form.dtype, form.memory_dim)


def as_memories(rows: "pa.Table", form: Form) -> np.ndarray:
    """The memories of rows: float32 [K, M]."""
    return unpacked(rows, form)[0]


def numbers_of(rows: "pa.Table", form: Form) -> np.ndarray:
    """How many numbers each memory has, int32 [K]."""
    return np.full(len(rows), form.numbers, np.int32) if form.numbers else rows["numbers"].to_numpy()


def checksums(rows: "pa.Table") -> list[int]:
    """CRC-32 of each row: of its labels and all else, then of its memory's bytes."""
    names = [name for name in rows.column_names if name not in ("memory", "crc")]
    told = zip(*(rows[name].to_pylist() for name in names), strict=True)
    known = (zlib.crc32("\0".join(map(str, one)).encode()) for one in told)
    return [zlib.crc32(stored[:n], crc) for stored, n, crc in zip(*as_stored(rows), known, strict=True)]
