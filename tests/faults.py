"""A process whose n-th call of the system that changes a disk fails, or is its last one: a kill between any two."""

import builtins
import errno
import io
import os
import signal
import traceback
from collections.abc import Callable

CALLS = ["mkdir", "rename", "replace", "rmdir", "unlink", "fsync", "chmod", "ftruncate", "write"]
DONE, SENTENCE, TRACEBACK, IN_SPITE, KILLED = 0, 1, 3, 4, -signal.SIGKILL  # in spite of a fault; done: none was met


def faulty(work: Callable[[], object], n: int, how: str) -> int:
    """Run `work` in a process of its own, in which call n (from 0) goes wrong; how that ended, as one of the above.

    Args:
        how: `kill`: the process ends there; `once`: this call finds the disk full; `on`: so do all after it.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        code = _end_of(work, _break(n, how), n)
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
    return IN_SPITE if met() > n >= 0 else DONE


def _break(n: int, how: str) -> Callable[[], int]:
    """Have call n go wrong; returns a function that tells how many calls there were."""
    import memlm.files

    calls = 0

    def meet() -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        if how == "kill" and number == n:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == n or (how == "on" and number > n):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def met(call: Callable) -> Callable:
        def asked(*args, **named):
            meet()
            return call(*args, **named)

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
            return self._file.write(content[len(content) // 2 :])

    def opens(path, mode="r", *args, **named):
        if not set(mode) & set("wax+"):
            return plain(path, mode, *args, **named)
        meet()
        return Opened(plain(path, mode, *args, **named))

    def os_open(path, flags, *args, **named):
        if flags & os.O_CREAT:
            meet()
        return plain_os(path, flags, *args, **named)

    plain, plain_os, os.open = builtins.open, os.open, os_open
    for name in CALLS:
        setattr(os, name, met(getattr(os, name)))
    builtins.open = io.open = opens
    memlm.files._exchange = met(memlm.files._exchange)
    return lambda: calls
