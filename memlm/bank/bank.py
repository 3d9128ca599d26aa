"""A bank: memories of documents in a folder that outlives the process.

BANK/meta.json        the identity of encoder and tokenizer, the chunk length, the numbers' type: JSON, written once
BANK/memories.lance   a row a memory, with versions (bank/table.py)
BANK/index            what a memory model's reader has filed of them (bank/filing.py); it goes when the bank changes

A document is cut into chunks of T tokens from its start on; its last chunk may hold fewer, and no chunk holds tokens
of two documents. Nothing is read before it is asked for, so that a bank of a million memories opens at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import torch
from torch import Tensor

from memlm.bank.chunks import Fill
from memlm.bank.kept import INDEXED, Keeping, Stored, row_bytes
from memlm.bank.memories import Kept, Memories, Origin
from memlm.bank.rows import Form, numbers_of, schema, unpacked
from memlm.bank.table import Table, Version, damaged
from memlm.errors import UsageError
from memlm.files import check_format, read_json, sha256_json
from memlm.locks import mend
from memlm.models.model import TextMemory
from memlm.records import from_dict, to_dict

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

META, TABLE, INDEX = "meta.json", "memories.lance", "index"
FORMAT = 3  # of BANK; 1 is read by bank/convert.py
SINCE_3: dict[str, Any] = {"numbers": None, "accuracy": None, "lossless": False}
_BLOCK = 2**14  # rows that are read at a time


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A document in a bank."""

    name: str
    characters: int
    bytes: int  # of its text in UTF-8
    tokens: int
    chunks: int  # memories; all hold T tokens but the last, which holds the rest
    sha256: str  # of its text in UTF-8


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What meta.json tells."""

    format: int
    memlm: str  # the version that made the bank, and its commit
    commit: str
    model: str | None  # where the model was, seen from the bank's folder, or its name alone
    encoder: str  # `MemoryEncoder.fingerprint`: SHA-256 over shape and weights
    tokenizer: str  # tokenizer_sha256
    chunk_tokens: int  # T
    memory_dim: int  # M
    dtype: Stored
    fill: Fill  # what the encoder read after a document's end (bank/chunks.py)
    numbers: int | None = None  # of each memory the first so many are kept; None: all, or as `accuracy` says
    accuracy: float | None = None  # of each as few numbers as tell this share of its tokens
    lossless: bool = False  # whether what the decoder gets wrong is kept

    @property
    def keeping(self) -> Keeping:
        """How its memories are kept."""
        return Keeping(**{f.name: getattr(self, f.name) for f in fields(Keeping)})

    @property
    def form(self) -> Form:
        """What its rows hold."""
        numbers = None if self.accuracy else self.numbers or self.memory_dim
        return Form(self.dtype, self.memory_dim, numbers, self.lossless)

    @property
    def indexed(self) -> bool:
        """Whether its memories can be filed by their angles."""
        return self.dtype in INDEXED and self.accuracy is None

    def told(self) -> dict[str, Any]:
        """What meta.json tells; a bank of format 2 stays one."""
        return {name: value for name, value in to_dict(self).items() if self.format > 2 or name not in SINCE_3}

    def fields(self) -> "pa.Schema":
        """The columns of its table."""
        return schema(self.form, sha256_json(self.told()))


class Documents(Sequence[Entry]):
    """The documents of a bank, in the order of their memories; columns, of which an entry is made when it is asked for.

    Attributes:
        names: their names.
        tokens, chunks, bytes: int64 [D].
        first: int64 [D + 1], the number of each one's first memory.
        first_row: int64 [D + 1], its first row in the table, where an empty document has a row as well.
    """

    def __init__(self, facts: "pa.Table", chunk_tokens: int):
        self._facts = facts.combine_chunks()
        chunk, held = facts["chunk"].to_numpy().astype(np.int64), facts["tokens"].to_numpy().astype(np.int64)
        self.names: pa.ChunkedArray = self._facts["document"]
        self.tokens, self.chunks = chunk * chunk_tokens + held, chunk + (held > 0)
        self.bytes: np.ndarray = facts["bytes"].to_numpy()
        self.first = np.concatenate([[0], np.cumsum(self.chunks)])
        self.first_row = np.concatenate([[0], np.cumsum(chunk + 1)])

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        name, characters, size, digest = (
            self._facts[column][index].as_py() for column in ("document", "characters", "bytes", "sha256")
        )
        tokens, chunks = int(self.tokens[index]), int(self.chunks[index])
        return Entry(name=name, characters=characters, bytes=size, tokens=tokens, chunks=chunks, sha256=digest)


class Bank:
    """Memories of documents. Open one with `Bank.open`.

    Attributes:
        path: its folder.
        meta: what meta.json tells.
        table: its rows, of one version.
    """

    def __init__(self, path: Path, meta: Meta, table: Table):
        self.path, self.meta, self.table = path, meta, table

    @classmethod
    def open(cls, path: Path | str, version: int | None = None) -> Self:
        """Open a bank, or an earlier version of it. Memories are compared with their checksums when they are read.

        Raises:
            UsageError: the folder is no bank, is of another format or has no such version, or a file of it is damaged.
        """
        path = Path(path)
        mend(path)
        if not path.exists():
            raise UsageError(f"{path} is not there: name a bank, or make one with memlm encode.")
        if not (path / META).is_file():
            raise UsageError(f"{path} is not a bank (it has no meta.json): make one with memlm encode.")
        meta, table = _read_meta(path / META), Table(path / TABLE, version)
        if not table.fields.equals(meta.fields(), check_metadata=True):
            raise damaged(path / META, "it does not fit the memories")
        return cls(path, meta, table)

    @property
    def version(self) -> int:
        """The number of the version that is open: 1 as it was made, and one more with every change."""
        return self.table.version

    def versions(self) -> list[Version]:
        """Every version that can be opened, with the time at which it was written."""
        return self.table.versions()

    @cached_property
    def documents(self) -> Documents:
        """The documents, in the order of their memories.

        Raises:
            UsageError: what tells them is damaged.
        """
        found = Documents(self.table.facts(), self.meta.chunk_tokens)
        if found.first_row[-1] != len(self.table):
            raise damaged(self.table.path, "its documents do not fit its memories")
        return found

    def __len__(self) -> int:
        """K, the memories of all documents."""
        return int(self.documents.first[-1])

    @property
    def tokens(self) -> int:
        """Tokens that the memories hold together."""
        return int(self.documents.tokens.sum())

    @cached_property
    def _numbers(self) -> list[tuple[int, int]]:
        """Of how many numbers memories are, and how many of them."""
        if self.meta.form.numbers is not None:
            return [(self.meta.form.numbers, len(self))]
        numbers_K = self.table.column("numbers")[self.table.column("tokens") > 0]
        return list(zip(*(found.tolist() for found in np.unique(numbers_K, return_counts=True)), strict=True))

    @property
    def stored_numbers(self) -> int:
        """The numbers of all memories together."""
        return sum(numbers * count for numbers, count in self._numbers)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the memories take, with their corrections and without what is said of them."""
        of_numbers = sum(row_bytes(self.meta.dtype, numbers) * count for numbers, count in self._numbers)
        return of_numbers + (sum(map(len, self.table.column("corrections"))) if self.meta.lossless else 0)

    def find(self, name: str) -> int:
        """The number of the document of that name.

        Raises:
            UsageError: there is none.
        """
        if (number := self.documents.names.index(name).as_py()) < 0:
            some = ", ".join(entry.name for entry in self.documents[:20]) or "no documents"
            more = f" and {len(self.documents) - 20} more" if len(self.documents) > 20 else ""
            raise UsageError(f"{self.path} holds no document {name!r}; there are {some}{more}.")
        return number

    def _number(self, document: str | int) -> int:
        return self.find(document) if isinstance(document, str) else range(len(self.documents))[document]

    def span(self, document: str | int) -> slice:
        """Which memories are of a document, named or numbered."""
        number = self._number(document)
        return slice(int(self.documents.first[number]), int(self.documents.first[number + 1]))

    def memories(self, which: str | int | slice | None = None) -> Tensor:
        """Memories in float32 [K, M]: of a document by name or number, of a slice of all chunks, or all there are.

        Raises:
            UsageError: there is no document of that name, or what is read is damaged.
        """
        return torch.from_numpy(self._read(which)[0])

    def _read(self, which: str | int | slice | None) -> tuple[np.ndarray, Kept]:
        """Memories [K, M], and how they are kept."""
        if which is None:
            which = slice(None)
        start, stop, step = (which if isinstance(which, slice) else self.span(which)).indices(len(self))
        if step != 1:
            raise UsageError("memories are read in their order: take a slice without a step.")
        form, count = self.meta.form, max(0, stop - start)
        memory_KM, numbers_K = np.empty((count, form.memory_dim), np.float32), np.empty(count, np.int32)
        steps, wrong, done = [], [], 0
        first, last = (self.row(start), self.row(stop - 1) + 1) if count else (0, 0)
        for row in range(first, last, _BLOCK):
            rows = self.table.rows(row, min(row + _BLOCK, last))
            rows = rows.take(np.flatnonzero(rows["tokens"].to_numpy() > 0))
            new = slice(done, done + len(rows))
            memory_KM[new], step_nG = unpacked(rows, form)
            numbers_K[new], done = numbers_of(rows, form), new.stop
            steps += [] if step_nG is None else [step_nG]
            wrong += rows["corrections"].to_pylist() if form.lossless else []
        step_KG = np.concatenate(steps) if steps else None
        return memory_KM, Kept(form.dtype, self.meta.fill, numbers_K, step_KG, tuple(wrong) if form.lossless else None)

    def place(self, number: int) -> tuple[str, int]:
        """The document of a memory, by name, and the memory's number in it."""
        document = self._document(number)
        return self.documents[document].name, number - int(self.documents.first[document])

    def held(self) -> np.ndarray:
        """How many tokens each memory holds: int32 [K]."""
        tokens = self.table.column("tokens")
        return tokens[tokens > 0]

    def check_encoder(self, model: TextMemory, tokenizer: "Tokenizer | None" = None) -> None:
        """Refuse a model whose memories mean something else than the bank's.

        Args:
            model: whose encoder must be the one that made the bank; whatever else it is may differ.
            tokenizer: the one that belongs to the model.

        Raises:
            UsageError: another encoder, or another tokenizer.
        """
        self.origin.check(model, tokenizer, str(self.path), self.meta.model or "")

    @property
    def origin(self) -> Origin:
        """The encoder and tokenizer that made its memories."""
        meta = self.meta
        return Origin(meta.encoder, meta.tokenizer, meta.chunk_tokens, meta.memory_dim)

    def __getitem__(self, document: str | int) -> Memories:
        """The memories of one document, named or numbered."""
        return self.part(document, 0, len(self))

    def part(self, document: str | int, start: int, stop: int) -> Memories:
        """Some memories of a document, by their numbers in it."""
        number, T = self._number(document), self.meta.chunk_tokens
        tokens = min(int(self.documents.tokens[number]), stop * T) - start * T
        rows = chunk_rows(0, max(0, tokens), T) + np.array([0, start, 0], np.int32)
        first = int(self.documents.first[number])
        vectors, kept = self._read(slice(first + start, first + start + len(rows)))
        return Memories(vectors, rows, (None,), self.origin, kept)

    def read(self) -> Memories:
        """The memories of all documents, in this process' memory."""
        tokens = enumerate(self.documents.tokens.tolist())
        rows = [np.empty((0, 3), np.int32), *(chunk_rows(n, t, self.meta.chunk_tokens) for n, t in tokens)]
        vectors, kept = self._read(None)
        return Memories(vectors, np.concatenate(rows), (None,) * len(self.documents), self.origin, kept)

    def made_by(self) -> Path | None:
        """Where the model that made the bank is, as the bank recorded it; None where it is not told."""
        return None if self.meta.model is None else self.path.resolve() / self.meta.model

    def row(self, number: int) -> int:
        """The row of a memory in the table."""
        document = self._document(number)
        return int(self.documents.first_row[document] + number - self.documents.first[document])

    def _document(self, number: int) -> int:
        """The document of a memory; one after an empty document is of the later one."""
        return int(np.searchsorted(self.documents.first, number, side="right")) - 1


def chunk_rows(number: int, tokens: int, chunk_tokens: int) -> np.ndarray:
    """The chunks of a text of so many tokens: its number, the chunk's, and tokens held, int32 [chunks, 3]."""
    chunks = -(-tokens // chunk_tokens)
    rows = np.empty((chunks, 3), np.int32)
    rows[:, 0], rows[:, 1], rows[:, 2] = number, np.arange(chunks), chunk_tokens
    rows[-1:, 2] = tokens - (chunks - 1) * chunk_tokens
    return rows


def _read_meta(path: Path) -> Meta:
    told: Any = read_json(path)
    if not isinstance(told, dict) or not {"format", "encoder", "fill"} <= told.keys():
        raise UsageError(f"{path} is not of a bank: make one with memlm encode.")
    if told["format"] == 1:
        raise UsageError(
            f"{path.parent} is a bank as memlm 0.2 and earlier wrote it: memlm bank convert {path.parent} --out NEW "
            "makes one of it that is read, with the same memories."
        )
    if told["format"] == 2 and not told.keys() & SINCE_3.keys():
        told |= SINCE_3
    else:
        check_format(told, FORMAT, f"the bank {path.parent}")
    try:
        meta = from_dict(Meta, told, "meta.json")
        if min(meta.memory_dim, meta.chunk_tokens) > 0:
            return meta
    except (UsageError, TypeError):  # a name too many or too few, a value of another type
        pass
    raise damaged(path, "it does not tell what a bank tells")
