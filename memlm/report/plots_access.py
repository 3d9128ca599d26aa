"""Which figures a report has of what models get from their memories, and what each shows."""

from collections.abc import Callable
from typing import Any

from memlm.report.figures import DASHED, INK, Colours, Line, Panel, curve, interval, palette, percents, ticks
from memlm.results.compared import Model, Setting, chance_of
from memlm.results.text import Told, number

TASKS = {  # what is compared with, without and with another's memory: task and mode -> title
    ("facts", "teacher-forced"): "facts, one in every chunk",
    ("quote", "teacher-forced"): "quotation continued",
    ("copy", "teacher-forced"): "copy, shown the true tokens before",
    ("copy", "free-running"): "copy, reading what it wrote",
    ("blank", "both"): "blank copy",
    ("recall", "teacher-forced"): "key-value recall",
    ("needle", "teacher-forced"): "needle in text",
}
AWAY = {("recall", "distance"): "chunks between key and question", ("needle", "depth"): "chunk that holds the needle"}
FACTS = {  # what is asked at several lengths -> how its line is called
    "facts": "facts, keys of two tokens",
    "facts-3": "of three",
    "facts-changed": "of three, one of them changed",
    "quote": "quotation continued",
}
Marks = dict[str, dict[str, Any]]  # how marks are called and drawn
MEMORIES: Marks = {"own memory": {"marker": "o"}, "without": {"marker": "o", "hollow": True}}
MEMORIES |= {"another’s": {"marker": "x"}}
SAVED: Marks = {"copied": {"marker": "o"}, "noise among it": {"marker": "x"}}
SAVED |= {"plain text": {"marker": "o", "hollow": True}}


def marked(rows: list[tuple[Model, list[Told | None]]], colours: Colours, marks: Marks, **more: Any) -> Panel:
    """Models in a list, each with a mark for every figure, the first one's interval, and a line to the second."""
    rows, lines = [(model, figures) for model, figures in rows if figures[0]], []
    for place, (model, figures) in enumerate(rows):
        colour, ends = colours[model.name], [figure.value for figure in figures[:2] if figure]
        lines += [Line(ends, [place] * len(ends), colour, width=1.2, alpha=0.45), interval(figures[0], place)]
        shown = [(figure, look) for figure, look in zip(figures, marks.values(), strict=True) if figure]
        lines += [Line([figure.value], [place], colour, width=0, **look) for figure, look in shown]
    return Panel(lines=lines, names=[model.name for model, _ in rows], height=0.21 * len(rows) + 0.42, **more)


def by_memory(setting: Setting, colours: Colours, task: str, mode: str) -> Panel:
    """Tokens right with the own memory (full), without (hollow) and with another text's (cross)."""
    rows = [(m, [m.access(task, memory, mode=mode) for memory in ("own", "none", "other")]) for m in setting]
    axes, rules = {"title": TASKS[task, mode], "xlim": (-0.02, 1.02)}, [("x", chance_of(setting, task))]
    return marked(rows, colours, MEMORIES, axes=axes, forms={"x": percents}, rules=rules)


def loss_saved(models: list[Model], colours: Colours) -> Panel:
    """By how much the loss of copied tokens, noise and plain text grows when memories are hidden."""
    places = (("noisy copy", "copied"), ("noisy copy", "noise"), ("plain", "plain"))
    rows = [(model, [model.figures.get((*place, "mean", "loss", None)) for place in places]) for model in models]
    return marked(rows, colours, SAVED, axes={"xlabel": "nats a token saved by memories"}, rules=[("x", 0)])


def along(setting: Setting, colours: Colours, task: str, metric: str, place: str, memory: str = "own") -> list[Line]:
    """A figure of every model by distance, depth or chunk (the first one is 1, as people count): lines with bands.

    Each model has its colour, and another mark for each time that a colour was used before.
    """
    lines, used = [], [colours[model.name] for model in setting]
    for i, model in enumerate(setting):
        points = [(at + (place != "distance"), told) for at, told in model.curve(task, metric, memory, place)]
        mark = "osD^v"[used[:i].count(used[i]) % 5]
        lines += [curve(points, Line(colour=used[i], marker=mark, size=4, label=model.name))] if points else []
    return lines


def several_lengths(settings: list[Setting]) -> list[list[Model]]:
    """Each model that was asked about texts of several lengths, at all of them, the shortest first."""
    found: dict[str, list[Model]] = {}
    for model in (model for setting in settings for model in setting):
        found.setdefault(model.name, []).append(model)
    return [sorted(models, key=lambda model: model.chunks) for models in found.values() if len(models) > 1]


def by_context(models: list[Model]) -> list[Panel]:
    """One model by the chunks of a text: what is told right of what the text tells once, and next tokens' loss."""

    def line(key: Line, task: str, memory: str, metric: str = "token_accuracy") -> list[Line]:
        points = [(model.chunks, told) for model in models if (told := model.access(task, memory, metric))]
        return [curve(points, key)] if points else []

    colours, right = palette(FACTS), []
    for task, label in FACTS.items():
        right += line(Line(colour=colours[task], marker="o", size=4, label=label), task, "own")
    loss = line(Line(colour=INK, marker="o", size=4), "causal", "own", "cross_entropy")
    loss += line(Line(colour=INK, dash=DASHED), "causal", "none", "cross_entropy")
    axes: dict[str, Any] = {"xscale": "log", "xlabel": "chunks of the text", "xticks": ticks(right + loss)}
    forms: dict[str, Callable[[float], str]] = {"x": number}
    return [
        Panel(lines=right, axes=axes | {"title": "told right", "ylim": (0, 1.02)}, forms=forms | {"y": percents}),
        Panel(lines=[one._replace(band=None) for one in loss], axes=axes | {"title": "next tokens, nats"}, forms=forms),
    ]


def by_place(setting: Setting, colours: Colours, task: str, place: str) -> Panel:
    """Values right by how far back, or how deep, they were told."""
    lines = along(setting, colours, task, "token_accuracy", place)
    axes = {"xlabel": AWAY[task, place], "ylim": (0, 1), "title": f"{TASKS[task, 'teacher-forced']}, values right"}
    axes |= {"xticks": ticks(lines)}
    return Panel(lines=lines, axes=axes, forms={"y": percents}, rules=[("y", chance_of(setting, task))], height=1.75)


def by_chunk(setting: Setting, colours: Colours) -> Panel:
    """Causal loss by the chunk's number: solid with the own memories, dashed without."""
    own, none = (along(setting, colours, "causal", "cross_entropy", "chunk", memory) for memory in ("own", "none"))
    lines = own + [line._replace(dash=DASHED, marker="", label="") for line in none]
    axes = {"xlabel": "chunk of the example", "ylabel": "nats a token", "xticks": ticks(lines)}
    return Panel(lines=[line._replace(band=None) for line in lines], axes=axes)


def legend(marks: Marks) -> list[Line]:
    """What marks mean."""
    return [Line(width=0, label=label, **look) for label, look in marks.items()]
