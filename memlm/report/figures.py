"""The figures of a report, each a function from rows or runs to a matplotlib figure; no pyplot, no screen.

Colours are told apart by the colour-blind (after Okabe and Ito); a page swaps each for its own variable, so that
figures follow its light or dark scheme (see `svg`).
"""

import math
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from memlm.report.choose import CONTROLS, is_control
from memlm.report.runs import Row, owner
from memlm.report.text import figure_of, interval_of, number

SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9", "#882255", "#999933")
INK, MUTED, RULE = "#39424e", "#87909c", "#dfe2e6"
WIDTH = 5.0  # inches: half a page, a whole phone

STYLE: Any = {
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "memlm",
}


def colours_of(series: dict[str, int]) -> dict[str, str]:
    """The colour of each model, from its place among the colours."""
    return {name: SERIES[i] for name, i in series.items()}


@rc_context(STYLE)
def accuracy_by_position(rows: list[Row], colours: dict[str, str]) -> Figure:
    """Share of right tokens at each position of a chunk: a line for each model and decoder, controls thin."""
    figure = Figure(figsize=(WIDTH, _height(rows)), layout="constrained")
    axes: Axes = figure.subplots()
    for row in sorted(rows, key=is_control, reverse=True):
        curve = row.get("accuracy_by_position")
        if not curve:
            continue
        places = range(1, len(curve) + 1)
        if is_control(row):
            colour = MUTED if row["training"] == "none" else colours[owner(row)]
            axes.plot(places, curve, color=colour, linewidth=0.8, alpha=0.65)
        else:
            line = "-" if row["decoder"] == "own" else (0, (4, 1.5))
            axes.plot(places, curve, color=colours[owner(row)], linestyle=line, clip_on=False)
    axes.set(ylim=(0, 1), xlabel="position in the chunk", ylabel="tokens right")
    axes.margins(x=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(axis="y")
    keys = [
        Line2D([], [], color=MUTED, label="own decoder"),
        Line2D([], [], color=MUTED, linestyle=(0, (3, 1.2)), label="fresh decoder"),
        Line2D([], [], color=MUTED, linewidth=0.8, label="controls"),
    ]
    legend(figure, {owner(row): colours[owner(row)] for row in rows if not is_control(row)}, keys)
    return figure


@rc_context(STYLE)
def usable_bits(rows: list[Row], colours: dict[str, str]) -> Figure:
    """Usable bits per token with 95 % intervals; untrained twins as pale bars, perfect recall as a dashed line."""
    shown = _barred(rows)
    figure = Figure(figsize=(WIDTH, _height(rows)), layout="constrained")
    axes: Axes = figure.subplots()
    everything = _bits_of_a_token(rows)
    widest = max([everything or 0, *(figure_of(row, "usable_bits_per_token") or 0 for row in shown)])
    for place, row in enumerate(shown):
        bits, ends = figure_of(row, "usable_bits_per_token") or 0.0, interval_of(row, "usable_bits_per_token")
        pale = 0.4 if is_control(row) else 1.0
        axes.barh(place, bits, height=0.66, color=colours[owner(row)], alpha=pale, linewidth=0)
        if ends:
            axes.plot(ends, (place, place), color=INK, linewidth=1.1, solid_capstyle="butt")
        end = max(bits, ends[1] if ends else bits, 0)
        axes.text(end + 0.015 * widest, place, number(bits, 2), va="center", fontsize=8)
    names = [f"{owner(row)}, {CONTROLS['untrained'] if is_control(row) else row['decoder']}" for row in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="usable bits per token")
    if everything:
        axes.axvline(everything, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        axes.text(everything, -0.62, f"perfect recall {number(everything, 2)} ", ha="right", va="bottom", fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -1.3 if everything else -0.6)
    axes.set_xlim(right=widest * (1.06 if everything else 1.14))
    axes.axvline(0, color=MUTED, linewidth=0.7)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


def legend(
    figure: Figure, models: dict[str, str], keys: list[Line2D], columns: int | None = None, *, long: bool = False
) -> None:
    """Models by colour, then what the kinds of line mean, above the figure; `long` lines where dashes differ."""
    handles = [Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in models.items()]
    longest = max((len(name) for name in models), default=0)
    columns = columns or (3 if longest < 20 else 2)
    room = 3.2 if long else STYLE["legend.handlelength"]
    figure.legend(handles=[*handles, *keys], loc="outside upper left", ncols=columns, fontsize=8, handlelength=room)


def _barred(rows: list[Row]) -> list[Row]:
    """Rows with a bar: trained encoders and their untrained twins; wrong memories cost bits without bound."""
    shown = [row for row in rows if not is_control(row) or row["training"] == "untrained"]
    return [row for row in shown if figure_of(row, "usable_bits_per_token") is not None]


def _height(rows: list[Row]) -> float:
    """In inches, of the two figures that stand side by side: room for every bar."""
    return max(3.4, 0.9 + 0.245 * len(_barred(rows)))


def _bits_of_a_token(rows: list[Row]) -> float | None:
    """What there is to know: the floor's cross-entropy in bits, which perfect recall would save."""
    floor = [figure_of(row, "cross_entropy") for row in rows if row["training"] == "none"]
    return floor[0] / math.log(2) if floor and floor[0] else None
