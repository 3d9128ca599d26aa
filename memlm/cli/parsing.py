"""Arguments -> a frozen dataclass; whatever the parser refuses is one sentence, as all else that memlm refuses."""

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


def parse(kind: type[T], argv: list[str], prog: str, **options: Any) -> T:
    """As `tyro.cli`; UsageError where the arguments are no call of `kind`."""
    told = StringIO()
    try:
        with redirect_stderr(told):
            call = tyro.cli(kind, args=argv, prog=prog, **options)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise UsageError(f"{_sentence(told.getvalue())}; {prog} --help tells the options.") from None
    for path in _paths(call):
        if not path.isprintable() and path != path.encode("utf-8", "replace").decode():
            raise UsageError(f"{path!a} is no UTF-8, which libraries that write there cannot take: rename it.")
    return call


def _paths(value: Any) -> Iterator[str]:
    """All paths in a call: what is only read is text, and may be called as it likes."""
    if isinstance(value, Path):
        yield str(value)
    elif is_dataclass(value):
        yield from chain.from_iterable(_paths(getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, tuple | dict):
        yield from chain.from_iterable(map(_paths, value.values() if isinstance(value, dict) else value))


def _sentence(box: str) -> str:
    """What a box of tyro's says, part by part, without the help texts that it repeats."""
    rows = [line.strip("│").rstrip() for line in box.splitlines() if line[:1] not in "╭╰"]
    rows = [row for row in rows if not row.startswith(" " * 9)]  # below the options that it names
    parts = [re.sub(r"\s+", " ", part).strip(" .") for part in re.split("─+", "\n".join(rows))]
    said = [part for part in parts if part and not part.startswith(("For full", "Argument helptext", "Perhaps"))]
    return "; ".join(said) or "this is no call of it"
