"""Arguments -> a frozen dataclass; whatever the parser refuses is one sentence, as all else that memlm refuses."""

import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import tyro

from memlm.errors import UsageError

T = TypeVar("T")
_MAY_BE_EMPTY = ("--prompt",)
_FOLDERS = ("out", "cache", "figures")  # that are written, or files of these suffixes


def parse(kind: type[T], argv: list[str], prog: str, **options: Any) -> T:
    """As `tyro.cli`; UsageError where the arguments are no call of `kind`."""
    told = StringIO()
    for option, value in zip(["", *argv], argv, strict=False):
        if not value and option not in _MAY_BE_EMPTY:  # an empty path would be the working folder
            raise UsageError(f"{option if option[:2] == '--' else 'an argument'} is empty: give it a value.")
    try:
        with redirect_stderr(told):
            call = tyro.cli(kind, args=argv, prog=prog, **options)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise UsageError(f"{_sentence(told.getvalue())}; {prog} --help tells the options.") from None
    for name, path in _paths(call, ""):
        _check(name, path)
    return call


def _check(name: str, path: Path) -> None:
    """Refuse what can be neither read nor written: told before the work, and not by whatever comes upon it."""
    if str(path) != str(path).encode("utf-8", "replace").decode():
        raise UsageError(f"{str(path)!a} is no UTF-8, which libraries that write there cannot take: rename it.")
    if path.is_symlink() and not os.path.exists(path):
        raise UsageError(f"{path} is a link to {path.readlink()}, which is not there: make that, or remove the link.")
    above = next((one for one in path.parents if os.path.lexists(one)), path)
    if above != path and not above.is_dir():
        raise UsageError(f"{path} cannot be: {above} is no folder.")
    if name in _FOLDERS and path.suffix not in (".html", ".md") and path.is_file():
        raise UsageError(f"{path} is a file: --{name} names a folder.")


def _paths(value: Any, name: str) -> Iterator[tuple[str, Path]]:
    """All paths in a call, with the fields that they are of; what is text may be called as it likes."""
    if isinstance(value, Path):
        yield name, value
    elif is_dataclass(value):
        yield from chain.from_iterable(_paths(getattr(value, field.name), field.name) for field in fields(value))
    elif isinstance(value, tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        yield from chain.from_iterable(_paths(item, name) for item in items)


def _sentence(box: str) -> str:
    """What a box of tyro's says, part by part, without the help texts that it repeats."""
    rows = [line.strip("│").rstrip() for line in box.splitlines() if line[:1] not in "╭╰"]
    rows = [row for row in rows if not row.startswith(" " * 9)]  # below the options that it names
    parts = [re.sub(r"\s+", " ", part).strip(" .") for part in re.split("─+", "\n".join(rows))]
    said = [part for part in parts if part and not part.startswith(("For full", "Argument helptext", "Perhaps"))]
    return "; ".join(said) or "this is no call of it"
