"""Which process made a file: its machine, number and start, in the file's name; and whether it is still there."""

import os
import platform
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Owner(NamedTuple):
    """A process of some machine. Numbers are given again, so that its start, as the system counts it, is told too."""

    host: str
    pid: int
    start: str

    def __str__(self) -> str:
        """As it stands in names of files: no dot, and a mark that hosts do not have."""
        return f"{self.host}~{self.pid}~{self.start}"

    @property
    def here(self) -> bool:
        """Whether it ran, or runs, on this machine."""
        return self.host == _host()

    @property
    def alive(self) -> bool:
        """Whether it may still write; of another machine's that is not known."""
        return not self.here or _start(self.pid) == self.start


OWNER = r"(?P<host>[\w-]+)~(?P<pid>\d+)~(?P<start>\w+)"  # as `str(Owner)`


def owner_in(text: str) -> Owner | None:
    """The owner that a name or a text tells."""
    found = re.search(OWNER, text)
    return Owner(found["host"], int(found["pid"]), found["start"]) if found else None


def me() -> Owner:
    """This process."""
    return Owner(_host(), os.getpid(), _start(os.getpid()) or "0")


@cache
def _host() -> str:
    return re.sub(r"[^\w-]", "-", platform.node()) or "unknown"


def _start(pid: int) -> str | None:
    """When a process began, on Linux in ticks, which no clock moves; None if it has ended, a zombie too."""
    if Path("/proc/self/stat").exists():
        try:
            told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if told[0] in "ZX" else told[19]  # fields 3 and 22 of proc(5)
    import psutil

    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return None
