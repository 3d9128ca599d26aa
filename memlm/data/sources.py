"""Whatever can be read: a file, a folder, a named corpus or a Hugging Face data set, behind one face."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memlm.data.corpora import CORPORA
from memlm.data.hub import HubDataset
from memlm.data.readers import SUFFIXES, read_file
from memlm.errors import UsageError
from memlm.files import sha256_file, sha256_json
from memlm.tokens.pieces import Document


@dataclass(frozen=True, kw_only=True)
class Source:
    """Documents that can be read as often as needed, always the same and in the same order."""

    name: str  # as the user named it
    documents: Callable[[], Iterator[Document]]  # begins a new pass over the documents
    identity: Callable[[], object]  # a JSON value that changes if the documents do: content hashes, no times, no places
    hold_out: tuple[str, ...] = ()  # the names of the documents that are held out by default

    def __iter__(self) -> Iterator[Document]:
        documents = self.documents()
        if (first := next(documents, None)) is None:
            raise UsageError(f"{self.name} holds no text.")
        yield first
        yield from documents

    def fingerprint(self) -> str:
        """SHA-256 of what the source holds."""
        return sha256_json(self.identity())


def open_source(source: str, *, column: str = "text", split: str = "train", subset: str | None = None) -> Source:
    """Open a file or folder of text, Markdown, JSONL or Parquet, a named corpus, or a Hugging Face data set.

    Write `./NAME` for a folder that is called as a corpus; a data set is `owner/name`, of which `split` and `subset`
    are read. `column` holds the text of what has columns. UsageError where there is nothing of that name, or a file of
    a kind that is not read; WorkError where a named corpus could not be downloaded.
    """
    if source in CORPORA:
        corpus = CORPORA[source]
        return _files(source, corpus.folder(), column, corpus.hold_out)
    path = Path(source).expanduser()
    if path.is_dir():
        return _files(source, path, column)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{source}: files of kind {path.suffix!r} are not read; there are {', '.join(SUFFIXES)}.")
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
        documents=lambda: (document for title, path in files.items() for document in read_file(path, title, column)),
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
