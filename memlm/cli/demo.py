"""memlm demo: the whole story on a small real corpus, in minutes on two CPU cores."""

import json
import time
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.demo import Demo


@dataclass(frozen=True, kw_only=True)
class Call:
    """Prepare 18 public-domain books, train autoencoders, language models and memory models, measure their memories."""

    json: bool = False  # print one JSON object with the lists `results` and `access`
    config: Annotated[Demo, tyro.conf.arg(name="")] = field(default_factory=Demo)


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm demo")
    from memlm.demo import demo
    from memlm.locks import held
    from memlm.measure.access_table import access_table
    from memlm.measure.table import retention_table

    started = time.perf_counter()
    with held(call.config.out):
        report = demo(call.config)
    if call.json:
        print(json.dumps(report))
    else:
        minutes = (time.perf_counter() - started) / 60
        print(f"{retention_table(report['results'])}\n\n{access_table(report['access'])}")
        print(f"\nmodel to ship: {report['model']['out']}, SHA-256 {report['model']['sha256']}")
        print(f"report: {report['report']} ({minutes:.1f} minutes in all)")
