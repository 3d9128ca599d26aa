"""What sections are made of: the report that they are functions of, a section's frame, figures as cards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from memlm.report.access import Setting
from memlm.report.attributed import Attributed
from memlm.report.choose import Headline
from memlm.report.claims import Claim
from memlm.report.plots import Plot
from memlm.report.runs import Run, Runs
from memlm.report.svg import inline_svg
from memlm.report.text import escape

AnyRun = TypeVar("AnyRun", bound=Run)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page is made from."""

    runs: Runs
    settings: list[Setting]  # of access to memory
    attributed: list[Attributed]
    series: dict[str, int]  # each model's place among the colours
    plots: list[Plot]
    headline: Headline | None
    claims: list[Claim]

    @property
    def title(self) -> str:
        """The page's title."""
        if self.runs.measurements:
            return "How much text does one vector hold?"
        if self.settings:
            return "What does a model get from its memories?"
        if self.runs.training:
            return "How these models were trained"
        return "What are memories worth in tasks?" if self.runs.evaluations else "What memories save"


def section(title: str, intro: str, body: str) -> str:
    """A section; nothing without a body. `title` and `intro` are ours and may hold markup."""
    if not body:
        return ""
    said = f'<p class="intro">{intro}</p>' if intro else ""
    return f"<section><h2>{title}</h2>{said}{body}</section>"


def each(runs: Sequence[AnyRun], body: Callable[[AnyRun], str]) -> str:
    """A body for each run, under its name where there are several; nothing where it has no body."""
    parts = [(run, body(run)) for run in runs]
    return "".join((f"<h3>{escape(run.name)}</h3>" if len(runs) > 1 else "") + part for run, part in parts if part)


def figure_cards(report: Report, wanted: Callable[[Plot], bool], kind: str = "") -> str:
    """Figures side by side, each with its title and how to read it; `kind` is a class of page.css."""
    cards = "".join(
        f"<figure><h3>{escape(p.title)}</h3>{inline_svg(p.figure, p.name, p.title)}"
        f"<figcaption>{escape(p.caption)}</figcaption></figure>"
        for p in report.plots
        if wanted(p)
    )
    return f'<div class="figures {kind}">{cards}</div>' if cards else ""
