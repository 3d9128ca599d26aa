"""Wrong calls of every command by generation: each option that its parser has, set to wrong values of its type."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro

from memlm.cli import COMMANDS
from memlm.cli.bank import ACTIONS
from memlm.cli.train import Call as TrainCall
from memlm.cli.train import CurriculumCall
from memlm.presets import CURRICULA, PRESETS
from memlm.ranges import ranges_of

ANY_TEXT = {
    "--prompt",
    "--text",
    "--subset",
    "--split",
}  # whatever is written there may be meant; two are of the hub alone
OUTPUTS = {"--out", "--cache", "--figures"}
WRONG_PATHS = ("MISSING", "FILE", "EMPTY", "LOOP")  # a test makes them: a picture, an empty folder, a link to itself


def is_right(command: str, option: str, value: str) -> bool:
    """Whether a generated value is no mistake there: a benchmark prepares data that are missing; --data of a curriculum
    goes before that of its stages; an empty prompt is one.
    """
    return (
        (command == "bench" and option == "--data" and value in ("MISSING", "EMPTY"))
        or (command == "doctor" and value in ("FILE", "EMPTY"))  # which it tells: nothing of memlm's
        or (option.startswith("--stages.") and option.endswith(".data") and value in ("MISSING", "FILE", "EMPTY"))
        or (option in OUTPUTS and value in ("MISSING", "EMPTY"))
        or (option == "--prompt" and value == "")
    )


@dataclass(frozen=True)
class WrongCall:
    """`argv` with one wrong value, of `option`."""

    command: str
    option: str
    value: str
    argv: tuple[str, ...]


def parser_of(call: type, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tyro would rather have its parser left alone
        return tyro.extras.get_parser(call, **options)


def parsers() -> Iterator[tuple[str, type, Any]]:
    """Every command with the dataclass and the parser of its arguments; train has two, bank one an action."""
    for command in COMMANDS:
        if command == "train":
            flat = tyro.conf.configure(tyro.conf.AvoidSubcommands)
            slots = TrainCall(out=tyro.MISSING, config=PRESETS["slots"]())
            yield "train slots", TrainCall, parser_of(flat(TrainCall), default=slots)
            stages = CurriculumCall(out=tyro.MISSING, curriculum=CURRICULA["memory"]())
            yield "train memory", CurriculumCall, parser_of(flat(CurriculumCall), default=stages)
        elif command == "bank":
            for action, (call, _) in ACTIONS.items():
                yield f"bank {action}", call, parser_of(call)
        else:
            call = import_module(f"memlm.cli.{command}").Call
            yield command, call, parser_of(call)


def hint_of(call: Any, dest: str) -> Any:
    """The annotation of the field that an option sets, ranges included; None where a family or a dict is on the way."""
    hint: Any = call
    for name in dest.split("."):
        if not isinstance(hint, type):
            hint = next(
                (one for one in get_args(hint) if isinstance(one, type) and hasattr(one, "__annotations__")), None
            )
        told = get_type_hints(hint, include_extras=True) if hint is not None else {}
        if (name := name.replace("-", "_")) not in told:
            return None
        hint = told[name]
    return hint


def wrong_values(option: str, metavar: str, choices: Any, hint: Any) -> list[str]:
    """Wrong values of an option's type."""
    if choices is not None or metavar.startswith("{None}|{"):
        return ["", "no-such-word", "-1"]
    if "INT" in metavar or "FLOAT" in metavar:
        below = [f"{found.low if found.open_low else found.low - 1:.0f}" for found in ranges_of(hint)]
        wrong = ["", "nan", "no-such-word", "-99999999999999999999", "99999999999999999999999", *below]
        return [*wrong, "inf", "-inf"] if "FLOAT" in metavar else [*wrong, "1.5", "inf"]
    if option in OUTPUTS:
        return ["", "FILE", "FILE/below", "LOOP"]
    if "PATH" in metavar or "FILE" in metavar:
        return ["", *WRONG_PATHS]
    return [""] if option in ANY_TEXT else ["", "no-such-word"]


def wrong_calls(right: dict[str, list[str]]) -> Iterator[WrongCall]:
    """All of them; `right` has a right call of each, of train one of a run and one of a curriculum."""
    for command, call, parser in parsers():
        name = command.split()[0]
        for action in parser._actions:
            if action.nargs == 0 or not action.option_strings:
                continue
            option, hint = action.option_strings[0], hint_of(call, action.dest)
            for value in wrong_values(option, str(action.metavar), action.choices, hint):
                if not is_right(name, option, value):
                    yield WrongCall(name, option, value, (*right[command], option, value))
    for command, argv in right.items():  # what is named without an option
        named = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
        for i in range(1, named):
            for value in ("", *WRONG_PATHS):
                if not is_right(command, f"argument {i}", value):
                    yield WrongCall(command.split()[0], f"argument {i}", value, (*argv[:i], value, *argv[i + 1 :]))
    for value in ("", *WRONG_PATHS):
        yield WrongCall("train", "--config", value, ("train", "--config", value, "--out", "OUT"))
        yield WrongCall("train", "--resume", value, ("train", "--resume", value))


def in_place(argv: tuple[str, ...], places: dict[str, Path]) -> list[str]:
    """The words in capitals as the paths that a test has made."""
    found = []
    for word in argv:
        first, slash, rest = word.partition("/")
        found.append(f"{places[first]}{slash}{rest}" if first in places else word)
    return found
