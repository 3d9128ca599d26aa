"""memlm adapt BASE --data DATA --out RUN: a copy head beside a language model of others, whose weights stay."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.train.config import Adapting


@dataclass(frozen=True, kw_only=True)
class Call(Adapting):
    """Train what finds and copies from remembered text beside a frozen language model, in minutes.

    The model runs once over some text, its hidden states are kept in DATA/states. With --lora RANK it also gets an
    adapter that works only where passages are opened before a text. RUN is a model that generates and reads banks of
    any encoder.
    """

    base: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")
    ]  # smollm2, a folder, GGUF file, hub name; or a run of memlm adapt, for --lora
    out: Path  # the run's folder
    json: bool = False  # print the summary as one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm adapt")
    from memlm.train.adapt import adapt

    summary = adapt(call, call.out)
    if call.json:
        print(json.dumps({"run": str(call.out), **summary}))
        return
    for what, one in (("a copy head", summary), ("an adapter", summary.get("adapter", {}))):
        if "losses" in one:
            told = ", ".join(f"{name} {nats:.3f}" for name, nats in one["losses"].items() if nats is not None)
            lesson = " with the lesson of keys" if one is summary else ""
            print(
                f"{call.out}: {what} of {one['parameters']:,} parameters for {call.base}, {one['steps']} steps, "
                f"{one['train_seconds']:.0f} s; nats{lesson} at the end: {told}"
            )
