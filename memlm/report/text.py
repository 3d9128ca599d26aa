"""Numbers and words as a page shows them: escaped, rounded without flattery, with thousands separators."""

import html
import math
from typing import Any

THIN = "\u202f"  # narrow no-break space
MINUS = "\u2212"
NOTHING = '<span class="nothing">\u2013</span>'


def escape(text: Any) -> str:
    """Text as HTML, also inside attributes."""
    return html.escape(str(text), quote=True)


def figure_of(row: dict[str, Any], key: str) -> float | None:
    """A number of a row; None where it is missing or no number."""
    value = row.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def interval_of(row: dict[str, Any], key: str) -> tuple[float, float] | None:
    """The 95 % interval of a number of a row."""
    pair = row.get(f"{key}_ci")
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    low, high = (figure_of({"x": x}, "x") for x in pair)
    return None if low is None or high is None else (low, high)


def number(value: float, digits: int = 0) -> str:
    """1234.5 -> 1,234.5, with a true minus sign."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:  # no minus nought
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def share(value: float, digits: int = 2) -> str:
    """0.99996 -> 99.99: a share of less than everything is never rounded up to 100, nor one above nothing to 0."""
    step = 10.0**-digits
    percent = 100 * value
    if value < 1:
        percent = min(percent, 100 - step)
    text = number(percent, digits)
    return f"<{number(step, digits)}" if value > 0 and float(text) == 0 else text


def percent(value: float, digits: int = 2) -> str:
    """A share with its sign."""
    return f"{share(value, digits)}{THIN}%"


def span(pair: tuple[float, float], form: Any) -> str:
    """An interval, its ends formatted by `form`."""
    return f"{form(pair[0])}{'…' if pair[0] < 0 else '–'}{form(pair[1])}"


def plural(count: int, word: str) -> str:
    """1 run, 2 runs."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
