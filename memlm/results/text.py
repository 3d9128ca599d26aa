"""Numbers and words as pages show them: rounded without flattery, with thousands separators."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MINUS = "\u2212"
Form = Callable[[float], str]


@dataclass(frozen=True)
class Told:
    """A figure and what is known of its spread: 95 % over examples of one seed, from lowest to highest of several."""

    value: float
    interval: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Where its interval ends; its value twice if there is none."""
        return self.interval or (self.value, self.value)

    def __format__(self, unit: str) -> str:
        """The figure, and its interval in brackets, in one of `UNITS`."""
        form, ends = UNITS[unit]
        return form(self.value) + (f" ({span(self.interval, ends)})" if self.interval else "")


def figure_of(row: dict[str, Any], key: str) -> float | None:
    """A number of a row; None where it is missing or no number."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def told(row: dict[str, Any], key: str = "value") -> Told | None:
    """A number of a row with its 95 % interval."""
    value, pair = figure_of(row, key), row.get(f"{key}_ci")
    low, high = (
        figure_of({"x": end}, "x") for end in (pair if isinstance(pair, list) and len(pair) == 2 else (None, None))
    )
    return None if value is None else Told(value, None if low is None or high is None else (low, high))


def number(value: float, digits: int = 0) -> str:
    """1234.5 -> 1,234.5, with a true minus sign and no minus nought."""
    text = f"{value:,.{digits}f}"
    return (text if float(text.replace(",", "")) else text.lstrip("-")).replace("-", MINUS)


def share(value: float, digits: int = 2) -> str:
    """0.99996 -> 99.99: a share of less than everything is never rounded up to 100, nor one above nothing to 0."""
    step = 10.0**-digits
    text = number(min(100 * value, 100 - step) if value < 1 else 100 * value, digits)
    return f"<{number(step, digits)}" if value > 0 and float(text) == 0 else text


def percent(value: float, digits: int = 2) -> str:
    """A share with its sign, after a narrow space."""
    return f"{share(value, digits)}\u202f%"


def significant(value: float) -> str:
    """Three digits that count."""
    return number(value) if value == int(value) or abs(value) >= 1000 else f"{value:#.3g}".replace("-", MINUS)


def span(pair: tuple[float, float], form: Form) -> str:
    """An interval, its ends formatted by `form`."""
    return f"{form(pair[0])}{'…' if pair[0] < 0 else '–'}{form(pair[1])}"


def plural(count: float, word: str) -> str:
    """1 run, 2 runs."""
    return f"{count:,.0f} {word}{'' if count == 1 else 's'}"


def listed(*parts: str) -> str:
    """What is known of some facts, as one line."""
    return ", ".join(part for part in parts if part)


UNITS: dict[str, tuple[Form, Form]] = {  # of figures in sentences: how a figure, and how an end of its interval is told
    "share": (percent, lambda value: number(100 * value, 2)),
    "points": (lambda value: f"{number(100 * value, 2)} points", lambda value: number(100 * value, 2)),
    "more": (
        lambda value: f"{'+' * (value >= 0)}{number(100 * value, 1)}\u202f%",
        lambda value: number(100 * value, 1),
    ),
    "nats": (lambda value: f"{number(value, 3)} nats a token", lambda value: number(value, 3)),
    "bits": (lambda value: number(value, 2), lambda value: number(value, 2)),
}
