"""Files as documents: text, JSONL and Parquet, each streamed and each refused in one sentence."""

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from memlm.errors import UsageError
from memlm.tokens.pieces import PIECE, Document, cut_pieces

LINE_LIMIT = 128 << 20  # bytes of one JSONL line: a line has to be parsed whole


def read_file(path: Path, name: str, column: str) -> Iterator[Document]:
    """The documents of one file, by its suffix.

    Args:
        path: a file whose suffix is one of `SUFFIXES`.
        name: the document's name, or the first part of the names of the file's documents.
        column: the column or key that holds the text (JSONL and Parquet).

    Raises:
        UsageError: the file is not what its suffix says, has no such column, or is not UTF-8.
    """
    return SUFFIXES[path.suffix.lower()](path, name, column)


def text_document(name: str, text: object, columns: Iterable[str], column: str, where: str) -> Document | None:
    """A table's row as a document; None where it holds no text.

    Raises:
        UsageError: `column` is not among `columns`, or holds something else than text.
    """
    if column not in columns:
        raise UsageError(f"{where} has no column {column!r}; there are {', '.join(map(repr, columns)) or 'none'}.")
    if text is None:
        return None
    if not isinstance(text, str):
        raise UsageError(f"{where}: column {column!r} holds {type(text).__name__}, not text.")
    try:
        codecs.utf_8_encode(text)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{where}: column {column!r} is not valid Unicode (a lone surrogate at character {error.start})."
        ) from None
    return Document(name, list(cut_pieces([text]))) if text.strip() else None


class _TextFile:
    """The pieces of a text file; every iteration reads the file anew."""

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[str]:
        return cut_pieces(self._blocks())

    def _blocks(self) -> Iterator[str]:
        offset, rest = 0, b""
        with _open(self.path) as file:
            if file.read(3) != codecs.BOM_UTF8:  # a byte-order mark is no text
                file.seek(0)
            offset = file.tell()
            while block := file.read(PIECE):
                data = rest + block
                try:
                    text, used = codecs.utf_8_decode(data, "strict", False)
                except UnicodeDecodeError as error:
                    raise _not_utf8(self.path, offset + error.start) from None
                yield text
                offset, rest = offset + used, data[used:]
        if rest:
            raise _not_utf8(self.path, offset)


def _read_text(path: Path, name: str, column: str) -> Iterator[Document]:
    with _open(path) as file:
        blank = not file.read(PIECE).removeprefix(codecs.BOM_UTF8).strip() and not file.read(1)
    if not blank:
        yield Document(name, _TextFile(path))


def _read_jsonl(path: Path, name: str, column: str) -> Iterator[Document]:
    with _open(path) as file:
        number = 0
        while line := file.readline(LINE_LIMIT):
            number += 1
            if len(line) == LINE_LIMIT:
                raise UsageError(f"{path}:{number} is longer than {LINE_LIMIT >> 20} MiB: cut it into several lines.")
            if not line.strip():
                continue
            try:
                row = json.loads(line.rstrip())
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                raise UsageError(f"{path}:{number} is not valid JSON ({error}).") from None
            if not isinstance(row, dict):
                raise UsageError(f"{path}:{number} is not a JSON object.")
            document = text_document(f"{name}:{number}", row.get(column), row, column, f"{path}:{number}")
            if document is not None:
                yield document


def _read_parquet(path: Path, name: str, column: str) -> Iterator[Document]:
    import pyarrow.parquet

    def told(error: Exception) -> UsageError:
        return UsageError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).")

    try:
        file: Any = pyarrow.parquet.ParquetFile(path, pre_buffer=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise told(error) from None
    with file:
        columns = file.schema_arrow.names
        text_document(name, None, columns, column, str(path))  # refuses a missing column before anything is read
        batches, row = file.iter_batches(batch_size=64, columns=[column]), 0
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowException, OSError) as error:
                raise told(error) from None
            if batch is None:
                return
            for text in batch.column(0).to_pylist():
                row += 1
                document = text_document(f"{name}:{row}", text, columns, column, f"{path}, row {row}")
                if document is not None:
                    yield document


SUFFIXES = {
    ".txt": _read_text,
    ".text": _read_text,
    ".md": _read_text,
    ".markdown": _read_text,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None


def _not_utf8(path: Path, offset: int) -> UsageError:
    return UsageError(f"{path} is not UTF-8 text (byte {offset} is no part of it): convert it first.")
