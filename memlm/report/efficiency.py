"""What memories save (C3): `memlm bench memory` as a table, figures, and ratios."""

import math

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from memlm.report.figures import SERIES, STYLE, WIDTH, legend
from memlm.report.runs import Benchmark
from memlm.report.text import NOTHING, escape, figure_of, number

# A word of a column's name -> how its figure is entitled. Columns with none of these are in the table only.
COSTS = {
    "prefill": "Reading the context",
    "per token": "Writing one token",
    "cache": "Cache that is kept",
    "peak": "Peak memory of a training step",
}


def side_column(benchmark: Benchmark) -> str | None:
    """The column that names what is compared: the first one of words."""
    rows = benchmark.rows
    return next((key for key in _columns(benchmark) if all(isinstance(r.get(key), str) for r in rows)), None)


def length_column(benchmark: Benchmark) -> str | None:
    """The column of context lengths, in tokens if there is one."""
    numeric = [key for key in _columns(benchmark) if any(figure_of(row, key) is not None for row in benchmark.rows)]
    for word in ("context", "length", "tokens", "chunks"):
        if found := next((key for key in numeric if word in key.lower() and not _cost(key)), None):
            return found
    return None


def cost_columns(benchmark: Benchmark) -> dict[str, str]:
    """Columns with a figure of their own -> its title."""
    if not side_column(benchmark) or not length_column(benchmark):
        return {}
    titles = {key: _cost(key) for key in _columns(benchmark)}
    return {key: title for key, title in titles.items() if title and _lines(benchmark, key)}


@rc_context(STYLE)
def cost_figure(benchmark: Benchmark, column: str) -> Figure:
    """A cost against the context's length, both on log scales: a line for each side."""
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes = figure.subplots()
    shown = {}
    colours = {side: SERIES[i % len(SERIES)] for i, side in enumerate(_sides(benchmark))}
    for i, (side, points) in enumerate(_lines(benchmark, column).items()):
        shown[side] = colours[side]
        width = max(1.0, 3.4 - 0.8 * i)  # sides that cost the same stay visible beneath each other
        axes.plot(*zip(*points, strict=True), color=shown[side], marker="o", markersize=2 + width, linewidth=width)
    axes.set(xscale="log", yscale="log", xlabel=length_column(benchmark), ylabel=column)
    lengths = sorted({x for points in _lines(benchmark, column).values() for x, _ in points})
    axes.set_xticks(lengths[:: max(1, len(lengths) // 6)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    axes.grid(axis="y")
    legend(figure, shown, [], columns=4 if max(map(len, shown)) < 12 else 2)
    return figure


def efficiency_table(benchmark: Benchmark) -> str:
    """Every row as the benchmark has it."""
    columns = _columns(benchmark)
    if not columns:
        return ""
    head = "".join(f'<th scope="col"{_word(benchmark, key)}>{escape(key)}</th>' for key in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{_cell(row.get(key))}</th>'
            if i == 0
            else f"<td{_word(benchmark, key)}>{_cell(row.get(key))}</td>"
            for i, key in enumerate(columns)
        )
        + "</tr>"
        for row in benchmark.rows
    )
    return f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def ratios(benchmark: Benchmark) -> str:
    """What the claim is about, as numbers."""
    known = {what: value for what in benchmark.ratios if (value := figure_of(benchmark.ratios, what)) is not None}
    rows = "".join(f"<div><dt>{escape(what)}</dt><dd>{_cell(value)}</dd></div>" for what, value in known.items())
    return f'<dl class="ratios">{rows}</dl>' if rows else ""


def _columns(benchmark: Benchmark) -> list[str]:
    return list(dict.fromkeys(key for row in benchmark.rows for key in row))


def _cost(column: str) -> str | None:
    return next((title for word, title in COSTS.items() if word in column.lower()), None)


def _sides(benchmark: Benchmark) -> list[str]:
    side = side_column(benchmark)
    return list(dict.fromkeys(str(row[side]) for row in benchmark.rows)) if side else []


def _lines(benchmark: Benchmark, column: str) -> dict[str, list[tuple[float, float]]]:
    """Points of a column by side; what is not above 0 has no place on a log scale."""
    side, length = side_column(benchmark), length_column(benchmark)
    lines: dict[str, list[tuple[float, float]]] = {}
    if side is None or length is None:
        return lines
    for row in benchmark.rows:
        x, y = figure_of(row, length), figure_of(row, column)
        if x and y and x > 0 and y > 0:
            lines.setdefault(str(row[side]), []).append((x, y))
    return {name: sorted(points) for name, points in lines.items()}


def _word(benchmark: Benchmark, key: str) -> str:
    return ' class="word"' if all(isinstance(row.get(key), str) for row in benchmark.rows) else ""


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    known = figure_of({"x": value}, "x")
    if known is None:
        return escape(value) if isinstance(value, str) and value != "-" else NOTHING
    if known == int(known) or abs(known) >= 1000:
        return number(known)
    return number(known, max(0, 2 - math.floor(math.log10(abs(known)))))  # three digits that count
