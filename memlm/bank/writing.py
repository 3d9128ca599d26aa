"""Rows -> a bank: a new one whole or not at all, one that is there with its next version or as it was."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memlm.bank.bank import INDEX, META, TABLE, Bank, Meta
from memlm.bank.rows import Label, as_rows
from memlm.bank.table import Table, Writing, compact, delete, sweep
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, write_json
from memlm.locks import held

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 2**26  # bytes of memories in a fragment
SCANNED = 1_000_000  # memories from which on `compact_bank` files them, and `search` asks the index


class BankWriter:
    """Rows of documents on their way into a bank, written in blocks; use one made by `making` or `adding`.

    Attributes:
        path: the folder that is written to.
        meta: what the bank tells.
    """

    def __init__(self, path: Path, meta: Meta, *, old: Bank | None = None, name: Path | None = None):
        self.path, self.meta, self._old, self._bank = path, meta, old, name or path
        self._shared = False  # whether other processes wrote a part of it
        self._writing = Writing(path / TABLE, meta.fields(), None if old is None else old.table)
        self._rows: list[pa.Table] = []
        self._waiting, self._new, self._names = 0, list[str](), set[str]()
        self._most = max(1, BLOCK // meta.form.most_bytes)

    def add(
        self,
        memory_KM: np.ndarray,
        labels: Sequence[Label],
        numbers_K: np.ndarray | None = None,
        corrections: Sequence[bytes] = (),
    ) -> None:
        """Add memories in float32 [K, M], of a document one after the other; the rest as of `as_rows`.

        Raises:
            UsageError: a number does not fit, or a document of that name is there already.
        """
        if np.shape(memory_KM) != (len(labels), self.meta.memory_dim):
            raise UsageError(
                f"memories are {len(labels)} rows of {self.meta.memory_dim} numbers, not {np.shape(memory_KM)}."
            )
        self._note(label.document for label in labels if label.chunk == 0)
        self._rows.append(as_rows(memory_KM, labels, self.meta.form, numbers_K, corrections))
        self._waiting += len(labels)
        if self._waiting >= self._most:
            self._flush()

    def handed_over(self) -> tuple[list[str], list[str]]:
        """Fragments and names of all that was added, for the process that commits them."""
        self._flush()
        return self._writing.as_json(), sorted(self._names)

    def take(self, fragments: Iterable[str], names: Iterable[str]) -> None:
        """Add what another process has `handed_over`.

        Raises:
            UsageError: a document of that name is there already.
        """
        self._note(names)
        self._writing.take(fragments)
        self._shared = True

    def commit(self) -> None:
        """Make all that was added the bank's next version.

        Raises:
            WorkError: the bank was changed meanwhile, by something that knows no locks.
        """
        self._flush()
        if self._old is not None and Table(self._old.table.path).version != self._old.version:
            raise WorkError(f"{self._bank} was changed while documents were added to it: add them again.")
        self._writing.commit()
        if self._shared:
            sweep(Table(self._writing.path))  # what workers that were killed had written

    def _note(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._names:
                raise self._twice(name)
            self._names.add(name)
            self._new.append(name)

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow.compute import is_in  # pyright: ignore[reportAttributeAccessIssue]

        if self._old is not None and self._new:
            known = is_in(pa.array(self._new), self._old.table.names())
            if (first := known.index(True).as_py()) >= 0:
                raise self._twice(self._new[first])
        self._new.clear()
        if self._rows:
            self._writing.write(pa.concat_tables(self._rows))
        self._rows, self._waiting = [], 0

    def _twice(self, name: str) -> UsageError:
        return UsageError(f"there are two documents {name!r} for {self._bank}: give one of them another name.")


@contextmanager
def making(out: Path, meta: Meta) -> Iterator[BankWriter]:
    """Make a bank of what the block adds; it appears when the block ends."""
    with atomic_folder(out) as folder:
        writer = BankWriter(folder, meta, name=out)
        yield writer
        writer.commit()
        write_json(folder / META, meta.told())


@contextmanager
def adding(bank: Bank) -> Iterator[BankWriter]:
    """Add to a bank what the block adds, as its next version; whoever calls holds the lock."""
    sweep(bank.table)
    try:
        writer = BankWriter(bank.path, bank.meta, old=bank)
        yield writer
        writer.commit()
    except BaseException:
        sweep(bank.table)
        raise
    shutil.rmtree(bank.path / INDEX, ignore_errors=True)


def remove_documents(path: Path, names: Sequence[str]) -> Bank:
    """Make a version of a bank without these documents; earlier versions have them until `compact_bank`.

    Raises:
        UsageError: there is no document of that name, or another process writes the bank.
        WorkError: it cannot be written.
    """
    with held(path):
        bank = Bank.open(path)
        for name in names:
            bank.find(name)
        sweep(bank.table)
        delete(bank.table, names)
        shutil.rmtree(path / INDEX, ignore_errors=True)
        return Bank.open(path)


def compact_bank(path: Path, keep_days: float = 0.0) -> Bank:
    """Join small files, free what was removed, and file many memories by their angles (of fp32 and fp16 alone).

    Args:
        path: the bank.
        keep_days: versions that are younger stay; but for them the newest alone.

    Raises:
        UsageError: it is no bank, or another process writes it.
        WorkError: it cannot be written.
    """
    with held(path):
        bank = Bank.open(path)
        compact(bank.table, timedelta(days=keep_days), len(bank) > SCANNED and bank.meta.indexed)
        return Bank.open(path)
