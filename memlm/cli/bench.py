"""memlm bench NAME: our code side by side with a peer; prints the report and writes it into a folder."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from memlm.bench import BENCHMARKS
from memlm.cli.parsing import parse
from memlm.errors import UsageError
from memlm.ranges import Checked, Positive


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Run a benchmark: both sides in one run, as a ratio."""

    name: Annotated[str, tyro.conf.Positional]  # memlm bench alone lists them
    out: Path = Path("benchmarks")  # NAME.md, NAME.json and figures go here
    data: Path = Path("data/gutenberg")  # a folder made by memlm prepare; made of the gutenberg corpus if absent
    seconds: Positive | None = None  # about how long each side is given (frontier: all runs); each knows its own
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    if argv in ([], ["-h"], ["--help"]):
        wide = max(map(len, BENCHMARKS)) + 2
        rows = "\n".join(f"  {name:<{wide}}{what}" for name, what in BENCHMARKS.items())
        print(f"usage: memlm bench NAME [OPTIONS]\n\n{rows}\n\nmemlm bench NAME --help tells the options.")
        return
    call = parse(Call, argv, "memlm bench")
    if call.name not in BENCHMARKS:
        raise UsageError(f"there is no benchmark {call.name!r}; there are {', '.join(BENCHMARKS)}.")
    from memlm.bench.form import Options
    from memlm.locks import held

    run = import_module(f"memlm.bench.{call.name}").run
    with held(call.out / call.name):
        report = run(Options(data=call.data, out=call.out, seconds=call.seconds))
        path = report.save(call.out)
    print(json.dumps(report.as_json()) if call.json else f"{report.markdown()}\nwritten to {path}")
