"""What people see: one console and one progress bar, both on stderr, so that stdout belongs to results."""

import sys
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
