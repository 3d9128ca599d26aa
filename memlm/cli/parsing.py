"""Arguments -> a frozen dataclass; whatever the parser refuses is one sentence, as all else that memlm refuses."""

import re
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, TypeVar

import tyro

from memlm.errors import UsageError

T = TypeVar("T")


def parse(kind: type[T], argv: list[str], prog: str, **options: Any) -> T:
    """As `tyro.cli`; UsageError where the arguments are no call of `kind`."""
    told = StringIO()
    try:
        with redirect_stderr(told):
            return tyro.cli(kind, args=argv, prog=prog, **options)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise UsageError(f"{_sentence(told.getvalue())}; {prog} --help tells the options.") from None


def _sentence(box: str) -> str:
    """What a box of tyro's says, part by part, without the help texts that it repeats."""
    rows = [line.strip("│").rstrip() for line in box.splitlines() if line[:1] not in "╭╰"]
    rows = [row for row in rows if not row.startswith(" " * 9)]  # below the options that it names
    parts = [re.sub(r"\s+", " ", part).strip(" .") for part in re.split("─+", "\n".join(rows))]
    said = [part for part in parts if part and not part.startswith(("For full", "Argument helptext", "Perhaps"))]
    return "; ".join(said) or "this is no call of it"
