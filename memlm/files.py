"""Files that are either whole or not there: atomic writes, hashes, and refusals in one sentence."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memlm.errors import UsageError, WorkError


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling folder that becomes `path` if the block succeeds and vanishes if it does not.

    Args:
        path: where the folder shall stand.
        replace: whether an existing `path` is exchanged for the new folder, after everything is written. A link stays
            a link: what it points to is replaced.

    Raises:
        UsageError: `path` exists and `replace` is false, or is a link to nothing.
        WorkError: the disk is full or the place cannot be written; what was there is there.
    """
    path = Path(path)
    taken = UsageError(f"{path} exists already: name another place or remove it first.")
    if path.is_symlink():
        if not path.exists():
            raise UsageError(
                f"{path} is a link to {path.readlink()}, which is not there: make that, or remove the link."
            )
        path = path.resolve()
    if path.exists() and not replace:
        raise taken
    with _told(path, errno.ENOENT):  # of a parent that cannot be made
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        with _told(path):
            yield scratch
            scratch.chmod(0o755)
            if not path.exists():
                scratch.rename(path)
            elif not replace:  # made by another process meanwhile
                raise taken
            elif not _exchange(scratch, path):  # after which `scratch` is what was there
                _swap(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system can (Linux: renameat2)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return call is not None and not call(-100, os.fsencode(one), -100, os.fsencode(other), 2)  # AT_FDCWD, EXCHANGE


def _swap(new: Path, path: Path) -> None:
    """The same in two steps; if the second fails the first is taken back."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    try:
        path.rename(old / "old")
        try:
            new.rename(path)
        except OSError:
            (old / "old").rename(path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def holds_files(folder: Path) -> bool:
    """Whether something whole is in a folder: what a kill leaves of a file half-written begins with a dot."""
    return folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically (a temporary sibling, flushed, then renamed)."""
    # A name that is no UTF-8 holds lone surrogates: written out as \\udce9, which JSON reads back.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically (a temporary sibling, flushed, then renamed)."""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(scratch, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: no reader agrees on it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: the file is not there, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:  # of numbers with thousands of digits, and lists in lists, too
        raise UsageError(f"{path} is not valid JSON ({error}): restore it or make it anew.") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; UsageError where it holds something else, too."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} must be a JSON object, not {type(value).__name__}: restore it or make it anew.")
    return value


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def _told(path: Path, *more: int) -> Iterator[None]:
    """Turn the operating system's refusals into sentences."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WorkError(f"the disk is full while writing {path}: free some room and try again.") from error
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EEXIST,
            errno.ENAMETOOLONG,
            *more,
        ):
            raise WorkError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
        raise
