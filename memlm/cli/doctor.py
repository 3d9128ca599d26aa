"""memlm doctor PATH: what a folder is, whether it is whole, what goes on, and what killed runs left."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.errors import WorkError


@dataclass(frozen=True, kw_only=True)
class Call:
    """Tell what memlm wrote at a path: its kind, whether every file is as it was written, what can be gone on with.

    Files are compared with the SHA-256 that was written beside them. What a killed run left half-written is listed, and
    removed with --clean if its process has ended (of another machine's or an earlier memlm's: after a day).
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]  # a folder, or the page of a report
    clean: bool = False  # remove what killed runs left
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm doctor", config=(tyro.conf.FlagCreatePairsOff,))
    from memlm.doctor import Finding, clean, examine, lines

    found = examine(call.path)
    gone = clean(call.path) if call.clean and found.leftovers else []
    if gone:
        found = examine(call.path) if call.path.exists() else Finding(path=found.path)
    if call.json:
        print(json.dumps(asdict(found) | {"whole": found.whole, "removed": gone}, ensure_ascii=False))
    else:
        print("\n".join([*lines(found), *(f"  removed: {path}" for path in gone)]))
    if not found.whole:
        raise WorkError(f"{call.path} is not whole: what is damaged is told above, with what to do.")
