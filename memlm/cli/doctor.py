"""memlm doctor PATH: what a folder is, whether it is whole, what goes on, and what killed runs left.

Without a path: what memlm finds on this machine.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.errors import UsageError, WorkError

if TYPE_CHECKING:
    from memlm.doctor import Finding


@dataclass(frozen=True, kw_only=True)
class Call:
    """Tell what memlm wrote at a path: its kind, whether every file is as it was written, what can be gone on with.

    Files are compared with the SHA-256 that was written beside them. What a killed run left half-written is listed, and
    removed with --clean if its process has ended (of another machine's or an earlier memlm's: after a day). Without a
    path: versions, devices, threads, caches with their sizes, and which extras are installed.
    """

    # A folder, or the page of a report.
    path: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[PATH]")] = None
    clean: bool = False  # remove what killed runs left
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm doctor", config=(tyro.conf.FlagCreatePairsOff,))
    if call.path is None:
        if call.clean:
            raise UsageError("--clean needs a path after memlm doctor: what shall be cleaned?")
        from memlm.installed import installed, lines

        told = installed()
        print(json.dumps(told) if call.json else "\n".join(lines(told)))
        return
    from memlm.doctor import Finding, clean, examine

    found = examine(call.path)
    gone = clean(call.path) if call.clean and found.leftovers else []
    if gone:
        found = examine(call.path) if call.path.exists() else Finding(path=found.path)
    if call.json:
        print(json.dumps(asdict(found) | {"whole": found.whole, "removed": gone}, ensure_ascii=False))
    else:
        print("\n".join([*_lines(found), *(f"  removed: {path}" for path in gone)]))
    if not found.whole:
        raise WorkError(f"{call.path} is not whole: what is damaged is told above, with what to do.")


def _lines(found: "Finding", depth: int = 0) -> Iterator[str]:
    """A finding for people."""
    pad = "  " * depth
    by = f", written by memlm {found.memlm}" if found.memlm else ""
    kind = {"nothing": "nothing of memlm's", "folder": "a folder of these"}.get(found.kind, found.kind)
    yield f"{pad}{found.path}: {kind}{by}" + (f"; {found.next}" if found.next else "")
    if found.checked and not found.problems:
        sources = sorted({by for by in found.checked.values() if by})
        parsed = sum(by is None for by in found.checked.values())
        told = [f"{len(found.checked) - parsed} files by SHA-256 ({', '.join(sources)})"] if sources else []
        yield f"{pad}  whole: " + ", ".join([*told, *([f"{parsed} parsed only"] if parsed else [])])
    yield from (f"{pad}  {problem}" for problem in found.problems)
    for part in found.parts:
        yield from _lines(part, depth + 1)
    if found.held_by:
        yield f"{pad}  is being written by {found.held_by}"
    for left in found.leftovers:
        state = {None: "", True: ", which has ended", False: ", which is running"}[left["ended"]]
        what = "--clean removes it" if left["removable"] else "it stays"
        yield f"{pad}  left: {left['path']} ({left['bytes']:,} bytes) of {left['owner']}{state}: {what}"
