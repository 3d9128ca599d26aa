"""memlm train PRESET --data DATA --out RUN; --config FILE runs a saved config; --resume RUN goes on exactly."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memlm.errors import UsageError
from memlm.presets import PRESETS, preset
from memlm.train.config import TrainConfig

_USAGE = "memlm train PRESET --data DATA --out RUN, memlm train --config FILE --out RUN, or memlm train --resume RUN"


@dataclass(frozen=True, kw_only=True)
class Call:
    """Train a model from a preset; every field of the preset can be set."""

    out: Path  # the run's folder
    json: bool = False  # print the summary as one JSON object
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


def main(argv: list[str]) -> None:
    """Run the command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {_USAGE}\n\npresets:")
        for name, make in PRESETS.items():
            print(f"  {name:<20}{(make.__doc__ or '').splitlines()[0]}")
        print("\nmemlm train PRESET --help tells every field with the preset's value.")
        return
    resume = argv[0] == "--resume"
    if resume or argv[0] == "--config":
        if len(argv) < 2:
            raise UsageError(f"{argv[0]} needs a name after it: {_USAGE}.")
        config = _saved(Path(argv[1]) / "config.json" if resume else Path(argv[1]))
        rest = [*argv[2:], *(["--out", argv[1]] if resume else [])]
    elif argv[0].startswith("-"):
        raise UsageError(f"a preset comes first: {_USAGE}.")
    else:
        config, rest = preset(argv[0]), argv[1:]
    Train = tyro.conf.configure(tyro.conf.AvoidSubcommands)(Call)
    call = tyro.cli(Train, args=rest, prog=f"memlm train {argv[0]}", default=Call(out=tyro.MISSING, config=config))

    from memlm.train.loop import train

    summary = train(call.config, call.out, resume=resume)
    if call.json:
        print(json.dumps({"run": str(call.out), **summary}))
    else:
        print(
            f"{call.out}: {summary['step']} steps, {summary['train_seconds']:.0f} s, held out: "
            f"{summary['token_accuracy']:.2%} of tokens and {summary['exact_match']:.1%} of whole chunks right, "
            f"{summary['cross_entropy']:.4f} nats a token"
        )


def _saved(path: Path) -> TrainConfig:
    from memlm.files import read_json
    from memlm.records import from_dict

    return from_dict(TrainConfig, read_json(path), str(path))
