"""Figures of benchmarks, in the dress of the report: one plot over training seconds, or several over context."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from memlm.files import write_bytes
from memlm.report.figures import SERIES, STYLE


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


def over_context(plots: Mapping[str, Mapping[str, Mapping[int, float]]], path: Path, dashed: Sequence[str]) -> str:
    """Plots by title, two side by side, of sides over the length of a context, with ticks at the lengths that occur.

    Both axes are logarithmic. Written as a PNG; returns its name.
    """
    rows = -(-len(plots) // 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 0.5 + 2.4 * rows), layout="constrained")
        every = figure.subplots(rows, 2, sharex=True, squeeze=False).flatten().tolist()
        for axes, title in zip(every, plots, strict=True):
            axes.set(xscale="log", yscale="log", title=title, xlabel="tokens of context" if axes in every[-2:] else "")
            axes.grid(axis="both")
    contexts = sorted({context for sides in plots.values() for line in sides.values() for context in line})
    for axes, sides in zip(every, plots.values(), strict=True):
        for (side, line), colour, marker in zip(sides.items(), SERIES, "os^vD", strict=False):
            style = {"color": colour, "marker": marker, "linestyle": (0, (4, 2)) if side in dashed else "-"}
            axes.plot([*line], [*line.values()], markersize=4, label=side, **style)
        axes.xaxis.set_major_locator(FixedLocator(contexts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    return save(figure, path)


@rc_context(STYLE)
def save(figure: Figure, path: Path) -> str:
    """Write a PNG; returns its file name, which is how the markdown beside it names it."""
    content = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=160)
    write_bytes(path, content.getvalue())
    return path.name
