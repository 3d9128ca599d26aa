"""memlm tasks DATA --out TASKS: tasks for memlm eval from held-out text, without a network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.ranges import Checked, Count, Natural, Pair


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Make tasks of a corpus's held-out text: last words, needles, endings and plain text, for `memlm eval --tasks`.

    Each is a task file of lm-eval with its examples beside it; the same data, sizes and seed give the same files.
    """

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]  # a folder made by memlm prepare
    out: Path  # the folder of the tasks
    tokens: Count = 64  # of an example, answer included, in tokens of the prepared data
    examples: Pair = 500  # of every task, at most
    seed: Natural = 0  # of what is drawn
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm tasks")
    from memlm.evaluate.local import make_tasks

    made = make_tasks(call.data, call.out, tokens=call.tokens, examples=call.examples, seed=call.seed)
    print(json.dumps(made) if call.json else "\n".join(f"{name}  {n} examples" for name, n in made["tasks"].items()))
