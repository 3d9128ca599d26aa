"""Figures of benchmarks, in the dress of the report: one plot over training seconds, or several over context."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from memlm.files import write_bytes
from memlm.report.figures import STYLE


@rc_context(STYLE)
def over_seconds(ylabel: str) -> tuple[Figure, Axes]:
    """An empty plot of something over training seconds."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", xlabel="training seconds", ylabel=ylabel)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(axis="y")
    return figure, axes


@rc_context(STYLE)
def over_context(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Empty plots, two side by side, of so many things over the length of a context; both axes are logarithmic."""
    rows = -(-len(titles) // 2)
    figure = Figure(figsize=(7.6, 0.5 + 2.4 * rows), layout="constrained")
    plots = figure.subplots(rows, 2, sharex=True, squeeze=False).flatten().tolist()
    for axes, title in zip(plots, titles, strict=True):
        axes.set(xscale="log", yscale="log", title=title)
        axes.grid(axis="both")
    for axes in plots[-2:]:
        axes.set_xlabel("tokens of context")
    return figure, plots


def mark_contexts(plots: Sequence[Axes], contexts: Sequence[int]) -> None:
    """Ticks at these lengths and no others, after everything is drawn."""
    for axes in plots:
        axes.xaxis.set_major_locator(FixedLocator(contexts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


@rc_context(STYLE)
def save(figure: Figure, path: Path) -> str:
    """Write a PNG; returns its file name, which is how the markdown beside it names it."""
    content = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=160)
    write_bytes(path, content.getvalue())
    return path.name
