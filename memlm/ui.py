"""What people see: one console and one progress bar, both on stderr, so that stdout belongs to results; tables."""

import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@cache
def console() -> "Console":
    """The console for logs (stderr)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def progress(*, unit: str = "", total_known: bool = True) -> "Progress":
    """A progress bar with speed and time left; silent when stderr is no terminal.

    Args:
        unit: what one unit of progress is called, e.g. "tokens".
        total_known: whether an ETA can be shown.
    """
    from rich import progress as bars

    columns = [bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TaskProgressColumn()]
    columns.append(bars.TextColumn(f"{{task.completed:,.0f}} {unit}"))
    columns += [bars.TimeElapsedColumn()] + ([bars.TimeRemainingColumn()] if total_known else [])
    return bars.Progress(*columns, console=console(), disable=not sys.stderr.isatty(), transient=True)


def say(text: str) -> None:
    """Log one line for a person (stderr); brackets in it are text, and a file gets it unwrapped."""
    console().print(text, markup=False, soft_wrap=True)


def aligned(rows: Sequence[Sequence[str]], words: int) -> str:
    """A head and rows as lines: so many columns of words to the left, numbers after them to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < words else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [rows[0], ["-" * w for w in widths], *rows[1:]]
    ]
    return "\n".join(line.rstrip() for line in lines)
