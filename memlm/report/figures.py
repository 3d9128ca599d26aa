"""Figures described as data, and one way to draw them all, for the page (SVG) and as files (PNG); no pyplot, no screen.

Colours are told apart by the colour-blind (after Okabe and Ito); a page swaps each for its own variable, so that
figures follow its light or dark scheme.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from memlm.results.text import Told

SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9", "#882255", "#999933")
INK, MUTED, RULE = "#39424e", "#87909c", "#dfe2e6"
VARIABLES = {INK: "--figure-ink", MUTED: "--figure-muted", RULE: "--figure-rule"}  # what page.css calls them
VARIABLES |= {colour: f"--series-{i}" for i, colour in enumerate(SERIES)}
WIDTH = 5.0  # inches: half a page, a whole phone
DASHED = (0, (4, 1.5))
# A PNG has the letters of these fonts too, where they are installed; a page has its reader's fonts.
_WIDE = ("Noto Sans CJK JP", "IPAGothic", "WenQuanYi Zen Hei", "Hiragino Sans", "Yu Gothic")
STYLE: Any = {
    **{"font.size": 8.5, "font.family": ["DejaVu Sans", *({*_WIDE} & {*font_manager.get_font_names()})]},
    **{"text.parse_math": False, "text.color": INK},  # a name may have dollars in it
    **{"axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.linewidth": 0.7, "axes.axisbelow": True},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8.5, "axes.titlelocation": "left"},
    **{"grid.color": RULE, "grid.linewidth": 0.7, "xtick.color": MUTED, "ytick.color": MUTED},
    **{"xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.major.size": 3, "ytick.major.size": 0},
    **{"lines.linewidth": 2.0, "lines.solid_capstyle": "round", "legend.frameon": False, "legend.columnspacing": 1.2},
    **{"svg.fonttype": "none", "svg.hashsalt": "memlm"},
}


Colours = dict[str, str]  # of models


class Line(NamedTuple):
    """Points and the line through them: a curve, a single mark, an interval, a (wide) bar; or an entry of a legend."""

    x: Sequence[float] = ()
    y: Sequence[float] = ()
    colour: str = MUTED
    width: float = 1.8  # points
    dash: Any = "-"
    marker: str = ""
    hollow: bool = False
    alpha: float = 1.0
    size: float = 5.0  # of markers
    band: tuple[Sequence[float], Sequence[float]] | None = None  # both ends of an interval at each point
    text: str = ""  # beside the last point
    label: str = ""  # in the legend, where each stands once

    def artist(self) -> Line2D:
        """The line as matplotlib has it."""
        look = {"color": self.colour, "linewidth": self.width, "linestyle": self.dash, "alpha": self.alpha}
        look |= {"marker": self.marker, "markersize": self.size, "fillstyle": "none" if self.hollow else "full"}
        cap = "butt" if self.width > 4 or self.colour == INK else "round"
        return Line2D(self.x, self.y, solid_capstyle=cap, clip_on=False, label=self.label, **look)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines over the same axes; with `names` it is a list from top to bottom, the first of them at y = 0."""

    lines: list[Line]
    axes: dict[str, Any] = field(default_factory=dict)  # labels, limits, scales, ticks and the title, for `Axes.set`
    forms: dict[str, Callable[[float], str]] = field(default_factory=dict)  # how numbers of x and y are written
    names: Sequence[str] = ()
    rules: list[tuple[str, float | None]] = field(default_factory=list)  # lines across, dashed but at 0
    height: float = 2.8  # inches


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure: panels above one another, beneath a legend of their lines' labels."""

    kind: str  # what it shows: macros.html.j2 has a title and a caption for each
    name: str  # of its file
    panels: list[Panel]
    keys: list[Line] = field(default_factory=list)  # what else the legend explains
    columns: int | None = None  # of the legend
    title: str = ""
    about: str = ""  # the part of its title or caption that differs


def percents(value: float) -> str:
    """A share on an axis."""
    return f"{100 * value:.0f} %"


def ticks(lines: list[Line]) -> list[float]:
    """Where lines have points."""
    return sorted({x for line in lines for x in line.x})


def curve(points: Sequence[tuple[float, Told]], key: Line) -> Line:
    """A line like another through these points, with its band."""
    low, high = zip(*(told.ends for _, told in points), strict=True)
    return key._replace(x=[at for at, _ in points], y=[told.value for _, told in points], band=(low, high))


def palette(names: Iterable[str]) -> Colours:
    """A colour for each."""
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(dict.fromkeys(names))}


def interval(told: Told | None, place: float) -> Line:
    """An interval, across at a place of a list."""
    return Line(told.ends, [place] * 2, INK, width=1.1) if told else Line()


@rc_context(STYLE)
def draw(chart: Chart) -> Figure:
    """A chart as matplotlib has it."""
    named = {line.label: line for panel in chart.panels for line in panel.lines if line.label}
    keys = [line._replace(x=[], y=[], dash="-", width=line.width and 3) for line in named.values()] + chart.keys
    columns = chart.columns or (3 if max((len(key.label) for key in keys), default=0) < 20 else 2)
    heights = [panel.height for panel in chart.panels]
    room = 0.3 + 0.18 * -(-len(keys) // columns)
    figure = Figure(figsize=(WIDTH, room + sum(heights)), layout="constrained")
    shared = all(panel.axes.get("xlabel") == chart.panels[0].axes.get("xlabel") for panel in chart.panels)
    plots = figure.subplots(len(heights), 1, sharex=shared, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(plots, chart.panels, strict=True):
        _fill(axes, panel)
        axes.set_xlabel("" if shared and axes is not plots[-1] else axes.get_xlabel())
    look = {"ncols": columns, "fontsize": 8, "handlelength": 3.2 if any(key.dash != "-" for key in keys) else 1.6}
    if keys:
        handles = [key.artist() for key in keys]
        figure.legend(handles=handles, labels=[key.label for key in keys], loc="outside upper left", **look)
    return figure


def inline_svg(chart: Chart) -> str:
    """A chart as an `<svg>` element without any reference to the outside, in the page's colours and font.

    Its name stands before every id, because several charts share one page.
    """
    svg = _saved(chart, format="svg", transparent=True, metadata={"Date": None}).decode()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.name}-", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)


def png(chart: Chart) -> bytes:
    """A chart as a PNG on white, for slides and papers."""
    return _saved(chart, format="png", dpi=200, facecolor="white")


def _saved(chart: Chart, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names may be in any script
        draw(chart).savefig(buffer, **how)
    return buffer.getvalue()


def _fill(axes: Axes, panel: Panel) -> None:
    """Everything within a panel's frame."""
    for line in panel.lines:
        axes.add_line(line.artist())
        if line.band:
            axes.fill_between(line.x, *line.band, color=line.colour, alpha=0.15, linewidth=0)
        if line.text:
            where = (line.x[-1], line.y[-1])
            axes.annotate(line.text, where, (4, 0), textcoords="offset points", va="center", fontsize=8)
    for which, at in panel.rules:
        if at is not None:
            look = {"linewidth": 1, "linestyle": DASHED} if at else {"linewidth": 0.7}
            (axes.axvline if which == "x" else axes.axhline)(at, color=MUTED, **look)
    axes.autoscale_view()
    axes.set(**panel.axes)
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if panel.axes.get(f"{name}scale") == "log" and f"{name}ticks" not in panel.axes:
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        if form := panel.forms.get(name):
            axis.set_major_formatter(FuncFormatter(lambda value, _, form=form: form(value)))
    axes.minorticks_off()
    if panel.names:
        axes.set_yticks(range(len(panel.names)), panel.names)
        axes.set_ylim(len(panel.names) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
    axes.grid(axis="x" if panel.names else "y")
