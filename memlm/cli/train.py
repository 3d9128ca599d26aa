"""memlm train PRESET --data DATA --out RUN; --config FILE runs a saved config; --resume RUN goes on exactly.

A preset can be a curriculum: its stages are trained one after the other, each into a folder of its name in RUN.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from memlm.cli.parsing import parse
from memlm.errors import UsageError
from memlm.presets import CURRICULA, PRESETS, preset
from memlm.ranges import Checked, Natural, Positive
from memlm.train.config import Curriculum, TrainConfig

_USAGE = "memlm train PRESET --data DATA --out RUN, memlm train --config FILE --out RUN, or memlm train --resume RUN"


@dataclass(frozen=True, kw_only=True)
class Call:
    """Train a model from a preset; every field of the preset can be set."""

    out: Path  # the run's folder
    json: bool = False  # print the summary as one JSON object
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class CurriculumCall(Checked):
    """Train the stages of a curriculum one after the other; every field of every stage can be set."""

    out: Path  # the curriculum's folder; every stage has a run of its name in it
    json: bool = False  # print the last stage's summary and all of them as one JSON object
    data: Path | None = None  # of every stage, whatever --stages.NAME.data says; so all these
    seed: Natural | None = None  # of every stage
    max_seconds: Positive | None = None  # of every stage, for itself
    device: Literal["auto", "cpu", "cuda"] | None = None  # of every stage
    precision: Literal["auto", "fp32", "bf16"] | None = None  # of every stage
    compile: Literal["auto", "on", "off"] | None = None  # of every stage
    parallel: Literal["ddp", "fsdp"] | None = None  # of every stage
    curriculum: Annotated[Curriculum, tyro.conf.arg(name="")]

    @property
    def resolved(self) -> Curriculum:
        """The curriculum with what was set for every stage."""
        shared = ("data", "seed", "max_seconds", "device", "precision", "compile", "parallel")
        given = {name: getattr(self, name) for name in shared if getattr(self, name) is not None}
        return self.curriculum.each(**given)


def main(argv: list[str]) -> None:
    """Run the command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {_USAGE}\n\npresets:")
        for name, make in {**PRESETS, **CURRICULA}.items():
            print(f"  {name:<20}{(make.__doc__ or '').splitlines()[0]}")
        print("\nmemlm train PRESET --help tells every field with the preset's value.")
        return
    resume = argv[0] == "--resume"
    if resume or argv[0] == "--config":
        if len(argv) < 2:
            raise UsageError(f"{argv[0]} needs a name after it: {_USAGE}.")
        asked = _begun(Path(argv[1])) if resume else _saved(Path(argv[1]))
        rest = [*argv[2:], *(["--out", argv[1]] if resume else [])]
    elif argv[0].startswith("-"):
        raise UsageError(f"a preset comes first: {_USAGE}.")
    else:
        asked, rest = CURRICULA[argv[0]]() if argv[0] in CURRICULA else preset(argv[0]), argv[1:]
    prog = f"memlm train {argv[0]}"
    if isinstance(asked, Curriculum):
        _curriculum(_parse(CurriculumCall, CurriculumCall(out=tyro.MISSING, curriculum=asked), rest, prog), resume)
    else:
        _run(_parse(Call, Call(out=tyro.MISSING, config=asked), rest, prog), resume)


def _run(call: Call, resume: bool) -> None:
    from memlm.train.loop import train
    from memlm.train.ranks import leave

    summary = train(call.config, call.out, resume=resume)
    if leave():
        print(json.dumps({"run": str(call.out), **summary}) if call.json else _line(call.out, summary))


def _curriculum(call: CurriculumCall, resume: bool) -> None:
    from memlm.train.curriculum import train_curriculum
    from memlm.train.ranks import leave

    summary = train_curriculum(call.resolved, call.out, resume=resume)
    if not leave():
        return
    if call.json:
        print(json.dumps({"run": str(call.out), **summary}))
        return
    for name, row in summary["stages"].items():
        print(_line(call.out / name, row))


def _line(run: Path, summary: dict[str, Any]) -> str:
    return (
        f"{run}: {summary['step']} steps, {summary['train_seconds']:.0f} s, held out: "
        f"{summary['token_accuracy']:.2%} of tokens and {summary['exact_match']:.1%} of whole chunks right, "
        f"{summary['cross_entropy']:.4f} nats a token"
    )


def _parse(kind: Any, default: Any, argv: list[str], prog: str) -> Any:
    return parse(tyro.conf.configure(tyro.conf.AvoidSubcommands)(kind), argv, prog, default=default)


def _begun(run: Path) -> TrainConfig | Curriculum:
    """What a run's folder was begun with."""
    return _saved(run / ("curriculum.json" if (run / "curriculum.json").exists() else "config.json"))


def _saved(path: Path) -> TrainConfig | Curriculum:
    from memlm.files import read_json, telling_version
    from memlm.legacy import modern_config
    from memlm.records import from_dict

    with telling_version(path.parent):
        value = modern_config(read_json(path), str(path))
        kind = Curriculum if isinstance(value, dict) and "stages" in value else TrainConfig
        return from_dict(kind, value, str(path))
