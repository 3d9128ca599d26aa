"""A process whose n-th call of the system that changes a disk fails, or is its last one: a kill between any two."""

import atexit
import builtins
import errno
import io
import os
import signal
import traceback
from collections.abc import Callable

from memlm.leftovers import tidy_own

CALLS = ["mkdir", "rename", "replace", "rmdir", "unlink", "fsync", "chmod", "ftruncate", "write"]
FREEING = {"rmdir", "unlink", "chmod"}  # what a full disk allows
DONE, SENTENCE, TRACEBACK, IN_SPITE, STOPPED, KILLED = (
    0,
    1,
    3,
    4,
    5,
    -signal.SIGKILL,
)  # in spite of a fault; done: none was met


def faulty(work: Callable[[], object], n: int, how: str) -> int:
    """Run `work` in a process of its own, in which call n (from 0) goes wrong; how that ended, as one of the above.

    Args:
        how: `kill`: the process ends there; `signal`: after this call it gets a SIGINT, and goes on to its end; `once`:
            this call finds the disk full; `on`: so do all after it;
            `full`: the same, and what needs no room goes on.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored
        atexit._clear()  # of whoever called
        atexit.register(tidy_own)
        code = _end_of(work, broken(n, how), n)
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
        code = TRACEBACK
    os._exit(code)


def _end_of(work: Callable[[], object], met: Callable[[], int], n: int) -> int:
    from memlm.errors import MemlmError

    try:
        work()
    except MemlmError:
        return SENTENCE
    except KeyboardInterrupt:
        return STOPPED
    return IN_SPITE if met() > n >= 0 else DONE


def broken(n: int, how: str) -> Callable[[], int]:
    """Have call n go wrong; returns a function that tells how many calls there were."""
    import memlm.files

    calls = 0

    def meet() -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        if how == "kill" and number == n:
            os.kill(os.getpid(), signal.SIGKILL)
        if (number == n and how in ("once", "on", "full")) or (number > n and how in ("on", "full")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def after() -> None:
        if how == "signal" and calls == n + 1:
            os.kill(os.getpid(), signal.SIGINT)

    def met(call: Callable) -> Callable:
        def asked(*args, **named):
            meet()
            found = call(*args, **named)
            after()
            return found

        return asked

    class Opened:
        """A file half of whose every write reaches the disk before the fault."""

        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, content):
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            meet()
            written = self._file.write(content[len(content) // 2 :])
            after()
            return written

    def opens(path, mode="r", *args, **named):
        if not set(mode) & set("wax+"):
            return plain(path, mode, *args, **named)
        meet()
        file = Opened(plain(path, mode, *args, **named))
        after()
        return file

    def os_open(path, flags, *args, **named):
        if not flags & os.O_CREAT:
            return plain_os(path, flags, *args, **named)
        meet()
        file = plain_os(path, flags, *args, **named)
        after()
        return file

    plain, plain_os, os.open = builtins.open, os.open, os_open
    for name in CALLS if how != "full" else [name for name in CALLS if name not in FREEING]:
        setattr(os, name, met(getattr(os, name)))
    builtins.open = io.open = opens
    memlm.files._exchange = met(memlm.files._exchange)
    return lambda: calls
