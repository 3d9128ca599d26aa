"""Ranges of numbers, declared in the annotation of a field and checked in one place when its dataclass is made.

A number of a config is `steps: Count`, not `steps: int`: the alias carries a `Range`, which type checkers and the
command line look through. Nothing that is no number (nan), infinite or beyond 2^63 lies in any range. No torch here.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from memlm.errors import UsageError

MOST = 2**63 - 1  # torch and numpy count in 64 bits


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, without these themselves where they are open."""

    low: float
    high: float = MOST
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether a number lies in it; nan lies in none."""
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def told(self, value: float) -> str:
        """What a number outside must be: `at least 1`, `above 0 and below 1`."""
        low = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        if self.high == MOST:
            return low if value <= MOST else "a number below 2^63"
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:g}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]  # numbers that may be none; seeds
Pair = Annotated[int, Range(2)]  # units of an interval: one has none
Whole = Annotated[int, Range(-MOST)]  # layers, which also count from the last
Positive = Annotated[float, Range(0, open_low=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelow = Annotated[float, Range(0, 1, open_high=True)]  # 0 <= x < 1
ShareAbove = Annotated[float, Range(0, 1, open_low=True)]  # 0 < x <= 1
ShareWithin = Annotated[float, Range(0, 1, open_low=True, open_high=True)]


class Checked:
    """A dataclass whose numbers are in the ranges that their annotations declare; a subclass calls it first."""

    def __post_init__(self) -> None:
        """UsageError: a number is out of its range."""
        for name, hint in _hints(type(self)).items():
            refuse_outside(name, hint, getattr(self, name))


def refuse_outside(name: str, hint: Any, value: Any) -> None:
    """Raise a UsageError where a number, or one of a tuple of them, is outside the range that a type hint declares."""
    for found in ranges_of(hint):
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int | float) and one not in found:
                why = ": one has no interval" if found.low == 2 else ""
                raise UsageError(f"{name} must be {found.told(one)}, not {one:g}{why}.")


def ranges_of(hint: Any) -> list[Range]:
    """The ranges in a type hint: of `Count | None` and of `tuple[Count, ...]`, that of `Count`."""
    if get_origin(hint) is Annotated:
        inner, *told = get_args(hint)
        return [one for one in told if isinstance(one, Range)] + ranges_of(inner)
    return [found for inner in get_args(hint) for found in ranges_of(inner)]


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that declare a range."""
    return {name: hint for name, hint in get_type_hints(cls, include_extras=True).items() if ranges_of(hint)}
