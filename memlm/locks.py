"""One writer a folder at a time: a lock that the system gives up when its process ends, however it ends.

Of a folder NAME it is the file .NAME.lock beside it, since NAME itself may be exchanged for another folder; of a mount
point, or where the parent cannot be written, NAME/.lock. Whoever takes it puts right what killed writers left.
"""

import atexit
import errno
import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from memlm.errors import MemlmError, UsageError
from memlm.files import followed, is_fixed, told
from memlm.leftovers import is_decided, leftovers, short, tidy
from memlm.owners import me, owner_in

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a folder, or of a file, that shall be written.

    Raises:
        UsageError: another process holds it, or `path` is a link to nothing.
        WorkError: the place cannot be written.
    """
    path = followed(path)
    lock = lock_of(path)
    made, files = [folder for folder in lock.parents if not folder.exists()], list[int]()

    def give_up() -> None:
        _give_up(lock, files)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()  # if nothing was written there

    atexit.register(give_up)  # if a signal meets the end of this block
    try:
        with told(path, every=True):
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                _take(lock, path, files)
                tidy(path)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EROFS) or lock.exists() or not path.exists():
                    raise  # else what is there can be read and not written: whoever tries that is told
        yield
    finally:
        give_up()
        atexit.unregister(give_up)


def one_writer(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function hold the lock of its argument `out`, unless that is None."""
    signature = inspect.signature(function)

    @wraps(function)
    def alone(*args: P.args, **named: P.kwargs) -> R:
        out = signature.bind(*args, **named).arguments.get("out")
        with nullcontext() if out is None else held(Path(out)):
            return function(*args, **named)

    return alone


def mend(path: Path) -> None:
    """Before a folder is read: finish what a killed writer had decided, or take it back, if nobody writes there now."""
    path = Path(path)
    if is_decided(path) or (not path.exists() and leftovers(path)):
        with suppress(MemlmError), held(path):
            pass


def lock_of(path: Path) -> Path:
    """The file of a lock, of a path with all links followed."""
    return path / ".lock" if is_fixed(path) else path.parent / f".{short(path.name)}.lock"


def holder(path: Path) -> str | None:
    """Who holds the lock of a path, in words; None if nobody does."""
    with suppress(OSError):
        file = os.open(lock_of(path), os.O_RDONLY)
        try:
            owner = owner_in(_text(file))  # asked first: to try the lock of a living writer is to hold it for a moment
            return _words(file) if owner and owner.alive and not _lock(file) else None
        finally:
            os.close(file)
    return None


def _take(lock: Path, path: Path, files: list[int]) -> None:
    """Hold a lock by an open file, which is put into `files`."""
    while True:
        files.append(os.open(lock, os.O_RDWR | os.O_CREAT, 0o666))
        if not _lock(files[0]):
            by = _words(files[0])
            os.close(files.pop())
            raise UsageError(f"{path} is being written by {by}: wait until it has ended, or name another place.")
        if _is_at(files[0], lock):
            break
        os.close(files.pop())  # it was given up, and its name with it, between the two steps
    os.ftruncate(files[0], 0)
    os.lseek(files[0], 0, os.SEEK_SET)
    os.write(files[0], f"{me()} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())


def _give_up(lock: Path, files: list[int]) -> None:
    """Take a lock's file away that we hold, or, where a signal met the taking, nobody; begun anew it goes on."""
    with suppress(OSError):
        file = files[0] if files else os.open(lock, os.O_RDWR)
        if _is_at(file, lock) and (files or _lock(file)):
            with suppress(OSError):
                os.ftruncate(file, 0)  # where an open file keeps its name, it says of nobody that he holds it
            lock.unlink()  # while it is held: whoever waits for this file sees that it has no name any more
        os.close(file)
    files.clear()


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int) -> bool:
    """Lock an open file; False if another process has."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: the owner's word decides
            pass
        else:
            return True
    owner = owner_in(_text(file))
    return owner is None or not owner.alive


def _words(file: int) -> str:
    owner, _, since = _text(file).partition(" ")
    found = owner_in(owner)
    return f"process {found.pid} on {found.host} since {since.strip()}" if found else "another process"


def _text(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, 1000).decode(errors="replace")
