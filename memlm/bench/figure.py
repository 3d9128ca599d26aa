"""Figures of benchmarks, in the dress of the report: one plot over training seconds on a log axis."""

from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
def save(figure: Figure, path: Path) -> str:
    """Write a PNG; returns its file name, which is how the markdown beside it names it."""
    content = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", dpi=160)
    write_bytes(path, content.getvalue())
    return path.name
