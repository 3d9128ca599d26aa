"""memlm report RUN... --out PAGE.html: one self-contained HTML page with tables and figures from runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Call:
    """Make one HTML page from training runs, curricula, measurements and the benchmark of memory models.

    It opens from a file and needs no network. Runs that differ in their seed alone are shown as one, with their range.
    """

    # Made by memlm train, measure or demo, or folders of them; the memory.json of memlm bench memory, or its folder.
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path  # the page, ending in .html
    figures: Path | None = None  # the folder for PNG files; PAGE-figures beside the page if not given
    json: bool = False  # print what was written as one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm report")
    from memlm.report.page import write_report

    done = write_report(list(call.runs), call.out, call.figures)
    if call.json:
        print(json.dumps(done, allow_nan=False))
        return
    measured = len({*done["measurements"], *done["access"]})
    counts = f"{measured} measurement(s), {len(done['training_runs'])} training run(s)"
    counts += f", {len(done['evaluations'])} evaluation(s)" if done["evaluations"] else ""
    counts += f", {len(done['benchmarks'])} benchmark(s)" if done["benchmarks"] else ""
    where = f"{len(done['figures'])} figures in {Path(done['figures'][0]).parent}" if done["figures"] else "no figures"
    print(f"{done['page']}: {counts}, {where}")
