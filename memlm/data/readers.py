"""Files as documents: text, JSONL, CSV (compressed too) and Parquet, each streamed and refused in one sentence."""

import bz2
import codecs
import csv
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self, TypeVar

from memlm.errors import MemlmError, UsageError, first_line, refusing
from memlm.tokens.pieces import PIECE, Document, cut_pieces

LINE_LIMIT = 128 << 20  # bytes of one JSONL line: a line has to be parsed whole
T = TypeVar("T")


def read_file(path: Path, name: str, column: str) -> Iterator[Document]:
    """The documents of one file, by its suffix, one of `SUFFIXES`, before the suffix of a compression.

    `name` is the document's, or the first part of the names of the file's documents; `column` the column or key that
    holds the text (JSONL, CSV and Parquet). UsageError where the file is not what its suffix says, has no such column,
    or is not UTF-8.
    """
    return SUFFIXES[kind_of(path)](path, name, column)


def kind_of(path: Path) -> str:
    """The suffix that says what is in a file: of `a.jsonl.gz` it is `.jsonl`; of Parquet, nothing outside of it."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix
    return suffix if inner == ".parquet" else inner


def title_of(path: Path) -> str:
    """A file's name without its suffixes; bytes that are no UTF-8 are written out as `\\xff`."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return os.fsencode(plain.with_suffix("").as_posix()).decode("utf-8", "backslashreplace")


def table_documents(
    name: str, rows: Iterable[Mapping[str, object] | None], column: str, where: str
) -> Iterator[Document]:
    """A table's rows as documents, those without text left out; `where` and its number tell a row.

    UsageError where there is no such column in a row, or something else than text.
    """
    for number, row in enumerate(rows, 1):
        if row is None:
            continue
        text, place = row.get(column), f"{where}{number}"
        _refuse_without(column, row, place)
        if text is not None and not isinstance(text, str):
            raise UsageError(f"{place}: column {column!r} holds {type(text).__name__}, not text.")
        try:
            codecs.utf_8_encode(text or "")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{place}: column {column!r} is not valid Unicode (a lone surrogate at character {error.start})."
            ) from None
        if text and text.strip():
            yield Document(f"{name}:{number}", list(cut_pieces([text])))


def guarded(
    items: Iterable[T], errors: tuple[type[Exception], ...], told: Callable[[Exception], MemlmError]
) -> Iterator[T]:
    """Items as they come; an error of what makes them is told in a sentence."""
    try:
        yield from items
    except errors as error:
        raise told(error) from error


class _TextFile:
    """The pieces of a text file; every iteration reads the file anew."""

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[str]:
        return cut_pieces(self._blocks())

    def _blocks(self) -> Iterator[str]:
        offset, rest = 0, b""
        with _Bytes(self.path) as file:
            if (rest := file.read(3)) == codecs.BOM_UTF8:  # a byte-order mark is no text
                offset, rest = 3, b""
            while block := file.read(PIECE):
                data = rest + block
                try:
                    text, used = codecs.utf_8_decode(data, "strict", False)
                except UnicodeDecodeError as error:
                    raise _not_utf8(self.path, offset + error.start) from None
                yield text
                offset, rest = offset + used, data[used:]
        if rest:
            yield self._last(rest, offset)

    def _last(self, rest: bytes, offset: int) -> str:
        try:
            return rest.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(self.path, offset + error.start) from None


def _read_text(path: Path, name: str, column: str) -> Iterator[Document]:
    with _Bytes(path) as file:
        blank = not file.read(PIECE).removeprefix(codecs.BOM_UTF8).strip() and not file.read(1)
    if not blank:
        yield Document(name, _TextFile(path))


def _read_jsonl(path: Path, name: str, column: str) -> Iterator[Document]:
    return table_documents(name, _json_rows(path), column, f"{path}:")


def _json_rows(path: Path) -> Iterator[dict[str, object] | None]:
    with _Bytes(path) as file:
        number = 0
        while line := file.readline(LINE_LIMIT):
            number += 1
            if len(line) == LINE_LIMIT:
                raise UsageError(f"{path}:{number} is longer than {LINE_LIMIT >> 20} MiB: cut it into several lines.")
            try:
                row = json.loads(line.rstrip()) if line.strip() else None
            except (ValueError, RecursionError) as error:  # of numbers with thousands of digits, too
                raise UsageError(f"{path}:{number} is not valid JSON ({first_line(error)}).") from None
            if line.strip() and not isinstance(row, dict):
                raise UsageError(f"{path}:{number} is not a JSON object.")
            yield row


def _read_csv(path: Path, name: str, column: str) -> Iterator[Document]:
    csv.field_size_limit(LINE_LIMIT)
    lines = (line for piece in [_TextFile(path)] for line in _lines(piece))
    rows = csv.DictReader(lines, delimiter="\t" if kind_of(path) == ".tsv" else ",", strict=True)

    def told(error: Exception) -> UsageError:
        return UsageError(f"{path}:{rows.reader.line_num} cannot be read as CSV ({first_line(error)}).")

    yield from table_documents(name, guarded(rows, (csv.Error,), told), column, f"{path}, row ")


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines with their ends, `\\n` alone: a quoted field may hold any other."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from (f"{line}\n" for line in whole)
    if rest:
        yield rest


def _read_parquet(path: Path, name: str, column: str) -> Iterator[Document]:
    import pyarrow.parquet

    def told(error: Exception) -> UsageError:
        return UsageError(f"{path} cannot be read as Parquet ({first_line(error)}).")

    try:
        file: Any = pyarrow.parquet.ParquetFile(path, pre_buffer=False)
    except Exception as error:  # Arrow's own, and whatever a damaged schema makes of it
        raise told(error) from None
    with file:
        _refuse_without(column, file.schema_arrow.names, str(path))  # before anything is read
        batches = file.iter_batches(batch_size=64, columns=[column])
        rows = ({column: text} for batch in batches for text in batch.column(0).to_pylist())  # bytes that are no UTF-8
        yield from table_documents(name, guarded(rows, (Exception,), told), column, f"{path}, row ")


SUFFIXES = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), _read_text),
    **dict.fromkeys((".jsonl", ".ndjson"), _read_jsonl),
    **dict.fromkeys((".csv", ".tsv"), _read_csv),
    ".parquet": _read_parquet,
}
COMPRESSED: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def _refuse_without(column: str, columns: Iterable[str], where: str) -> None:
    if column not in columns:
        raise UsageError(f"{where} has no column {column!r}; there are {', '.join(map(repr, columns)) or 'none'}.")


def _plain(path: Path) -> Any:
    return open(path, "rb")


class _Bytes:
    """A file's bytes, decompressed by its suffix; what cannot be read is told when it is come upon."""

    def __init__(self, path: Path):
        self._path = path
        with self._told():
            self._file = COMPRESSED.get(path.suffix.lower(), _plain)(path)

    def read(self, size: int) -> bytes:
        with self._told():
            return self._file.read(size)

    def readline(self, size: int) -> bytes:
        with self._told():
            return self._file.readline(size)

    def _told(self) -> AbstractContextManager[None]:
        return refusing(f"{self._path} cannot be read")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _not_utf8(path: Path, offset: int) -> UsageError:
    return UsageError(f"{path} is not UTF-8 text (byte {offset} is no part of it): convert it first.")
