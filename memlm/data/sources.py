"""Whatever can be read: a file, a folder, a named corpus or a Hugging Face data set, behind one face."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from memlm.data.corpora import CORPORA
from memlm.data.hub import HubDataset
from memlm.data.readers import SUFFIXES, read_file
from memlm.errors import UsageError
from memlm.files import sha256_file, sha256_json
from memlm.tokens.pieces import Document


@dataclass(frozen=True, kw_only=True)
class Source:
    """Documents that can be read as often as needed, always the same and in the same order.

    Args:
        name: as the user named it.
        documents: begins a new pass over the documents.
        identity: a JSON value that changes if the documents do (content hashes; no times, no places).
        hold_out: the names of the documents that are held out by default.
    """

    name: str
    documents: Callable[[], Iterator[Document]]
    identity: Callable[[], object]
    hold_out: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Document]:
        empty = True
        for document in self.documents():
            empty = False
            yield document
        if empty:
            raise UsageError(f"{self.name} holds no text.")

    def fingerprint(self) -> str:
        """SHA-256 of what the source holds."""
        return sha256_json(self.identity())


def open_source(source: str, *, column: str = "text", split: str = "train", subset: str | None = None) -> Source:
    """Open a source by its name or path.

    Args:
        source: a file or folder of text, Markdown, JSONL or Parquet; a named corpus (write `./NAME` for a folder of
            the same name); or a Hugging Face data set `owner/name`.
        column: the column or key that holds the text (JSONL, Parquet, Hugging Face).
        split: which split of a Hugging Face data set.
        subset: which configuration of a Hugging Face data set.

    Raises:
        UsageError: there is nothing of that name, or a file of a kind that is not read.
        WorkError: a named corpus could not be downloaded.
    """
    if source in CORPORA:
        corpus = CORPORA[source]
        return _files(source, corpus.folder(), column, corpus.hold_out)
    path = Path(source).expanduser()
    if path.is_dir():
        return _files(source, path, column)
    known = ", ".join(SUFFIXES)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{source}: files of kind {path.suffix!r} are not read; there are {known}.")
        return _files(source, path, column)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) and path.suffix.lower() not in SUFFIXES:
        hub = HubDataset(source, column, split, subset)
        return Source(name=source, documents=hub.documents, identity=hub.identity)
    raise UsageError(
        f"{source} is not there: name a file, a folder, a Hugging Face data set (owner/name) or one of the corpora "
        f"known by name ({', '.join(CORPORA)})."
    )


def _files(name: str, root: Path, column: str, hold_out: tuple[str, ...] = ()) -> Source:
    """A file, or every readable file of a folder in the order of their names."""
    files = {root.stem: root} if root.is_file() else _walk(root)
    if not files:
        raise UsageError(f"{name} holds no file that is read; there are {', '.join(SUFFIXES)}.")
    return Source(
        name=name,
        documents=partial(_read_all, files, column),
        identity=lambda: [column, *([title, path.suffix, sha256_file(path)] for title, path in files.items())],
        hold_out=hold_out,
    )


def _walk(root: Path) -> dict[str, Path]:
    found = sorted(
        (path.relative_to(root), path)
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    plain = [relative.with_suffix("").as_posix() for relative, _ in found]
    unique = len(set(plain)) == len(plain)
    return {
        (short if unique else relative.as_posix()): path for short, (relative, path) in zip(plain, found, strict=True)
    }


def _read_all(files: dict[str, Path], column: str) -> Iterator[Document]:
    for name, path in files.items():
        yield from read_file(path, name, column)
