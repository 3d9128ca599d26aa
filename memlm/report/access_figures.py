"""The figures of access to memory, each a function from a setting to a matplotlib figure."""

from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from memlm.report.access import Model, Setting, Told
from memlm.report.figures import INK, MUTED, STYLE, WIDTH, legend

Colours = dict[str, str]  # of models
DASHED = (0, (4, 1.5))
FIGURES = {  # what is compared with, without and with another's memory: task and mode -> title
    ("copy", "teacher-forced"): "copy, shown the true tokens before",
    ("copy", "free-running"): "copy, reading what it wrote",
    ("blank", "both"): "blank copy",
    ("recall", "teacher-forced"): "key-value recall",
    ("needle", "teacher-forced"): "needle in text",
}
AWAY = {("recall", "distance"): "chunks between key and question", ("needle", "depth"): "chunk that holds the needle"}


def compared(setting: Setting) -> list[tuple[str, str]]:
    """The tasks and modes that some model has an accuracy of."""
    return [key for key in FIGURES if any(_accuracy(model, key, "own") for model in setting.models)]


def placed(setting: Setting) -> list[tuple[str, str]]:
    """The tasks whose accuracy is known by place, and by which kind of place."""
    return [key for key in AWAY if any(_by_place(model, key) for model in setting.models)]


def by_chunk(setting: Setting) -> bool:
    """Whether some model's loss is known for every chunk."""
    return any(model.curve("causal", "cross_entropy", "own", "chunk") for model in setting.models)


@rc_context(STYLE)
def accuracy_by_memory(setting: Setting, colours: Colours) -> Figure:
    """Tokens right with the own memory (full), without (hollow) and with another text's (cross), a panel a task."""
    tasks, models = compared(setting), setting.models
    sizes = [len([m for m in models if _accuracy(m, key, "own")]) for key in tasks]
    figure = Figure(figsize=(WIDTH, 0.75 + sum(0.21 * n + 0.42 for n in sizes)), layout="constrained")
    panels = figure.subplots(len(tasks), 1, sharex=True, squeeze=False, height_ratios=[n + 0.8 for n in sizes])[:, 0]
    for axes, key in zip(panels, tasks, strict=True):
        shown = [model for model in models if _accuracy(model, key, "own")]
        for place, model in enumerate(shown):
            _compare(axes, place, model, key, colours[model.name])
        axes.set_yticks(range(len(shown)), [model.name for model in shown])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.6), title=FIGURES[key])
        if chance := setting.chance(key[0]):
            axes.axvline(chance, color=MUTED, linewidth=1, linestyle=DASHED)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
    panels[-1].xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    keys = [
        Line2D([], [], color=MUTED, marker="o", linestyle="", markersize=5, label="own memory"),
        Line2D([], [], color=MUTED, marker="o", linestyle="", markersize=5, fillstyle="none", label="without"),
        Line2D([], [], color=MUTED, marker="x", linestyle="", markersize=5, label="another’s"),
        *([_chance_key()] if any(setting.chance(task) for task, _ in tasks) else []),
    ]
    legend(figure, {}, keys, columns=4)
    return figure


@rc_context(STYLE)
def accuracy_by_place(setting: Setting, colours: Colours) -> Figure:
    """Values right by how far back, or how deep, they were told: a panel a task, a line a model."""
    tasks = placed(setting)
    figure = Figure(figsize=(WIDTH, 0.9 + 1.75 * len(tasks)), layout="constrained")
    panels = figure.subplots(len(tasks), 1, squeeze=False)[:, 0]
    shown: dict[str, Line2D] = {}
    for axes, key in zip(panels, tasks, strict=True):
        for model in setting.models:
            if points := _by_place(model, key):
                shown[model.name] = _key(model, setting, colours)
                _line(axes, points, shown[model.name], clip_on=False)
                _band(axes, points, colours[model.name])
        if chance := setting.chance(key[0]):
            axes.axhline(chance, color=MUTED, linewidth=1, linestyle=DASHED)
        axes.set(ylim=(0, 1), xlabel=AWAY[key], title=f"{FIGURES[key[0], 'teacher-forced']}, values right")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
    keys = [_chance_key()] if any(setting.chance(task) for task, _ in tasks) else []
    legend(figure, {}, [*shown.values(), *keys], columns=3 if max(map(len, shown)) < 20 else 2)
    return figure


@rc_context(STYLE)
def loss_by_chunk(setting: Setting, colours: Colours) -> Figure:
    """Causal loss by the chunk's number: solid with the own memories, dashed without."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    shown: dict[str, Line2D] = {}
    for model in setting.models:
        for memory in ("own", "none"):
            if points := model.curve("causal", "cross_entropy", memory, "chunk"):
                shown[model.name] = _key(model, setting, colours)
                points = [(at + 1, told) for at, told in points]
                _line(
                    axes, points, shown[model.name], **({"linestyle": DASHED, "marker": ""} if memory == "none" else {})
                )
    axes.set(xlabel="chunk of the example", ylabel="nats a token")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    keys = [
        Line2D([], [], color=MUTED, label="with own memories"),
        Line2D([], [], color=MUTED, linestyle=(0, (3, 1.2)), label="without"),
    ]
    legend(figure, {}, [*shown.values(), *keys], columns=3 if max(map(len, shown)) < 20 else 2)
    return figure


def _compare(axes: Axes, place: int, model: Model, key: tuple[str, str], colour: str) -> None:
    """One model's three points of a task, and the distance that its memory makes."""
    own, none, other = (_accuracy(model, key, memory) for memory in ("own", "none", "other"))
    assert own
    if none:
        axes.plot((none.value, own.value), (place, place), color=colour, linewidth=1.2, alpha=0.45, zorder=1)
    if own.interval:
        axes.plot(own.interval, (place, place), color=INK, linewidth=1.1, solid_capstyle="butt", zorder=2)
    marks = {"linestyle": "", "markersize": 5, "color": colour, "clip_on": False}
    if other:
        axes.plot(other.value, place, marker="x", **marks)
    if none:
        axes.plot(none.value, place, marker="o", fillstyle="none", **marks)
    axes.plot(own.value, place, marker="o", **marks)


def _accuracy(model: Model, key: tuple[str, str], memory: str) -> Told | None:
    return model.told(key[0], "token_accuracy", memory, key[1])


def _by_place(model: Model, key: tuple[str, str]) -> list[tuple[int, Told]]:
    """Places as people count them: the first chunk is 1."""
    first = 1 if key[1] == "depth" else 0
    return [(at + first, told) for at, told in model.curve(key[0], "token_accuracy", "own", key[1])]


def _key(model: Model, setting: Setting, colours: Colours) -> Line2D:
    """How a model's lines look: another mark for each time that its colour was used before it."""
    before = setting.models[: setting.models.index(model)]
    mark = "osD^v"[sum(colours[other.name] == colours[model.name] for other in before) % 5]
    return Line2D([], [], color=colours[model.name], marker=mark, markersize=4, label=model.name)


def _line(axes: Axes, points: list[tuple[int, Told]], key: Line2D, **style: Any) -> None:
    look = {"color": key.get_color(), "marker": key.get_marker(), "markersize": 4, "linewidth": 1.8}
    axes.plot([at for at, _ in points], [told.value for _, told in points], **{**look, **style})


def _band(axes: Axes, points: list[tuple[int, Told]], colour: str) -> None:
    spread = [(at, *told.interval) for at, told in points if told.interval]
    if len(spread) > 1:
        places, low, high = zip(*spread, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _chance_key() -> Line2D:
    return Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (3, 1.2)), label="chance")
