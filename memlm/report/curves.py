"""Usable information against the chunk's length and against the layer: lines through the rows of one measurement.

Only fresh decoders are compared. Models of ours have one length each, so that those of one kind share a line.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memlm.report.choose import CONTROLS
from memlm.report.figures import MUTED, SERIES, STYLE, WIDTH, legend
from memlm.report.runs import Measurement, Row, owner
from memlm.report.text import figure_of, interval_of

Along = Literal["chunk_tokens", "layer"]
LABELS: dict[Along, str] = {"chunk_tokens": "tokens of a chunk", "layer": "layer"}
BITS = "usable_bits_per_token"
_DASHED = (0, (4, 1.5))


@dataclass(frozen=True)
class Line:
    """One model's points (x, bits, low, high) by x; `twin` if it is an untrained one."""

    name: str
    twin: bool
    points: list[tuple[float, float, float, float]]


def lines(measurements: list[Measurement], along: Along) -> list[Line]:
    """What has two points at least: of a model at several lengths, or of several layers of it at one length."""
    found: dict[tuple[str, bool], dict[float, list[tuple[float, float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    lengths = {row["chunk_tokens"] for m in measurements for row in m.results if figure_of(row, "layer") is not None}
    for row in (row for m in measurements for row in m.results):
        x, bits = figure_of(row, along), figure_of(row, BITS)
        twin = row["training"] == "untrained"
        if x is None or bits is None or row["decoder"] != "fresh" or (row["training"] in CONTROLS and not twin):
            continue
        name = _line_of(row, along)
        if along == "layer" and len(lengths) > 1:
            name = f"{name}, {row['chunk_tokens']} tokens"
        found[name, twin][x].append((bits, *(interval_of(row, BITS) or (bits, bits))))
    told = [
        Line(name, twin, [(x, *np.mean(told, axis=0).tolist()) for x, told in sorted(points.items())])
        for (name, twin), points in found.items()
    ]
    return [line for line in told if len(line.points) > 1]


@rc_context(STYLE)
def curve(told: list[Line], along: Along) -> Figure:
    """A line for each model with its 95 % band, untrained twins dashed."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    names = list(dict.fromkeys(line.name for line in told))
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}
    for line in told:
        x, bits, low, high = zip(*line.points, strict=True)
        style = {"linestyle": _DASHED, "linewidth": 1.2} if line.twin else {}
        axes.plot(x, bits, color=colours[line.name], marker="o", markersize=3.5, **style)
        axes.fill_between(x, low, high, color=colours[line.name], alpha=0.15, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.set_xticks(sorted({x for line in told for x, *_ in line.points}))
    axes.set(xlabel=LABELS[along], ylabel="usable bits per token")
    axes.grid(axis="y")
    twins = [Line2D([], [], color=MUTED, linestyle=_DASHED, linewidth=1.2, label="untrained twin")]
    legend(figure, colours, twins if any(line.twin for line in told) else [], long=True)
    return figure


def _line_of(row: Row, along: Along) -> str:
    """The name that points of one line share."""
    name, view = owner(row), f" layer {row.get('layer')} {row.get('readout')}"
    if along == "layer" and name.endswith(view):
        return f"{name.removesuffix(view)}, {row['readout']}"
    return name if "layer" in row else f"{row['encoder']}, ours"
