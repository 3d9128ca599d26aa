"""memlm eval MODEL... --tasks NAME_OR_FILE,... --out RUN: lm-eval's tasks, and how many memories each example used."""

import json
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.errors import UsageError
from memlm.evaluate.config import EvalConfig
from memlm.ranges import Checked, Count, Pair


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Evaluate models on tasks of lm-eval (pip install 'memlm[eval]'): by name, or task files without a network.

    The full chunks of a text become memories. Beside a model's own memories it is asked without any, and with random
    vectors in their place; of a model over a language model of others, that one, reading all tokens, stands beside
    it. Several models stand in one table, the first one as what the others are held against.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # runs or saved folders
    tasks: str = ""  # names of lm-eval, task files (.yaml) or folders of them, with commas between
    make_tasks: Path | None = None  # a folder made by memlm prepare: write local tasks of its held-out text to --out
    tokens: Count = 64  # of --make-tasks: of a passage, in tokens of the prepared data
    examples: Pair = 500  # of --make-tasks: of every task, at most
    out: Path  # the evaluation's folder: eval.json; with --make-tasks that of the tasks
    json: bool = False  # print one JSON object with a list `results`
    config: Annotated[EvalConfig, tyro.conf.arg(name="")] = field(default_factory=EvalConfig)


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm eval")
    if call.make_tasks is not None:
        _make(call, call.make_tasks)
        return
    if find_spec("lm_eval") is None:
        raise UsageError("memlm eval needs lm-eval, which is not installed: pip install 'memlm[eval]'.")
    os.environ.setdefault("TQDM_DISABLE", "1")  # lm-eval's bars; read when tqdm is first imported
    from memlm.evaluate.run import evaluate
    from memlm.evaluate.table import eval_table

    tasks = [name.strip() for name in call.tasks.split(",") if name.strip()]
    report = evaluate(list(call.models), tasks, call.out, call.config)
    print(json.dumps(report) if call.json else eval_table(report["results"]))


def _make(call: Call, data: Path) -> None:
    if call.models or call.tasks:
        raise UsageError("--make-tasks only writes tasks: name models and --tasks in a second call.")
    from memlm.evaluate.local import make_tasks

    made = make_tasks(data, call.out, tokens=call.tokens, examples=call.examples, seed=call.config.seed)
    print(json.dumps(made) if call.json else "\n".join(f"{name}  {n} examples" for name, n in made["tasks"].items()))
