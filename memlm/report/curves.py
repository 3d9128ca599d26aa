"""Usable information against the chunk's length and against the layer: lines through rows that can be compared.

Models of ours have one length each, so that those of one kind and training share a line; where several have the same
length, it goes through their mean.
"""

import json
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from memlm.report.choose import CONTROLS
from memlm.report.figures import MUTED, SERIES, STYLE, WIDTH, legend
from memlm.report.runs import Row, Runs, owner
from memlm.report.text import figure_of, interval_of

Along = Literal["chunk_tokens", "layer"]
LABELS: dict[Along, str] = {"chunk_tokens": "tokens of a chunk", "layer": "layer"}
BITS = "usable_bits_per_token"
Told = tuple[float, ...]  # usable bits and both ends of their interval
_DASHED = (0, (4, 1.5))


@dataclass(frozen=True)
class Line:
    """What a model tells at each place of the axis; `twin` if it is the one before training."""

    name: str
    twin: bool
    points: dict[float, Told]


def comparable(runs: Runs) -> list[list[Row]]:
    """Rows of fresh decoders, trained encoders and their twins, of the same data and after the same budget."""
    groups: dict[str, list[Row]] = {}
    for row in (row for measurement in runs.measurements for row in measurement.results):
        if row["decoder"] == "fresh" and (row["training"] not in CONTROLS or row["training"] == "untrained"):
            shared = json.dumps([row.get(key) for key in ("data", "vocab_size", "probe")], sort_keys=True)
            groups.setdefault(shared, []).append(row)
    return list(groups.values())


def lines(rows: list[Row], along: Along) -> list[Line]:
    """What has two points at least: of a model at several lengths, or of several layers of it at one length."""
    found: dict[tuple[str, bool], dict[float, list[Told]]] = {}
    lengths = {row["chunk_tokens"] for row in rows if figure_of(row, "layer") is not None}
    for row in rows:
        x, bits = figure_of(row, along), figure_of(row, BITS)
        if x is None or bits is None:
            continue
        name = _line_of(row, along)
        if along == "layer" and len(lengths) > 1:
            name = f"{name}, {row['chunk_tokens']} tokens"
        line = found.setdefault((name, row["training"] == "untrained"), {})
        line.setdefault(x, []).append((bits, *(interval_of(row, BITS) or (bits, bits))))
    return [
        Line(name, twin, {x: tuple(map(fmean, zip(*told, strict=True))) for x, told in sorted(points.items())})
        for (name, twin), points in found.items()
        if len(points) > 1
    ]


@rc_context(STYLE)
def curve(told: list[Line], along: Along) -> Figure:
    """A line for each model with its 95 % band, untrained twins dashed."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    names = list(dict.fromkeys(line.name for line in told))
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}
    for line in told:
        bits, low, high = zip(*line.points.values(), strict=True)
        x = list(line.points)
        style = {"linestyle": _DASHED, "linewidth": 1.2} if line.twin else {}
        axes.plot(x, bits, color=colours[line.name], marker="o", markersize=3.5, **style)
        axes.fill_between(x, low, high, color=colours[line.name], alpha=0.15, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.set_xticks(sorted({x for line in told for x in line.points}))
    axes.set(xlabel=LABELS[along], ylabel="usable bits per token")
    axes.grid(axis="y")
    highest = [max(bits for bits, *_ in line.points.values()) for line in told]
    if max(highest) > 20 * max(min(highest), 0):  # the low lines would lie on the axis
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_ylim(
            min(0, *(min(low for _, low, _ in line.points.values()) for line in told)) - 0.02, max(highest) * 2
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    twins = [Line2D([], [], color=MUTED, linestyle=_DASHED, linewidth=1.2, label="untrained twin")]
    legend(figure, colours, twins if any(line.twin for line in told) else [], long=True)
    return figure


def _line_of(row: Row, along: Along) -> str:
    """The name that points of one line share."""
    name = owner(row)
    if along == "layer":
        view = f" layer {row['layer']} {row['readout']}"
        return f"{name.removesuffix(view)}, {row['readout']}"
    return name if "layer" in row else f"{row.get('encoder', 'encoder')}, {row['training']}"
