"""Training runs: a curve for each objective, curricula stage after stage, and where each run ended."""

from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from memlm.report.colours import last_stage
from memlm.report.figures import MUTED, STYLE, WIDTH, legend
from memlm.report.lineage import objectives_of, unseeded
from memlm.report.runs import Row, TrainingRun
from memlm.report.tables import Form, digits, plain, swatch
from memlm.report.text import escape, figure_of, number, share

X = Literal["train_seconds", "step"]
LEARNS = {
    "autoencode": "recall",
    "noise": "recall of random tokens",
    "causal": "next token",
    "copy": "copy",
    "blank": "blank copy",
    "recall": "key-value recall",
}
LINES: dict[str, Any] = {
    "autoencode": "-",
    "noise": (0, (8, 1.5)),
    "causal": (0, (4, 1.5)),
    "copy": (0, (6, 1.5, 1, 1.5)),
    "blank": (0, (1, 1.3)),
    "recall": (0, (5, 1.5, 1, 1.5, 1, 1.5)),
}


def parts_of(run: TrainingRun, row: Row) -> dict[str, Row]:
    """The held-out figures of a row under the objective that they are of; a combined one has several."""
    parts = row.get("parts")
    if isinstance(parts, dict) and parts and all(isinstance(part, dict) for part in parts.values()):
        return {name: {**row, **part} for name, part in parts.items()}
    return {next(iter(objectives_of(run)), str(run.config.get("objective"))): row}


def learnt(runs: list[TrainingRun]) -> list[str]:
    """All objectives that there are figures of, in our order."""
    found = {name for run in runs for row in run.metrics for name in parts_of(run, row)}
    return [*(name for name in LEARNS if name in found), *sorted(found - LEARNS.keys())]


@rc_context(STYLE)
def training_curves(runs: list[TrainingRun], colours: dict[str, str], x: X) -> Figure:
    """Held-out token accuracy and cross-entropy (log scale) against training seconds or steps.

    A line for each objective of a run; a stage of a curriculum begins where the one before it ended.
    """
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    accuracy, entropy = figure.subplots(2, 1, sharex=True)
    begins = {run.name: _begin(run, runs, x) for run in runs}
    for axes, key in ((accuracy, "token_accuracy"), (entropy, "cross_entropy")):
        for run in runs:
            for name, points in _points(run, x, key).items():
                style = {"marker": "o", "markersize": 3} if len(points) == 1 else {}
                along = [begins[run.name] + point[0] for point in points]
                line = LINES.get(name, "-")
                heights = [point[1] for point in points]
                axes.plot(along, heights, color=colours[run.name], linestyle=line, linewidth=1.8, **style)
        axes.grid(axis="y")
    accuracy.set(ylim=(0, 1.02), title="tokens right, held out")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    entropy.set(yscale="log", title="cross-entropy, held out (nats a token, log scale)")
    entropy.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    entropy.yaxis.set_minor_formatter("")
    entropy.set_xlabel("training seconds" if x == "train_seconds" else "steps")
    entropy.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    entropy.set_xlim(left=0)
    _name_stages(accuracy, runs, begins)
    keys = [Line2D([], [], color=MUTED, linestyle=LINES.get(n, "-"), label=LEARNS.get(n, n)) for n in learnt(runs)]
    legend(figure, {_label(run, colours): colours[run.name] for run in runs}, keys, long=len(keys) > 2)
    return figure


def training_table(runs: list[TrainingRun], series: dict[str, int]) -> str:
    """Where each training run ended: its budget, its speed and its last held-out figures, a line an objective."""
    budget: list[tuple[str, str, Form]] = [
        ("steps", "step", number),
        ("tokens read", "tokens", number),
        ("seconds", "train_seconds", number),
        ("tokens a second", "tokens_per_second", number),
    ]
    figures: list[tuple[str, str, Form]] = [
        ("held-out nats a token", "cross_entropy", digits(4)),
        ("tokens right, %", "token_accuracy", share),
        ("whole chunks right, %", "exact_match", share),
    ]
    body = ""
    for run in runs:
        state = "" if run.summary else '<small class="tag">not finished</small>'
        for i, (name, row) in enumerate(parts_of(run, run.last).items()):
            head = f"{swatch(series.get(run.name))}{escape(run.name)}{state}" if i == 0 else ""
            spent = "".join(f"<td>{plain(figure_of(row, key), form) if i == 0 else ''}</td>" for _, key, form in budget)
            got = "".join(f"<td>{plain(figure_of(row, key), form)}</td>" for _, key, form in figures)
            kind = ' class="part"' if i else ""
            task = escape(LEARNS.get(name, name))
            body += f'<tr{kind}><th scope="row">{head}</th><td class="word">{task}</td>{spent}{got}</tr>'
    titles = "".join(f'<th scope="col">{title}</th>' for title, _, _ in [*budget, *figures])
    return (
        '<div class="scroll"><table class="plain"><thead><tr><th scope="col">run</th>'
        f'<th scope="col" class="word">learns</th>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _points(run: TrainingRun, x: X, key: str) -> dict[str, list[tuple[float, float]]]:
    """What a run's curves go through, under their objectives."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in run.metrics:
        for name, part in parts_of(run, row).items():
            along, height = figure_of(part, x), figure_of(part, key)
            if along is not None and height is not None:
                points.setdefault(name, []).append((along, height))
    return points


def _begin(run: TrainingRun, runs: list[TrainingRun], x: X) -> float:
    """What the stages before it took."""
    if not run.stages:
        return 0.0
    beside = {other.path.name: other for other in runs if other.path.resolve().parent == run.path.resolve().parent}
    before = run.stages[: run.stages.index(run.path.resolve().name)]
    return sum(figure_of(beside[name].last, x) or 0.0 for name in before if name in beside)


def _name_stages(axes: Axes, runs: list[TrainingRun], begins: dict[str, float]) -> None:
    """Where stages begin, if there is one curriculum only, maybe of several seeds: more would not be told apart."""
    staged = [run for run in runs if run.stages]
    if len({unseeded(last_stage(run)) for run in staged}) != 1:
        return
    for run in (run for run in staged if last_stage(run) == last_stage(staged[0])):
        axes.axvline(begins[run.name], color=MUTED, linewidth=0.6, alpha=0.7)
        where = (begins[run.name], 0.03)
        axes.annotate(run.path.name, where, (2, 0), textcoords="offset points", rotation=90, fontsize=7, color=MUTED)


def _label(run: TrainingRun, colours: dict[str, str]) -> str:
    """Who has this colour: a curriculum where its stages share it."""
    if run.stages and colours.get(last_stage(run)) == colours[run.name]:
        return unseeded(run.name.rpartition("/")[0])
    return unseeded(run.name)
