"""Which figures a report has; and what those of retention, cost and training show: from rows to panels of a `Chart`."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import takewhile
from statistics import fmean
from typing import Any

from matplotlib.scale import SymmetricalLogScale

from memlm.report.figures import (
    DASHED,
    MUTED,
    SERIES,
    Chart,
    Colours,
    Line,
    Panel,
    curve,
    interval,
    palette,
    percents,
    ticks,
)
from memlm.report.plots_access import (
    AWAY,
    MEMORIES,
    SAVED,
    TASKS,
    by_chunk,
    by_context,
    by_memory,
    by_place,
    legend,
    loss_saved,
    several_lengths,
)
from memlm.report.views import columns_of
from memlm.results.choose import by_model
from memlm.results.compared import Model, Setting, chance_of
from memlm.results.lineage import LEARNS, last_stage, parts_of, unseeded
from memlm.results.ranking import rankings
from memlm.results.runs import CONTROLS, Row, Run, Runs, is_control, owner
from memlm.results.text import Told, figure_of, number, told

# A word of a benchmark's column -> how its figure is entitled; others are in the table only.
COSTS = {"prefill": "Reading the context", "per token": "Writing one token", "cache": "Cache that is kept"}
COSTS |= {"peak": "Peak memory of a training step"}
DASHES: dict[str, Any] = {"autoencode": "-", "noise": (0, (8, 1.5)), "causal": (0, (4, 1.5)), "blank": (0, (1, 1.3))}
DASHES |= {"copy": (0, (6, 1.5, 1, 1.5)), "recall": (0, (5, 1.5, 1, 1.5, 1, 1.5))}
DECODERS = [Line(label="own decoder"), Line(dash=DASHED, label="fresh decoder"), Line(width=0.8, label="controls")]


def charts_of(
    runs: Runs, settings: list[Setting], models: list[Model], series: dict[str, int]
) -> dict[str, list[Chart]]:
    """Every figure that these runs have data for, by the section that it stands in."""
    colours = {name: SERIES[i] for name, i in series.items()}
    charts: dict[str, list[Chart]] = defaultdict(list)

    def add(section: str, kind: str, one: str, panels: list[Panel], *keys: Line, **more: Any) -> None:
        panels = [panel for panel in panels if panel.lines]
        if panels:
            charts[section].append(Chart(kind=kind, name=kind + one, panels=panels, keys=list(keys), **more))

    for run, one in _numbered(runs.measurement):
        rows, about = [row for group in by_model(run) for row in group], f" ({run.name})" if one else ""
        add("measurement", "accuracy-by-position", one, [by_position(rows, colours)], *DECODERS, about=about)
        add("measurement", "usable-bits", one, [usable_bits(rows, colours)], about=about)
    twin = Line(width=1.2, dash=DASHED, label="untrained twin")
    for run, one in _numbered(runs.measurement):
        add(
            "measurement", "bits-by-budget", one, [by_budget(run, colours)], twin, about=f" ({run.name})" if one else ""
        )
    for rows, one in _numbered(comparable(runs)):
        add("measurement", "bits-by-length", one, [bits_along(rows, "chunk_tokens", "tokens of a chunk")], twin)
        add("measurement", "bits-by-layer", one, [bits_along(rows, "layer", "layer")], twin)
    for models_at, one in _numbered(several_lengths(settings)):
        memories = Line(label="loss with own memories"), Line(dash=DASHED, label="without")
        add("far", "accuracy-by-context", one, by_context(models_at), *memories, about=models_at[0].name)
    for setting, one in _numbered(settings):
        known = any(chance_of(setting, task) is not None for task, _ in TASKS)
        chance = [Line(width=1, dash=DASHED, label="chance")] if known else []
        panels = [by_memory(setting, colours, *key) for key in TASKS]
        add(f"access{one}", "accuracy-by-memory", one, panels, *legend(MEMORIES), *chance, columns=4)
        add(f"access{one}", "accuracy-by-place", one, [by_place(setting, colours, *key) for key in AWAY], *chance)
        memories = Line(label="with own memories"), Line(dash=DASHED, label="without")
        add(f"access{one}", "loss-by-chunk", one, [by_chunk(setting, colours)], *memories)
    add("attribution", "loss-saved", "", [loss_saved(models, colours)], *legend(SAVED))
    for run, one in _numbered(runs.benchmark):
        for i, (title, about, panel) in enumerate(costs(run), 1):
            add(f"efficiency{one}", "cost", f"-{i}{one}", [panel], title=title, about=about)
    trained = [run for run in runs.training if run.rows]
    known = {name for run in trained for row in run.rows for name in parts_of(run, row)}
    learnt = [*(name for name in LEARNS if name in known), *sorted(known - LEARNS.keys())]
    keys = [Line(dash=DASHES.get(name, "-"), label=LEARNS.get(name, name)) for name in learnt]
    about = "stages" if any(run.stages for run in trained) else ""
    add("training", "training-seconds", "", training(trained, colours, "train_seconds"), *keys, about=about)
    add("training", "training-steps", "", training(trained, colours, "step"), *keys)
    return charts


def by_position(rows: list[Row], colours: Colours) -> Panel:
    """Share of right tokens at each position of a chunk: a line for each model and decoder, controls thin."""
    lines = []
    for row in sorted((row for row in rows if row.get("accuracy_by_position")), key=is_control, reverse=True):
        curve, dash = row["accuracy_by_position"], "-" if row["decoder"] == "own" else DASHED
        look: dict[str, Any] = {"width": 0.8, "alpha": 0.65} if is_control(row) else {"dash": dash, "label": owner(row)}
        lines.append(Line(range(1, len(curve) + 1), curve, colours.get(owner(row), MUTED), **look))
    axes = {"xlabel": "position in the chunk", "ylabel": "tokens right", "ylim": (0, 1)}
    axes |= {"xlim": (1, max((len(line.x) for line in lines), default=2))}
    return Panel(lines=lines, axes=axes, forms={"y": percents}, height=max(2.6, 0.245 * len(_barred(rows))))


def usable_bits(rows: list[Row], colours: Colours) -> Panel:
    """Usable bits per token with 95 % intervals; untrained twins as pale bars, perfect recall as a dashed line."""
    shown, lines = _barred(rows), []
    floor = next((nats for row in rows if row["training"] == "none" and (nats := figure_of(row, "cross_entropy"))), 0)
    perfect = floor / math.log(2) or None  # in bits, what a decoder without memory leaves to know
    for place, (row, bits) in enumerate(shown):
        alpha, end = 0.4 if is_control(row) else 1.0, max(bits.value, 0, *bits.ends)
        lines.append(Line([0, bits.value], [place] * 2, colours[owner(row)], width=11.5, alpha=alpha))
        lines += [interval(bits, place), Line([end], [place], width=0, text=number(bits.value, 2))]
    names = [f"{owner(row)}, {CONTROLS['untrained'] if is_control(row) else row['decoder']}" for row, _ in shown]
    widest = max([perfect or 0, *(bits.value for _, bits in shown)], default=0)
    axes = {"xlabel": "usable bits per token", "xlim": (None, 1.14 * widest or None)}
    axes |= {"title": f"dashed: perfect recall, {number(perfect, 2)}" if perfect else ""}
    height = 0.245 * len(shown) + 0.4
    return Panel(lines=lines, axes=axes, names=names, rules=[("x", perfect)], height=height)


def by_budget(run: Run, colours: Colours) -> Panel:
    """Usable bits against the chunks that a probe learnt from, by the family with most budgets; twins dashed."""
    found: dict[tuple[str, bool], list[tuple[float, Told]]] = {}
    families = Counter(row["family"] for row in run.curves)
    for row in run.curves:
        if row["family"] == families.most_common(1)[0][0] and (bits := told(row, "usable_bits_per_token")):
            found.setdefault((owner(row), row["training"] == "untrained"), []).append((row["train_chunks"], bits))
    lines = []
    for (name, twin), points in found.items():
        look: dict[str, Any] = {"dash": DASHED, "width": 1.2} if twin else {"label": name}
        line = Line(colour=colours.get(name, MUTED), marker="o", size=3.5, **look)
        lines += [curve(sorted(points), line)] if len(points) > 1 else []
    axes: dict[str, Any] = {"xlabel": "chunks that the probe learnt from", "ylabel": "usable bits per token"}
    axes |= {"xscale": "log", "xticks": ticks(lines)}
    return Panel(lines=lines, axes=axes, forms={"x": "{:,.0f}".format, "y": "{:g}".format}, rules=[("y", 0)])


def comparable(runs: Runs) -> list[list[Row]]:
    """Rows of fresh decoders, trained encoders and their twins, of the same data and after the same budget."""
    groups: dict[str, list[Row]] = {}
    for table in rankings(runs):
        if table.shared["decoder"] == "fresh":
            shared = json.dumps([table.shared["data"], table.shared["vocab_size"], table.probe])
            groups.setdefault(shared, []).extend(row for row in table.rows if row["training"] != "none")
    return list(groups.values())


def bits_along(rows: list[Row], along: str, label: str) -> Panel:
    """Usable bits against the chunk's length or the layer: a line with its 95 % band, untrained twins dashed.

    A line is a model at several lengths, or several layers of it at one length. Models of ours have one length each:
    those of one kind and training share a line, through the mean of those of the same length.
    """
    found: dict[tuple[str, bool], dict[float, list[Told]]] = {}
    lengths = {row["chunk_tokens"] for row in rows if figure_of(row, "layer") is not None}
    for row in rows:
        x, bits, name = figure_of(row, along), told(row, "usable_bits_per_token"), owner(row)
        if along == "layer" and x is not None:
            name = f"{name.removesuffix(' layer {layer} {readout}'.format(**row))}, {row['readout']}"
            name += f", {row['chunk_tokens']} tokens" if len(lengths) > 1 else ""
        elif "layer" not in row:
            name = f"{row.get('encoder', 'encoder')}, {row['training']}"
        if x is not None and bits:
            found.setdefault((name, row["training"] == "untrained"), {}).setdefault(x, []).append(bits)
    found = {key: points for key, points in sorted(found.items()) if len(points) > 1}
    colours, lines = palette(name for name, _ in found), []
    for (name, twin), points in found.items():
        look: dict[str, Any] = {"dash": DASHED, "width": 1.2} if twin else {}
        means = [(x, _mean(some)) for x, some in sorted(points.items())]
        lines.append(curve(means, Line(colour=colours[name], marker="o", size=3.5, label=name, **look)))
    axes: dict[str, Any] = {"xlabel": label, "ylabel": "usable bits per token"}
    axes |= {"xticks": ticks(lines)}
    highest = [max(line.y) for line in lines]
    if max(highest, default=0) > 20 * max(min(highest, default=0), 0):  # the low lines would lie on the axis
        low = min(0, *(end for line in lines if line.band for end in line.band[0])) - 0.02
        axes |= {"yscale": SymmetricalLogScale(None, linthresh=0.1), "ylim": (low, max(highest) * 2)}
    return Panel(lines=lines, axes=axes, forms={"y": "{:g}".format}, rules=[("y", 0)])


def costs(run: Run) -> list[tuple[str, str, Panel]]:
    """Each cost of a benchmark against the context's length, both on log scales, as title, column and a line a side."""
    columns = columns_of(run)
    side = next((key for key, words in columns.items() if words), "")
    titles = {key: title for key in columns for word, title in COSTS.items() if word in key.lower()}
    words = ("context", "length", "tokens", "chunks")
    free = [key for word in words for key in columns if word in key.lower() and key not in (side, *titles)]
    colours = palette(row[side] for row in run.rows) if side else {}
    found = []
    for column, title in titles.items() if colours and free else ():
        lines = []
        for i, (name, colour) in enumerate(colours.items()):
            pairs = [(figure_of(row, free[0]), figure_of(row, column)) for row in run.rows if row[side] == name]
            points = sorted((x, y) for x, y in pairs if x and y and x > 0 and y > 0)
            width = max(1.0, 3.4 - 0.8 * i)  # sides that cost the same stay visible beneath each other
            look = {"width": width, "marker": "o", "size": 2 + width, "label": name}
            lines += [Line([x for x, _ in points], [y for _, y in points], colour, **look)] if points else []
        lengths = ticks(lines)
        axes = {"xscale": "log", "yscale": "log", "xlabel": free[0], "ylabel": column}
        axes |= {"xticks": lengths[:: max(1, len(lengths) // 6)]}
        found.append((title, column, Panel(lines=lines, axes=axes, forms={"x": number, "y": "{:,.12g}".format})))
    return found


def training(runs: list[Run], colours: Colours, x: str) -> list[Panel]:
    """Held-out token accuracy and cross-entropy (log scale) against training seconds or steps.

    A line for each objective of a run; a stage of a curriculum begins where the one before it ended.
    """
    lines: dict[str, list[Line]] = {"token_accuracy": [], "cross_entropy": []}
    # Stages are named of one curriculum only, maybe of several seeds: more would not be told apart.
    ends = list(dict.fromkeys(last_stage(run) for run in runs if run.stages))
    named = ends[0] if len(set(map(unseeded, ends))) == 1 else None
    for run in runs:
        curriculum = run.stages and colours.get(last_stage(run)) == colours[run.name]  # whose stages share a colour
        label = unseeded(run.name.rpartition("/")[0] if curriculum else run.name)
        before = {f"{run.name.rpartition('/')[0]}/{stage}" for stage in takewhile(run.path.name.__ne__, run.stages)}
        begin = sum(figure_of(one.last, x) or 0 for one in runs if one.name in before)
        for name in dict.fromkeys(name for row in run.rows for name in parts_of(run, row)):
            parts = [part for row in run.rows if (part := parts_of(run, row).get(name))]
            for key, some in lines.items():
                pairs = [(figure_of(part, x), figure_of(part, key)) for part in parts]
                points = [(begin + at, y) for at, y in pairs if at is not None and y is not None]
                look = {"size": 3, "dash": DASHES.get(name, "-"), "marker": "" if points[1:] else "o", "label": label}
                some.append(Line([at for at, _ in points], [y for _, y in points], colours[run.name], **look))
        if run.stages and last_stage(run) == named:
            lines["token_accuracy"].append(Line([begin] * 2, [0, 0.45], width=0.6, text=run.path.name))
    axes = {"xlabel": "training seconds" if x == "train_seconds" else "steps", "xlim": (0, None)}
    right = axes | {"title": "tokens right, held out", "ylim": (0, 1.02)}
    loss = axes | {"title": "cross-entropy, held out (nats a token, log scale)", "yscale": "log"}
    forms: list[dict[str, Callable[[float], str]]] = [{"x": number, "y": percents}, {"x": number, "y": "{:g}".format}]
    panels = zip(lines.values(), (right, loss), forms, strict=True)
    return [Panel(lines=some, axes=how, forms=form, height=2.1) for some, how, form in panels]


def _barred(rows: list[Row]) -> list[tuple[Row, Told]]:
    """Rows with a bar: trained encoders and their untrained twins; wrong memories cost bits without bound."""
    shown = [row for row in rows if not is_control(row) or row["training"] == "untrained"]
    return [(row, bits) for row in shown if (bits := told(row, "usable_bits_per_token"))]


def _mean(some: list[Told]) -> Told:
    low, high = (fmean(told.ends[end] for told in some) for end in (0, 1))
    return Told(fmean(told.value for told in some), (low, high))


def _numbered(some: Sequence[Any]) -> list[tuple[Any, str]]:
    """Each with what tells its figures' files apart from the others'."""
    return [(one, f"-{i}" if len(some) > 1 else "") for i, one in enumerate(some, 1)]
