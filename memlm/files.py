"""Files that are whole or not there, after a kill and a power cut too: atomic writes, hashes, refusals."""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memlm import __version__
from memlm.errors import MemlmError, UsageError, WorkError
from memlm.leftovers import decide, entries, scratch, sync, sync_all, tidy

SUMS = "sha256.json"  # SHA-256 of what was written beside it, where no file of the format tells them


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` if the block succeeds and vanishes if it does not.

    It stands beside `path` and is exchanged with it in one step where the system can (Linux: renameat2). What nothing
    can be renamed over (a mount point, the working folder, one whose parent cannot be written) is filled in place: the
    temporary folder stands in it, is declared whole by one rename, and then its files are moved out; if this process
    is killed on the way, the folder's next writer finishes that (`leftovers.tidy`).

    Args:
        path: where the folder shall stand; a link is followed.
        replace: whether an existing `path` is exchanged for the new folder, after everything is written. An empty
            folder always is.

    Raises:
        UsageError: `path` exists and `replace` is false, or is a link to nothing.
        WorkError: the disk is full or the place cannot be written; what was there is there.
    """
    path = followed(path)
    taken = UsageError(f"{path} exists already: name another place or remove it first.")
    if not replace and (path.is_file() or entries(path)):
        raise taken
    inside = path.is_dir() and (is_fixed(path) or path.samefile("."))
    with told(path, every=True):  # of a parent that cannot be made
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path)
        new = scratch(path / path.name if inside else path)
    try:
        with told(path):
            yield new
        with told(path, every=True):
            new.chmod(0o755)
            sync_all(new)
            if inside:
                decide(new, path)
            elif not _rename(new, path):
                if not replace:  # made by another process meanwhile
                    raise taken
                if not _exchange(new, path):  # after which `new` is what was there
                    _swap(new, path)
            sync(path.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def followed(path: Path) -> Path:
    """Where a path leads, through links.

    Raises:
        UsageError: it is a link to nothing.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path} is a link to {path.readlink()}, which is not there: make that, or remove the link.")
    return path.resolve()


def is_fixed(folder: Path) -> bool:
    """Whether nothing can be renamed over a folder: it is a mount point, or its parent cannot be written."""
    table = Path("/proc/self/mountinfo")  # which knows of folders mounted onto folders of the same disk too
    lines = table.read_text(errors="replace").splitlines() if table.exists() else []
    mounted = str(folder).replace(" ", "\\040") in {line.split()[4] for line in lines}
    return folder.is_dir() and (mounted or os.path.ismount(folder) or not os.access(folder.parent, os.W_OK))


def _rename(new: Path, path: Path) -> bool:
    """Put a folder where nothing, or an empty folder, is; False where something is."""
    try:
        new.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system can (Linux: renameat2)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    return call is not None and not call(-100, os.fsencode(one), -100, os.fsencode(other), 2)  # AT_FDCWD, EXCHANGE


def _swap(new: Path, path: Path) -> None:
    """The same in two steps. If the second fails the first is taken back; if this process ends there, by `tidy`."""
    old = scratch(path, "old")
    path.rename(old / "old")
    try:
        new.rename(path)
    except OSError:
        (old / "old").rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def holds_files(folder: Path) -> bool:
    """Whether anything but hidden files is in a folder."""
    return any(not name.startswith(".") for name in entries(folder))


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically (a temporary sibling, flushed, then renamed)."""
    # A name that is no UTF-8 holds lone surrogates: written out as \\udce9, which JSON reads back.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically (a temporary sibling, flushed, then renamed); a link is followed."""
    path = followed(path)
    with told(path, every=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path)
        folder = scratch(path)
        try:
            with open(folder / path.name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            (folder / path.name).replace(path)
            sync(path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: no reader agrees on it."""
    write_bytes(path, _json(value))


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


def write_sums(folder: Path) -> None:
    """Write SUMS: the SHA-256 of all files of a folder."""
    names = sorted(one.name for one in folder.iterdir() if one.is_file())
    _write_sums(folder, {name: sha256_file(folder / name) for name in names})


def write_last(path: Path, value: Any, names: Iterable[str] = ()) -> None:
    """Write the JSON file whose presence says that a folder is whole, after the SHA-256 of it and of these files."""
    content = _json(value)
    beside = {name: sha256_file(path.parent / name) for name in names}
    _write_sums(path.parent, beside | {path.name: hashlib.sha256(content).hexdigest()})
    write_bytes(path, content)


def _write_sums(folder: Path, sums: dict[str, str]) -> None:
    files = {name: {"sha256": digest} for name, digest in sums.items()}
    write_json(folder / SUMS, {"format": 1, "memlm": __version__, "files": files})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")


def check_format(told: Any, known: int, what: str) -> None:
    """Refuse a format that this version does not know; what tells none is of the first one.

    Raises:
        UsageError: with the version that wrote it.
    """
    if isinstance(told, dict) and (number := told.get("format", 1)) != known:
        by = told.get("memlm", "of a version that it does not tell")
        # A version under way may have written both: naming it would send the user to where they are.
        way = "make it anew" if by == __version__ else "use that version, or make it anew"
        raise UsageError(
            f"{what} is of format {number}, written by memlm {by}; memlm {__version__} reads format {known}: {way}."
        )


@contextmanager
def telling_version(folder: Path) -> Iterator[None]:
    """Add to a refusal which version wrote a folder, where its sha256.json or environment.json tells another one."""
    try:
        yield
    except UsageError as error:
        found = [read_json(folder / name) for name in (SUMS, "environment.json") if (folder / name).is_file()]
        versions = {one.get("memlm") for one in found if isinstance(one, dict)} - {None, __version__}
        by = "".join(f" ({folder} was written by memlm {version}; this is {__version__})" for version in versions)
        raise UsageError(f"{str(error).rstrip('.')}{by}.") from None


@contextmanager
def told(path: Path, *, every: bool = False) -> Iterator[None]:
    """Turn refusals of the operating system into sentences: those of writing, or with `every` all there are.

    Libraries that are not written in Python raise errors of their own, which only their words tell apart.
    """
    try:
        yield
    except (MemlmError, KeyboardInterrupt):
        raise
    except Exception as error:
        number = getattr(error, "errno", None) or _errno_in(str(error))
        if number in _FULL:
            raise WorkError(f"the disk is full while writing {path}: free some room and try again.") from error
        if number in _REFUSED or (every and isinstance(error, OSError)):
            why = getattr(error, "strerror", None) or os.strerror(number or 0)
            raise WorkError(f"{path} cannot be written ({why}): choose another place.") from error
        raise


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


def _errno_in(words: str) -> int | None:
    """What Rust's libraries say of an error of the system: `I/O error: No space left on device (os error 28)`."""
    found = re.search(r"os error (\d+)", words)
    return int(found[1]) if found else None
