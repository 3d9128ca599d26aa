"""The templates, and the filters by which they write what is told: figures of tables, texts of books."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from memlm.results.text import Form, Told, listed, number, percent, plural, share, significant, span, told

FORMS: dict[str, Form] = {"share": share, "share 1": lambda value: share(value, 1), "significant": significant}
FORMS |= {"change": lambda value: number(100 * value, 1), "times": lambda value: f"{number(value, 1)}×"}


@cache  # what is read once is compiled once
def templates(*, escape: bool) -> Environment:
    """The templates, with what writes numbers and words; pages escape what is not ours, Markdown does that itself."""
    env = Environment(loader=PackageLoader("memlm.report"), autoescape=escape, undefined=StrictUndefined)
    env.trim_blocks = env.lstrip_blocks = True
    env.filters |= {f.__name__: f for f in (by_family, number, share, percent, plural, prose, visible, written, spread)}
    env.globals["told"] = told
    return env


def by_family(row: dict[str, Any]) -> str:
    """Usable bits a token by each family of probes; of the row's own nothing learnt is told as such."""
    told = row.get("families") or {}
    figures = [f"{name} {number(one['usable_bits_per_token'], 2)}" for name, one in told.items()]
    return listed(*figures, "" if row.get("learnt", True) else "not learnt at this budget")


def prose(piece: str) -> Markup:
    """Text of a book in a paragraph: line ends become a faint mark, so that lines can be as long as there is room."""
    return Markup('<i class="line"></i> ').join(str(piece).split("\n"))


def visible(piece: str) -> str:
    """A single token whose white space can be seen."""
    shown = str(piece).replace("\n", "↵")
    return shown if shown.strip() else shown.replace(" ", "␣") or "∅"


def written(value: float, form: int | str = 0) -> str:
    """A figure of a table: with that many digits, or in one of `FORMS`."""
    return number(value, form) if isinstance(form, int) else FORMS[form](value)


def spread(told: Told, form: int | str = 0) -> str:
    """The interval of a figure of a table."""
    return span(told.ends, lambda end: written(end, form))
