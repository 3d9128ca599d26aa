"""memlm measure MODEL... --data DATA --out RUN: what an embedding holds, and what a model gets from it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from memlm.measure.config import MeasureConfig


@dataclass(frozen=True, kw_only=True)
class Call:
    """Freeze encoders, train a fresh decoder on each one's memories alone, and report what came back.

    Encoders are runs of ours, and any causal, masked, encoder or sentence-transformers model of others, at any layers,
    readouts and chunk lengths; --cram and --invert tell what a causal one of them could give without any probe.
    Held-out text, with controls (no memory, shuffled memories, untrained twin, uniform random tokens) and 95 %
    bootstrap intervals over chunks. Of a model that reads memories also what it gets from them: loss, copies, recall
    of key-value pairs and of needles, with its memories, without, and with another text's; and, token by token, what
    each prediction owes to them.
    """

    models: Annotated[
        tuple[str, ...], tyro.conf.Positional
    ]  # runs or saved folders, or models of others: a hub name, a folder, a GGUF file, smollm2, minilm
    data: Path = Path("data")  # a folder made by memlm prepare
    out: Path  # the measurement's folder: results.json, access.json, attribution.json
    cache: Path | None = None  # where embeddings are kept; OUT/embeddings if not given
    json: bool = False  # print one JSON object with a list `results`
    config: Annotated[MeasureConfig, tyro.conf.arg(name="")] = field(default_factory=MeasureConfig)


def main(argv: list[str]) -> None:
    """Run the command."""
    call = tyro.cli(Call, args=argv, prog="memlm measure")
    from memlm.measure.access_table import access_table
    from memlm.measure.run import measure
    from memlm.measure.table import ceilings_table, retention_table

    report = measure(list(call.models), call.data, call.out, call.config, cache=call.cache)
    if call.json:
        print(json.dumps(report))
        return
    tables = (retention_table, report["results"]), (access_table, report["access"])
    tables += ((ceilings_table, report.get("ceilings", [])),)
    print("\n\n".join(table(rows) for table, rows in tables if rows))
