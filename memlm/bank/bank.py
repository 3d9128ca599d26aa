"""A bank: memories of documents in a folder that outlives the process.

BANK/memories.npy   float32 or float16 [K, M], memory-mapped: the memories of all documents, one after the other
BANK/chunks.npy     int32 [K, 3]: of which document each memory is, its number in it, how many tokens it holds
BANK/meta.json      the documents, the identity of encoder and tokenizer, SHA-256 of everything

A document is cut into chunks of T tokens from its start on; its last chunk may hold fewer, and no chunk holds tokens
of two documents. Nothing is unpickled.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from memlm.arrays import read_npy
from memlm.bank.digest import sha256_rows
from memlm.bank.memories import Memories, Origin
from memlm.errors import UsageError
from memlm.files import check_format, read_json
from memlm.locks import mend
from memlm.models.model import TextMemory
from memlm.records import from_dict

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILES = {"memories.npy", "chunks.npy", "meta.json"}
INDEX = "index"  # a folder that may stand beside them (bank/filing.py), and goes when the bank changes
FORMAT = 1  # of BANK; a change of it makes banks ask to be made anew


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A document in a bank."""

    name: str
    characters: int
    bytes: int  # of its text in UTF-8
    tokens: int
    chunks: int  # memories; all hold T tokens but the last, which holds the rest
    sha256: str  # of its text in UTF-8
    memories_sha256: str  # of its rows in memories.npy


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What meta.json tells."""

    format: int
    memlm: str  # the version that wrote the bank, and its commit
    commit: str
    model: str | None  # where the model was, seen from the bank's folder, or its name alone
    encoder: str  # `MemoryEncoder.fingerprint`: SHA-256 over shape and weights
    tokenizer: str  # tokenizer_sha256
    chunk_tokens: int  # T
    memory_dim: int  # M
    dtype: str  # of memories.npy
    fill: str  # what the encoder read after a document's end (bank/chunks.py)
    documents: tuple[Entry, ...]

    @property
    def chunks(self) -> int:
        """K, memories of all documents."""
        return sum(entry.chunks for entry in self.documents)


class Bank:
    """Memories of documents. Open one with `Bank.open`.

    Attributes:
        path: its folder.
        meta: what meta.json tells.
        documents: the documents, in the order of their memories.
    """

    def __init__(self, path: Path, meta: Meta, memories: np.ndarray):
        self.path, self.meta, self.documents = path, meta, meta.documents
        self._memories = memories
        self._first = [0, *accumulate(entry.chunks for entry in self.documents)]
        self._checked: set[int] = set()  # documents whose memories have been compared with their SHA-256

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a bank. Memories are compared with their SHA-256 when they are first read.

        Raises:
            UsageError: the folder is no bank, is of another format, or a file of it is damaged.
        """
        path = Path(path)
        mend(path)
        if not path.exists():
            raise UsageError(f"{path} is not there: name a bank, or make one with memlm encode.")
        if not (path / "meta.json").is_file():
            raise UsageError(f"{path} is not a bank (it has no meta.json): make one with memlm encode.")
        meta = _read_meta(path / "meta.json")
        memories = _load(path / "memories.npy", (meta.chunks, meta.memory_dim), np.dtype(meta.dtype))
        chunks = _load(path / "chunks.npy", (meta.chunks, 3), np.dtype(np.int32))
        first = 0
        for number, entry in enumerate(meta.documents):
            rows = chunks[first : first + entry.chunks]
            if not np.array_equal(rows, chunk_rows(number, entry.tokens, meta.chunk_tokens)):
                raise _damaged(path / "chunks.npy", "it does not fit meta.json")
            first += entry.chunks
        return cls(path, meta, memories)

    def __len__(self) -> int:
        """K, the memories of all documents."""
        return self._first[-1]

    @property
    def tokens(self) -> int:
        """Tokens that the memories hold together."""
        return sum(entry.tokens for entry in self.documents)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the memories take on disk."""
        return self._memories.nbytes

    def find(self, name: str) -> int:
        """The number of the document of that name.

        Raises:
            UsageError: there is none.
        """
        if name not in self._numbers:
            some = ", ".join(entry.name for entry in self.documents[:20]) or "no documents"
            more = f" and {len(self.documents) - 20} more" if len(self.documents) > 20 else ""
            raise UsageError(f"{self.path} holds no document {name!r}; there are {some}{more}.")
        return self._numbers[name]

    def span(self, document: str | int) -> slice:
        """Which memories are of a document, named or numbered."""
        number = self.find(document) if isinstance(document, str) else range(len(self.documents))[document]
        return slice(self._first[number], self._first[number + 1])

    def memories(self, which: str | int | slice | None = None) -> Tensor:
        """Memories in float32 [K, M]: of a document by name or number, of a slice of all chunks, or all there are.

        Raises:
            UsageError: there is no document of that name, or what is read is damaged.
        """
        if which is None:
            which = slice(None)
        start, stop, step = (which if isinstance(which, slice) else self.span(which)).indices(len(self))
        if step != 1:
            raise UsageError("memories are read in their order: take a slice without a step.")
        if start < stop:
            last = np.searchsorted(self._first, stop, side="left")
            for number in range(int(np.searchsorted(self._first, start, side="right")) - 1, int(last)):
                self._check(number)
        return torch.from_numpy(self._memories[start:stop].astype(np.float32))

    def place(self, number: int) -> tuple[str, int]:
        """The document of a memory, by name, and the memory's number in it."""
        document = int(np.searchsorted(self._first, number, side="right")) - 1
        return self.documents[document].name, number - self._first[document]

    def held(self) -> np.ndarray:
        """How many tokens each memory holds: int32 [K]."""
        rows = [chunk_rows(0, entry.tokens, self.meta.chunk_tokens)[:, 2] for entry in self.documents]
        return np.concatenate([np.empty(0, np.int32), *rows])

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
        number = self.find(document) if isinstance(document, str) else range(len(self.documents))[document]
        rows = chunk_rows(0, self.documents[number].tokens, self.meta.chunk_tokens)
        return Memories(self.memories(number).numpy(), rows, (None,), self.origin)

    def read(self) -> Memories:
        """The memories of all documents, in this process' memory."""
        entries = enumerate(self.documents)
        rows = [np.empty((0, 3), np.int32), *(chunk_rows(n, e.tokens, self.meta.chunk_tokens) for n, e in entries)]
        return Memories(self.memories().numpy(), np.concatenate(rows), (None,) * len(self.documents), self.origin)

    def made_by(self) -> Path | None:
        """Where the model that made the bank is, as the bank recorded it; None where it is not told."""
        return None if self.meta.model is None else self.path.resolve() / self.meta.model

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {entry.name: number for number, entry in enumerate(self.documents)}

    def _check(self, number: int) -> None:
        if number in self._checked:
            return
        if sha256_rows(self._memories[self.span(number)]) != self.documents[number].memories_sha256:
            raise _damaged(self.path / "memories.npy", f"memories of {self.documents[number].name!r} have changed")
        self._checked.add(number)


def chunk_rows(number: int, tokens: int, chunk_tokens: int) -> np.ndarray:
    """The chunks of a text of so many tokens as rows of chunks.npy: int32 [chunks, 3]."""
    chunks = -(-tokens // chunk_tokens)
    rows = np.empty((chunks, 3), np.int32)
    rows[:, 0], rows[:, 1], rows[:, 2] = number, np.arange(chunks), chunk_tokens
    rows[-1:, 2] = tokens - (chunks - 1) * chunk_tokens
    return rows


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is damaged ({why}): restore it, or encode the documents anew.")


def _read_meta(path: Path) -> Meta:
    told: Any = read_json(path)
    if not isinstance(told, dict) or not {"format", "encoder", "documents"} <= told.keys():
        raise UsageError(f"{path} is not of a bank: make one with memlm encode.")
    check_format(told, FORMAT, f"the bank {path.parent}")
    try:
        meta = from_dict(Meta, told, "meta.json")
        if _is_sound(meta):
            return meta
    except (UsageError, TypeError):  # a name too many or too few, a value of another type
        pass
    raise _damaged(path, "it does not tell what a bank tells")


def _is_sound(meta: Meta) -> bool:
    """Whether values fit one another.

    Raises:
        TypeError: values of another type.
    """
    return (
        min(meta.memory_dim, meta.chunk_tokens) > 0
        and meta.dtype in ("float32", "float16")
        and meta.fill in ("pad", "repeat")
        and isinstance(meta.model, str | None)
        and len({entry.name for entry in meta.documents}) == len(meta.documents)
        and all(
            isinstance(entry.name, str)
            and min(entry.characters, entry.bytes, entry.tokens) >= 0
            and entry.chunks == -(-entry.tokens // meta.chunk_tokens)
            for entry in meta.documents
        )
    )


def _load(path: Path, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    if not path.is_file():
        raise UsageError(f"{path} is missing: restore it, or encode the documents anew.")
    try:
        array = read_npy(path, mapped=bool(shape[0]))  # numpy maps no empty array
    except UsageError:
        raise _damaged(path, "it has lost a part or is no array") from None
    if (array.shape, array.dtype) != (shape, dtype):
        raise _damaged(path, "it does not fit meta.json")
    return array
