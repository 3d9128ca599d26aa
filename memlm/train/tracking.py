"""What a run says while it goes: metrics as JSON lines, continued without repeats when resumed; a display; trackers.

Trackers are accelerate's (trackio, tensorboard, wandb, ...), all told the same: the config field by field, loss and
rate at every log, held-out figures, figures of the system, and, if they keep artifacts, the config and the model.
"""

import json
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from memlm import ui
from memlm.errors import EXTRAS, UsageError, first_line, refusing
from memlm.files import told, write_text

if TYPE_CHECKING:
    from accelerate import Accelerator


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


class Trackers:
    """The trackers of a run, each started before its first step; without any, nothing is done."""

    def __init__(self, accelerator: "Accelerator", config: dict[str, Any], out: Path, *, resumed: bool):
        """Start a run named `FOLDER/RUN` in the project `memlm` of each.

        Args:
            accelerator: which was made with the names of the trackers (`log_with`).
            config: as JSON; its nested fields become `optim.lr` and the like.
            out: the run's folder; what tensorboard and wandb write on this disk goes there.
            resumed: trackio continues the run of that name.

        Raises:
            UsageError: one cannot be started; most often nobody has logged in to it.
        """
        self.accelerator, self.name, self.process = accelerator, "/".join(out.resolve().parts[-2:]), psutil.Process()
        self.process.cpu_percent()  # from here on
        fields = flattened(config)
        if not accelerator.log_with:
            return
        own = {
            "trackio": {"name": self.name, "config": fields, "resume": "allow" if resumed else "never"},
            "wandb": {"name": self.name, "dir": str(out)},
        }
        with redirect_stdout(sys.stderr), refusing("a tracker could not be started", ": set it up, or leave it out"):
            accelerator.init_trackers("memlm", config=fields, init_kwargs=own)

    def log(self, step: int, figures: dict[str, Any]) -> None:
        """Tell figures of a step, with those of the system: CPU (percent of one core), bytes in memory, on a GPU."""
        if not self.accelerator.trackers:
            return
        system = {"cpu_percent": self.process.cpu_percent(), "rss_bytes": self.process.memory_info().rss}
        if self.accelerator.device.type == "cuda":
            import torch

            system["gpu_bytes"] = torch.cuda.memory_allocated(self.accelerator.device)
        told = {**figures, **{f"system/{name}": number for name, number in system.items()}}
        self.accelerator.log(told, step=step)

    def finish(self, *artifacts: Path) -> None:
        """Keep files and folders of the run where a tracker can, and close all; a failure of theirs is only told."""
        for tracker in self.accelerator.trackers:
            try:
                with redirect_stdout(sys.stderr):
                    for path in artifacts if hasattr(tracker.tracker, "log_artifact") else ():
                        name = re.sub(r"[^\w.-]", "-", f"{self.name}-{path.stem}")
                        tracker.tracker.log_artifact(str(path), name=name, type=path.stem)
                    # trackio's own, since accelerate's leaves it to be finished once more when the process ends
                    (sys.modules["trackio"] if tracker.name == "trackio" else tracker).finish()
            except Exception as error:  # whatever a tracker raises
                ui.say(f"{tracker.name} was not told of all that the run made ({first_line(error)}).")


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """A JSON object's values by their dotted names; lists and null as text, which every tracker takes."""
    if isinstance(value, dict):
        rows = (flattened(one, f"{name}.{key}".lstrip(".")) for key, one in value.items())
        return {key: one for row in rows for key, one in row.items()}
    return {name: value if isinstance(value, bool | int | float | str) else json.dumps(value)}


def refuse_trackers(names: tuple[str, ...]) -> None:
    """UsageError where a tracker is not installed."""
    from accelerate.tracking import get_available_trackers

    installed = {str(name) for name in get_available_trackers()}
    if absent := [name for name in names if name not in installed]:
        how = "pip install 'memlm[trackers]'" if EXTRAS.get(absent[0]) == "trackers" else "install its package"
        raise UsageError(f"the tracker {absent[0]!r} is not installed: {how}, or leave --trackers out.")
