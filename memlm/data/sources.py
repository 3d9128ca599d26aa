"""Whatever can be read: a file, a folder, a named corpus or a Hugging Face data set, behind one face."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from memlm.data.corpora import CORPORA
from memlm.data.hub import HubDataset
from memlm.data.readers import COMPRESSED, SUFFIXES, kind_of, read_file, title_of
from memlm.data.split import Part
from memlm.errors import UsageError
from memlm.files import sha256_file, sha256_json
from memlm.tokens.pieces import Document
from memlm.ui import say


@dataclass(frozen=True, kw_only=True)
class Source:
    """Documents that can be read as often as needed, always the same and in the same order."""

    name: str  # as the user named it
    files: tuple[tuple[str, Path], ...] = ()  # the title and the place of each, where it is of files
    documents: Callable[[], Iterator[Document]]  # begins a new pass over the documents
    identity: Callable[[], object]  # a JSON value that changes if the documents do: content hashes, no times, no places
    held: dict[Part, tuple[str, ...]] = field(default_factory=dict)  # the documents that tune and test by default

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
    """Open a file or folder of text, Markdown, JSONL, CSV or Parquet, a named corpus, or a Hugging Face data set.

    `CORPUS:DOCUMENT` is one document of a named corpus. Write `./NAME` for a folder that is called as a corpus; a data
    set is `owner/name`, of which `split` and `subset` are read. `column` holds the text of what has columns. UsageError
    where there is nothing of that name, or a file of a kind that is not read; WorkError where a named corpus could not
    be downloaded.
    """
    if source in CORPORA:
        corpus = CORPORA[source]
        return _files(source, corpus.folder(), column, corpus.held)
    named, _, title = source.partition(":")
    if named in CORPORA:
        books, _ = _walk(CORPORA[named].folder())
        if title not in books:
            raise UsageError(f"{named} has no document {title!r}; there are {', '.join(books)}.")
        return _files(source, books[title], column)
    path = Path(source)
    if source.startswith("~"):
        with suppress(RuntimeError):  # there is no such user, or the user has no home
            path = path.expanduser()
    if path.is_dir():
        return _files(source, path, column)
    if path.is_file():
        if kind_of(path) not in SUFFIXES:
            raise UsageError(f"{source}: files of kind {path.suffix!r} are not read; there are {_KINDS}.")
        return _files(source, path, column)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) and kind_of(path) not in SUFFIXES:
        hub = HubDataset(source, column, split, subset)
        return Source(name=source, documents=hub.documents, identity=hub.identity)
    raise UsageError(
        f"{source} is not there: name a file, a folder, a Hugging Face data set (owner/name) or one of the corpora "
        f"known by name ({', '.join(CORPORA)})."
    )


_KINDS = f"{', '.join(SUFFIXES)}, also {', '.join(COMPRESSED)} of them"


def _files(name: str, root: Path, column: str, held: dict[Part, tuple[str, ...]] | None = None) -> Source:
    """A file, or every readable file of a folder in the order of their names; what is left out of it is named."""
    files, left_out = ({title_of(Path(root.name)): root}, []) if root.is_file() else _walk(root)
    if not files:
        raise UsageError(f"{name} holds no file that is read; there are {_KINDS}.")
    if left_out:
        some = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        say(f"{name}: not read: {some}")
    return Source(
        name=name,
        files=tuple(files.items()),
        documents=lambda: (document for title, path in files.items() for document in read_file(path, title, column)),
        identity=lambda: [column, *([title, kind_of(path), sha256_file(path)] for title, path in files.items())],
        held=held or {},
    )


def _walk(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Files that are read, by their titles, and the names of all else; links to folders are followed, each once."""
    found, left_out, seen = [], [], set[str]()
    for place, folders, names in os.walk(root, followlinks=True):
        folder = Path(place).relative_to(root)
        seen.add(os.path.realpath(place))
        inner = [one for one in folders if one[0] != "." and os.path.realpath(Path(place, one)) not in seen]
        left_out += [f"{title_of(folder / one)}/" for one in folders if one not in inner]
        seen.update(os.path.realpath(Path(place, one)) for one in inner)
        folders[:] = inner
        for one in names:
            path = Path(place, one)
            if one[0] != "." and kind_of(path) in SUFFIXES and path.is_file():
                found.append((folder / one, path))
            else:
                left_out.append(os.fsencode(folder / one).decode("utf-8", "backslashreplace"))
    found.sort()
    plain = [title_of(relative) for relative, _ in found]
    unique = len(set(plain)) == len(plain)
    whole = (os.fsencode(relative.as_posix()).decode("utf-8", "backslashreplace") for relative, _ in found)
    titles = plain if unique else whole
    return {title: path for title, (_, path) in zip(titles, found, strict=True)}, sorted(left_out)
