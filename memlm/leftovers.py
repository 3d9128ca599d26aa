"""What a killed writer leaves beside a path or in it, found again by its name and put right by the next writer.

.NAME.HOST~PID~START~x.partial   half-written, or what was replaced and is being removed
.NAME.HOST~PID~START~x.old       holds `old`, what was at NAME, while something else is being put there in two steps
NAME/.commit                     whole; its files are being moved into NAME, which cannot be renamed over
"""

import atexit
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from memlm.owners import OWNER, Owner, me, owner_in

_LEFT = re.compile(rf"\.((?P<name>.*)\.)?({OWNER}~\w+|[a-z0-9_]{{8}}|\d+)\.(partial|old)")  # ... and as 0.2 named it
_DECIDED = ".commit"
_DAY = 24 * 3600.0
_LIST = ".names"  # in it: what the folder shall hold
_NOT_A_USERS = re.compile(rf"lost\+found|\.(.*\.)?lock|\{_DECIDED}|{_LEFT.pattern}")


class Leftover(NamedTuple):
    """A file or folder that a writer has not taken away, and the writer; None: an earlier memlm."""

    path: Path
    owner: Owner | None

    @property
    def removable(self) -> bool:
        """If its writer has ended; where that is not known, if nothing of it has changed for a day."""
        if self.owner is not None and self.owner.here:
            return not self.owner.alive
        return time.time() - max((stat.st_mtime for stat in self._stats()), default=0) > _DAY

    def told(self) -> dict[str, Any]:
        """What it is and whose, as JSON."""
        owner = self.owner
        return {
            "path": str(self.path),
            "bytes": sum(stat.st_size for stat in self._stats() if S_ISREG(stat.st_mode)),
            "owner": f"process {owner.pid} on {owner.host}" if owner else "an earlier memlm",
            "ended": not owner.alive if owner and owner.here else None,
            "removable": self.removable,
        }

    def _stats(self) -> Iterator[os.stat_result]:
        inside = (os.path.join(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        for one in (self.path, *inside):
            with suppress(FileNotFoundError):  # its writer lives
                yield os.lstat(one)


def scratch(path: Path, kind: str = "partial") -> Path:
    """A new folder beside `path` that tells whose it is; gone when this process ends, whatever a signal met."""
    _PLACES.add(path.parent)  # first: a signal may come between any two steps
    new = path.parent / f".{short(path.name)}.{me()}~{secrets.token_hex(4)}.{kind}"
    new.mkdir(0o700)
    return new


_PLACES: set[Path] = set()  # where this process has made such folders


@atexit.register
def tidy_own() -> None:
    """What this process has not removed, since a signal met the removal itself."""
    for place in _PLACES:
        for one in _listed(place):
            if (left := _LEFT.fullmatch(one.name)) and owner_in(one.name) == me():
                _take_back(one, place / left["name"])
                shutil.rmtree(one, ignore_errors=True)


def short(name: str) -> str:
    """A name that leaves room for what is put around it."""
    whole = os.fsencode(name)
    return name if len(whole) < 160 else hashlib.sha256(whole).hexdigest()[:20]


def entries(folder: Path) -> set[str]:
    """Names in a folder, without locks, what killed writers left, and what a file system keeps there for itself."""
    return {one.name for one in _listed(folder) if not _NOT_A_USERS.fullmatch(one.name)}


def leftovers(path: Path) -> list[Leftover]:
    """What writers of `path`, of what it holds and of what its folders hold have not taken away."""
    name = short(path.name)
    beside = [one for one in _listed(path.parent) if (left := _LEFT.fullmatch(one.name)) and left["name"] == name]
    inside = _listed(path)
    inside += [one for folder in inside if not _LEFT.fullmatch(folder.name) for one in _listed(folder)]
    return [Leftover(one, owner_in(one.name)) for one in (*beside, *filter(lambda o: _LEFT.fullmatch(o.name), inside))]


def tidy(path: Path) -> None:
    """Put right what killed writers of `path` left: finish or take back a replacement, remove what is half-written."""
    for left, owner in leftovers(path):
        if owner is None or (owner.alive and owner != me()):
            continue
        _take_back(left, path)
        if not owner.alive:
            remove(left)
    if is_decided(path):
        move_out(path)


def _take_back(left: Path, path: Path) -> None:
    """End a replacement in two steps that went no further than its first."""
    if left.suffix == ".old" and (left / "old").exists() and not path.exists():
        (left / "old").rename(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds: renamed first, so that no half of it ever has its name."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not _LEFT.fullmatch(path.name):
        with suppress(OSError):
            path = path.rename(scratch(path))  # over the empty folder of that name
    shutil.rmtree(path, ignore_errors=True)


def decide(whole: Path, path: Path) -> None:
    """Fill `path` from a folder in it: from the rename on, what `path` shall hold is what that one holds."""
    with open(whole / _LIST, "w", encoding="utf-8") as file:
        json.dump(sorted({one.name for one in whole.iterdir()} - {_LIST}), file)
        file.flush()
        os.fsync(file.fileno())
    whole.rename(path / _DECIDED)
    sync(path)
    move_out(path)


def is_decided(path: Path) -> bool:
    """Whether files are still to be moved into a folder."""
    return (path / _DECIDED / _LIST).is_file()


def move_out(path: Path) -> None:
    """Put what `decide` decided into its place; begun anew it goes on."""
    decided = path / _DECIDED
    names = json.loads((decided / _LIST).read_text(encoding="utf-8"))
    for old in sorted(entries(path) - set(names)):
        if not old.startswith("."):  # a user's
            remove(path / old)
    for name in names:
        if (decided / name).exists():
            if (path / name).is_dir():
                remove(path / name)
            (decided / name).replace(path / name)
    sync(path)
    remove(decided)


def sync(folder: Path) -> None:
    """Have the disk keep a folder's names, where the system does that and lets us."""
    if os.name != "posix" or not os.access(folder, os.R_OK):
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that syncs no folders
            raise
    finally:
        os.close(file)


def sync_all(folder: Path) -> None:
    """Have the disk keep all files of a folder, and their names."""
    for one in _listed(folder):
        if one.is_dir() and not one.is_symlink():
            sync_all(one)
        elif one.is_file():
            with open(one, "rb" if os.name == "posix" else "rb+") as file:
                os.fsync(file.fileno())
    sync(folder)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # not there, no folder, or not ours to read
        return []
