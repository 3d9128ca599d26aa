"""The figure of attribution: what memories save at places that need them, and at others."""

from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memlm.report.attributed import Attributed
from memlm.report.figures import INK, MUTED, STYLE, WIDTH, legend

_MARKS: dict[tuple[str, str], tuple[dict[str, Any], str]] = {  # text and places -> how they are drawn, and called
    ("noisy copy", "copied"): ({"marker": "o"}, "copied"),
    ("noisy copy", "noise"): ({"marker": "x"}, "noise among it"),
    ("plain", "plain"): ({"marker": "o", "fillstyle": "none"}, "plain text"),
}


@rc_context(STYLE)
def loss_saved(models: list[Attributed], colours: dict[str, str]) -> Figure:
    """By how much the loss of copied tokens, noise and plain text grows when memories are hidden; a line a model."""
    figure = Figure(figsize=(WIDTH, 1.3 + 0.3 * len(models)), layout="constrained")
    axes: Axes = figure.subplots()
    for place, model in enumerate(models):
        for (text, places), (mark, _) in _MARKS.items():
            if told := model.told(text, places, "mean", "loss"):
                if told.interval:
                    axes.plot(told.interval, (place, place), color=INK, linewidth=1.1, solid_capstyle="butt")
                colour = colours.get(model.first, MUTED)
                axes.plot(told.value, place, color=colour, linestyle="", markersize=5, clip_on=False, **mark)
    axes.axvline(0, color=MUTED, linewidth=0.7)
    axes.set_yticks(range(len(models)), [model.name for model in models])
    axes.set(ylim=(len(models) - 0.4, -0.6), xlabel="nats a token saved by memories")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    keys = [
        Line2D([], [], color=MUTED, linestyle="", markersize=5, label=name, **mark) for mark, name in _MARKS.values()
    ]
    legend(figure, {}, keys)
    return figure
