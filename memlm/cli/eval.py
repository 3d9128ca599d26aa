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
from memlm.ranges import Checked


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Evaluate models on tasks of lm-eval (pip install 'memlm[eval]'): by name, or task files without a network.

    The full chunks of a text become memories. Beside a model's own memories it is asked without any, and with random
    vectors in their place; of a model over a language model of others, that one, reading all tokens, stands beside
    it. Several models stand in one table, the first one as what the others are held against. Differences are paired,
    with 95 % intervals over examples. The same call again goes on with an evaluation that was interrupted.
    """

    models: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[MODEL...]", help="run folders or saved folders", help_behavior_hint=""),
    ] = ()
    tasks: str = ""  # names of lm-eval, task files (.yaml) or folders of them (memlm tasks), with commas between
    out: Path  # the evaluation's folder: eval.json, and samples.jsonl if asked for
    json: bool = False  # print one JSON object with a list `results`
    config: Annotated[EvalConfig, tyro.conf.arg(name="")] = field(default_factory=EvalConfig)


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm eval")
    if find_spec("lm_eval") is None:
        raise UsageError("memlm eval needs lm-eval, which is not installed: pip install 'memlm[eval]'.")
    os.environ.setdefault("TQDM_DISABLE", "1")  # lm-eval's bars; read when tqdm is first imported
    from memlm.evaluate.run import evaluate
    from memlm.evaluate.table import eval_table

    tasks = [name.strip() for name in call.tasks.split(",") if name.strip()]
    report = evaluate(list(call.models), tasks, call.out, call.config)
    print(json.dumps(report) if call.json else eval_table(report["results"]))
