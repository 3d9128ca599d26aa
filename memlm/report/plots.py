"""Which figures a report has, and what each says. A figure is added by a few lines here."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from memlm.report import access_figures, curves, efficiency, figures
from memlm.report.access import Setting
from memlm.report.access_figures import Colours
from memlm.report.attributed import Attributed
from memlm.report.attribution_figure import loss_saved
from memlm.report.choose import by_model
from memlm.report.runs import Benchmark, Runs
from memlm.report.training import learnt, training_curves

_ALONG: list[tuple[curves.Along, str, str]] = [
    ("chunk_tokens", "length", "The longer the chunk, the more one vector would have to hold."),
    ("layer", "layer", "Layer 0 is the embeddings, before the model has read anything together."),
]
_ACCESS = [  # name, whether a setting has data for it, how it is drawn, title, caption
    ("accuracy-by-memory", access_figures.compared, access_figures.accuracy_by_memory,
     "What is right with the text’s own memories, without, with another’s",
     "A full point far from the hollow one is access to memory; two that coincide are none. Another text’s "
     "memories shall not help: where the cross is beside the full point, any memory would do."),
    ("accuracy-by-place", access_figures.placed, access_figures.accuracy_by_place,
     "How far back memory reaches",
     "Arbitrary access is a flat line at the top. Bands are 95 % intervals, of several seeds the range."),
    ("loss-by-chunk", access_figures.by_chunk, access_figures.loss_by_chunk,
     "Whether next tokens get easier with memories",
     "Causal loss by the number of the chunk. In the first one there is nothing to remember, so that both "
     "lines begin together; what memories give to prediction is the gap after it."),
]  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A figure with its file name, title and an explanation of how to read it."""

    name: str
    group: str  # plots of one group stand side by side
    title: str
    caption: str
    figure: Figure


def plots_of(runs: Runs, settings: list[Setting], models: list[Attributed], series: dict[str, int]) -> list[Plot]:
    """Every figure that these runs have data for."""
    colours = figures.colours_of(series)
    return [
        *_retention(runs, colours),
        *_curves(runs),
        *(plot for i, setting in enumerate(settings) for plot in _access(setting, colours, i, len(settings))),
        *_attribution(models, colours),
        *(plot for i, found in enumerate(runs.benchmarks) for plot in _efficiency(found, i, len(runs.benchmarks))),
        *_training(runs, colours),
    ]


def _retention(runs: Runs, colours: Colours) -> list[Plot]:
    """Recall from single vectors."""
    plots = []
    for i, measurement in enumerate(runs.measurements):
        rows = [row for _, group in by_model(measurement) for row in group]
        suffix, title = (f"-{i + 1}", f" ({measurement.name})") if len(runs.measurements) > 1 else ("", "")
        if any(row.get("accuracy_by_position") for row in rows):
            plots.append(
                Plot(
                    f"accuracy-by-position{suffix}",
                    f"measurement-{i}",
                    f"Where in the chunk recall succeeds{title}",
                    "A memory that holds everything is a flat line at the top; one that holds only the newest tokens "
                    "is near the floor and climbs at the right-hand end. Thin lines are the controls.",
                    figures.accuracy_by_position(rows, colours),
                )
            )
        if any("usable_bits_per_token" in row for row in rows):
            plots.append(
                Plot(
                    f"usable-bits{suffix}",
                    f"measurement-{i}",
                    f"How much the decoder gets out of the vector{title}",
                    "Bars are cross-entropy saved by the memory, with the 95 % interval as a line; pale bars are the "
                    "same encoder before any training. At the dashed line nothing is left to save.",
                    figures.usable_bits(rows, colours),
                )
            )
    return plots


def _curves(runs: Runs) -> list[Plot]:
    """Usable information against length and layer, of rows that can be compared."""
    plots, groups = [], curves.comparable(runs)
    for i, rows in enumerate(groups):
        suffix = f"-{i + 1}" if len(groups) > 1 else ""
        for along, what, about in _ALONG:
            if told := curves.lines(rows, along):
                plots.append(
                    Plot(
                        f"bits-by-{what}{suffix}",
                        "measurement-curves",
                        f"What a vector tells of each token, by {what}",
                        f"{about} One probe for all; bands are 95 % intervals over chunks, dashed lines the same "
                        "architectures before any training. At 0 a decoder does as well without the vector. Where "
                        "lines are far apart, the scale is logarithmic above 0.1.",
                        curves.curve(told, along),
                    )
                )
    return plots


def _access(setting: Setting, colours: Colours, number: int, count: int) -> list[Plot]:
    """With and without memories, by place, by chunk."""
    suffix = f"-{number + 1}" if count > 1 else ""
    return [
        Plot(f"{name}{suffix}", f"access-{number}", title, caption, draw(setting, colours))
        for name, has, draw, title, caption in _ACCESS
        if has(setting)
    ]


def _attribution(models: list[Attributed], colours: Colours) -> list[Plot]:
    """What memories save where they are needed, and elsewhere."""
    shown = [model for model in models if model.told("noisy copy", "copied", "mean", "loss")]
    if not shown:
        return []
    return [
        Plot(
            "loss-saved",
            "attribution",
            "What memories save where they are needed, and elsewhere",
            "Mean over tokens, with the 95 % interval over texts as a line. Copied tokens and noise stand in random "
            "order in the same chunks: a model cannot know which comes next, so that its memories mislead it on noise.",
            loss_saved(shown, colours),
        )
    ]


def _efficiency(found: Benchmark, number: int, count: int) -> list[Plot]:
    """Each cost against the length of the context."""
    suffix = f"-{number + 1}" if count > 1 else ""
    return [
        Plot(
            f"cost-{i + 1}{suffix}",
            f"efficiency-{number}",
            title,
            f"{column}, by the length of the context; both scales are logarithmic.",
            efficiency.cost_figure(found, column),
        )
        for i, (column, title) in enumerate(efficiency.cost_columns(found).items())
    ]


def _training(runs: Runs, colours: Colours) -> list[Plot]:
    """Learning curves against seconds and steps."""
    curves = [run for run in runs.training if run.metrics]
    if not curves:
        return []
    about = (
        "A line for each objective, told apart by its dashes. They are different tasks: compare lines of one kind."
        if len(learnt(curves)) > 1
        else "Held-out text, scored during training; the last point is scored on more of it than the others."
    )
    if any(run.stages for run in curves):
        about += " The stages of a curriculum stand one after the other."
    return [
        Plot("training-seconds", "training", "What a second of training buys", about,
             training_curves(curves, colours, "train_seconds")),
        Plot("training-steps", "training", "What a step of training buys",
             "The same runs against optimiser steps: what is learned from the same number of batches, "
             "whatever a step costs on this machine.",
             training_curves(curves, colours, "step")),
    ]  # fmt: skip
