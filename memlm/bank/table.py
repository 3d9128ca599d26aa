"""The table of a bank's memories, on Lance: appended to, read by row, deleted from and compacted, every version kept.

BANK/memories.lance   one row a memory (bank/rows.py), in the order of documents and of their chunks

What is written is fragments (files that no version names yet); one commit makes a version of them, and until then a
reader sees nothing. Lance is imported when it is needed.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memlm.bank.rows import LABELS, checksums
from memlm.errors import MemlmError, UsageError, first_line
from memlm.files import told
from memlm.leftovers import sync

if TYPE_CHECKING:
    import pyarrow as pa

FACTS = "characters IS NOT NULL"  # the last row of a document
_AHEAD = 2**25  # bytes that are read ahead of what is looked at
_ALL = timedelta(days=365 * 1000)  # a version is never that old
os.environ.setdefault("LANCE_LOG", "error")  # it warns of every table that is made


class Version(NamedTuple):
    """A state of the table."""

    number: int
    written: datetime


class Table:
    """One version of a bank's table. Nothing of it is read before it is asked for."""

    def __init__(self, path: Path, version: int | None = None):
        """Open a version; the newest if it is not given.

        Raises:
            UsageError: it is not there, or damaged.
        """
        self.path = path
        if not path.is_dir():
            raise UsageError(f"{path} is missing: restore it, or encode the documents anew.")
        with reading(path):
            import lance

            self.data: Any = lance.dataset(str(path))
            if version is not None and version != self.data.version:
                known = [one.number for one in self.versions()]
                if version not in known:
                    raise UsageError(f"{path.parent} has no version {version}; there are {', '.join(map(str, known))}.")
                self.data = lance.dataset(str(path), version=version)

    def __len__(self) -> int:
        """Rows, those of empty documents too."""
        with reading(self.path):
            return self.data.count_rows()

    @property
    def version(self) -> int:
        """Number of this version."""
        return self.data.version

    @property
    def fields(self) -> "pa.Schema":
        """Its columns, and in their metadata the SHA-256 of what meta.json told when it was made."""
        with reading(self.path):
            return self.data.schema

    def versions(self) -> list[Version]:
        """All versions that can be opened."""
        with reading(self.path):
            return [Version(one["version"], one["timestamp"]) for one in self.data.versions()]

    def rows(self, start: int, stop: int) -> "pa.Table":
        """Rows of [start, stop), compared with their checksums."""
        with reading(self.path):
            found = self.data.scanner(offset=start, limit=stop - start).to_table()
            return self._sound(found, stop - start)

    def take(self, numbers: Sequence[int]) -> "pa.Table":
        """Rows of these numbers, compared with their checksums."""
        with reading(self.path):
            return self._sound(self.data.take(list(numbers)), len(numbers))

    def column(self, name: str) -> np.ndarray:
        """A column of numbers, of all rows."""
        with reading(self.path):
            return self.data.to_table(columns=[name])[name].to_numpy()

    def facts(self) -> "pa.Table":
        """The last row of every document, without its memory."""
        with reading(self.path):
            return self.data.to_table(columns=list(LABELS), filter=FACTS)

    def names(self) -> "pa.ChunkedArray":
        """The names of all documents."""
        with reading(self.path):
            return self.data.to_table(columns=["document"], filter="chunk = 0")["document"]

    def blocks(self, columns: Sequence[str], size: int) -> "Iterator[pa.Table]":
        """These columns of all rows, so many rows at a time."""
        import pyarrow as pa

        ahead = {"batch_readahead": 2, "fragment_readahead": 1, "io_buffer_size": _AHEAD}
        with reading(self.path):
            for batch in self.data.scanner(columns=list(columns), batch_size=size, **ahead).to_batches():
                yield pa.Table.from_batches([batch])

    def changed(self) -> list[str]:
        """The documents of all rows that have not their checksum."""
        found: dict[str, None] = {}
        for rows in self.blocks(self.fields.names, 4096):
            same = np.equal(checksums(rows), rows["crc"].to_numpy())
            found |= dict.fromkeys(rows["document"].filter(~same).to_pylist())
        return list(found)

    def nearest(self, query_M: np.ndarray, k: int) -> "pa.Table":
        """About the k rows of the least angle to a query, by the index and what came after it; compared."""
        how = {"column": "memory", "q": query_M, "k": k, "metric": "cosine", "refine_factor": 10, "minimum_nprobes": 40}
        with reading(self.path):
            found = self.data.to_table(nearest=how, filter="tokens > 0", prefilter=True)
            return self._sound(found.drop_columns(["_distance"]), len(found))

    @property
    def indexed(self) -> bool:
        """Whether there is an index of its memories."""
        with reading(self.path):
            return bool(self.data.describe_indices())

    def _sound(self, rows: "pa.Table", count: int) -> "pa.Table":
        if len(rows) != count:
            raise damaged(self.path, "it has lost rows")
        for one, (crc, was) in enumerate(zip(checksums(rows), rows["crc"].to_pylist(), strict=True)):
            if crc != was:
                raise damaged(self.path, f"memories of {rows['document'][one].as_py()!r} have changed")
        return rows


class Writing:
    """Fragments on their way into a table, of which `commit` makes one version; whoever writes holds the bank's lock.

    Args:
        path: the table.
        fields: its columns.
        base: the version that is added to; None: there is no table yet.
    """

    def __init__(self, path: Path, fields: "pa.Schema", base: Table | None):
        self.path, self.fields, self.base = path, fields, base
        self.fragments: list[Any] = []
        self._before = _files(path)

    def write(self, rows: "pa.Table") -> None:
        """Write rows as a fragment."""
        with told(self.path, every=True):
            from lance.fragment import write_fragments

            self.fragments += write_fragments(rows, str(self.path), schema=self.fields)

    def as_json(self) -> list[str]:
        """The fragments, as another process can commit them."""
        return [json.dumps(one.to_json()) for one in self.fragments]

    def take(self, fragments: Iterable[str]) -> None:
        """Fragments that another process wrote, in its words."""
        with reading(self.path):
            from lance import FragmentMetadata

            self.fragments += [FragmentMetadata.from_json(one) for one in fragments]

    def commit(self) -> int:
        """Make a version of what was written; returns its number."""
        with told(self.path, every=True):
            import lance

            self._sync()  # a version never names what the disk may not have
            if self.base is None:
                made = lance.LanceOperation.Overwrite(self.fields, self.fragments)
            else:
                made = lance.LanceOperation.Append(self.fragments)
            version = self.base.version if self.base is not None else None
            found = lance.LanceDataset.commit(str(self.path), made, read_version=version)
            self._sync()
            return found.version

    def _sync(self) -> None:
        new = _files(self.path) - self._before
        for one in sorted(new):
            with open(one, "rb" if os.name == "posix" else "rb+") as file:
                os.fsync(file.fileno())
        for folder in {one.parent for one in new}:
            sync(folder)
        self._before |= new


def delete(table: Table, documents: Iterable[str]) -> None:
    """Make a version without these documents; the files stay until `compact`."""
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in documents)
    with told(table.path, every=True):
        table.data.delete(f"document IN ({names})")


def sweep(table: Table) -> None:
    """Remove files that no version names: those of writers that were killed. Whoever calls holds the lock."""
    with told(table.path, every=True):
        table.data.cleanup_old_versions(older_than=_ALL, delete_unverified=True)


def compact(table: Table, keep: timedelta, index: bool) -> None:
    """Join small fragments, drop what was deleted, and remove versions older than `keep`.

    Args:
        table: the newest version.
        keep: the age of the oldest version that stays.
        index: file memories by their angles, in inverted lists of 8 bits a number; int8 Lance does not file.
    """
    with told(table.path, every=True):
        table.data.optimize.compact_files(num_threads=1)
        if table.indexed:
            table.data.optimize.optimize_indices()
        elif index:
            lists = int(len(table) ** 0.5)
            table.data.create_index("memory", "IVF_SQ", metric="cosine", num_partitions=lists)
        table.data.cleanup_old_versions(older_than=keep, delete_unverified=True)


def damaged(path: Path, why: str) -> UsageError:
    """The sentence about a file of a bank."""
    return UsageError(f"{path} is damaged ({why}): restore it, or encode the documents anew.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever Lance and Arrow raise into a sentence; a panic of theirs is no `Exception`."""
    try:
        yield
    except (MemlmError, MemoryError, ModuleNotFoundError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(path, first_line(error)) from None  # pyright: ignore[reportArgumentType]
        raise


def _files(path: Path) -> set[Path]:
    return {Path(folder, name) for folder, _, names in os.walk(path) for name in names}
