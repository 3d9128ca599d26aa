"""What a run learnt and what that took, those that it started from included; which runs repeat it with other seeds."""

import json
import re
from typing import Any

from memlm.errors import UsageError
from memlm.objectives.names import parse
from memlm.results.runs import Row, Run
from memlm.results.text import figure_of

BASELINES = ("none", "full")  # what is called a reader and reads no memories
CLOSE = 0.05  # budgets that differ by no more than this share are told as equal
_HOW = (
    "seed",
    "start",
    "device",
    "parallel",
    "trackers",
    "keep",
)  # a run was made, which says nothing of what it learns
# What objectives teach, in the order in which they are shown.
LEARNS = {"autoencode": "recall", "noise": "recall of random tokens", "causal": "next token", "copy": "copy"}
LEARNS |= {"blank": "blank copy", "recall": "key-value recall"}


def objectives_of(run: Run) -> dict[str, int]:
    """The objectives of a run, each of every how many windows; empty for one that this version does not know."""
    try:
        return {part.name: part.share for part in parse(str(run.config.get("objective")))}
    except UsageError:
        return {}


def parts_of(run: Run, row: Row) -> dict[str, Row]:
    """The held-out figures of a row under the objective that they are of; a combined one has several."""
    parts = row.get("parts")
    if isinstance(parts, dict) and parts and all(isinstance(part, dict) for part in parts.values()):
        return {name: {**row, **part} for name, part in parts.items()}
    return {next(iter(objectives_of(run)), str(run.config.get("objective"))): row}


def reads_memories(run: Run) -> bool:
    """Whether a run trains a decoder that reads memories of earlier chunks; baselines read none."""
    shape = run.config.get("model")
    return isinstance(shape, dict) and shape.get("reader") not in (None, *BASELINES)


def one_vector(run: Run) -> bool:
    """Whether its decoder reads a memory as the one vector that it is."""
    shape = run.config.get("model")
    reader = shape.get("reader") if isinstance(shape, dict) else None
    return (reader.get("kind") if isinstance(reader, dict) else reader) == "vector"


def encoder_frozen(run: Run) -> bool:
    """Whether the encoder stays as it was, or what of it is not learnt anew."""
    return any(str(part).split(".")[0] == "encoder" for part in run.config.get("frozen") or ())


def decoder_of(run: Run) -> list[Run]:
    """The runs that its decoder went through."""
    return [one for one in run.chain if reads_memories(one)]


def decoder_steps(run: Run) -> float:
    """Optimiser steps of its decoder."""
    return sum(figure_of(one.last, "step") or 0 for one in decoder_of(run))


def causal_tokens(run: Run) -> float:
    """Tokens that its decoder has learnt to predict from those before."""
    pairs = [(figure_of(one.last, "tokens") or 0, objectives_of(one).get("causal")) for one in decoder_of(run)]
    return sum(tokens / share for tokens, share in pairs if share)


def about_equal(one: float, other: float) -> bool:
    """Whether two budgets are told as equal."""
    return min(one, other) > 0 and abs(one - other) <= CLOSE * max(one, other)


def unseeded(name: str) -> str:
    """The name that seeds share: `slots-seed0`, `slots_seed1` and `seed2/slots` are all `slots`."""
    parts = [re.sub(r"[-_.]?seed[-_]?\d+$", "", part) for part in name.split("/")]
    return "/".join(part for part in parts if part) or name


def last_stage(run: Run) -> str:
    """The name of the run that its curriculum ends with."""
    return f"{run.name.rpartition('/')[0]}/{run.stages[-1]}"


def recipe(chain: tuple[Run, ...]) -> str:
    """All that decides a run but the seed, its start's recipe included: equal for seeds of one config on any device."""
    if not chain:
        return ""
    told = [settings(chain[0]), recipe(chain[1:]) or unseeded(str(chain[0].config.get("start")))]
    return json.dumps(told, sort_keys=True)


def settings(run: Run, *but: str) -> dict[str, Any]:
    """Its config without how and where it was computed, the seed and what it started from; data by their hash."""
    config = {key: value for key, value in run.config.items() if key not in (*_HOW, *but)}
    return config | {"data": run.environment.get("data") or config.get("data")}
