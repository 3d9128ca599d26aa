"""What a run says while it goes: metrics as JSON lines, continued without repeats by a resumed run; a display."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from memlm import ui
from memlm.errors import UsageError
from memlm.files import told, write_text


class Metrics:
    """`metrics.jsonl`: one object a line, each with its `step`; flushed at once, so that a killed run keeps them."""

    def __init__(self, path: Path, resume_step: int):
        """Keep the lines up to `resume_step`, which a checkpoint vouches for, and append after them."""
        self.path = path
        write_text(path, "".join(json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= resume_step))

    def write(self, row: dict[str, Any]) -> None:
        """Append one object."""
        with told(self.path, every=True), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())  # before the checkpoint that vouches for it


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics file, each with its step; a last line cut short by a kill is left out.

    UsageError where another one is no such object.
    """
    rows: list[dict[str, Any]] = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if type(row["step"]) is not int:
                raise TypeError
        except (ValueError, RecursionError, TypeError, KeyError):
            if number == len(lines):
                break
            raise UsageError(f"{path}:{number} is damaged: remove that line.") from None
        rows.append(row)
    return rows


class Display:
    """Live progress on a terminal (speed, time left, held-out accuracy), a line per evaluation elsewhere."""

    def __init__(self, name: str, steps: int, done: int):
        self.name, self.steps = name, steps
        self.bar = ui.progress(unit="steps")
        self.bar.start()
        self.task = self.bar.add_task(name, total=steps, completed=done)
        self.held_out = ""

    def step(self, step: int, loss: float, tokens_per_second: float) -> None:
        """Show the state after `step` steps."""
        text = f"{self.name}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s{self.held_out}"
        self.bar.update(self.task, completed=step, description=text)

    def evaluation(self, step: int, row: dict[str, Any]) -> None:
        """Show the held-out figures of a metrics row."""
        self.held_out = f"  held-out {row['token_accuracy']:.2%}"
        if not sys.stderr.isatty():
            ui.say(
                f"{self.name}: step {step}/{self.steps}, {row['train_seconds']:.0f} s, "
                f"{row['tokens_per_second']:,.0f} tokens/s, held-out {row['token_accuracy']:.2%} of tokens, "
                f"{row['exact_match']:.1%} of chunks"
            )

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
