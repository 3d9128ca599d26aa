"""Which figures a report has, and what each says. A figure is added by one function here and in `figures`."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from memlm.report import figures
from memlm.report.choose import by_model
from memlm.report.runs import Runs


@dataclass(frozen=True)
class Plot:
    """A figure with its file name, title and an explanation of how to read it."""

    name: str
    group: str  # plots of one group stand side by side
    title: str
    caption: str
    figure: Figure


def plots_of(runs: Runs) -> list[Plot]:
    """Every figure that these runs have data for."""
    colours = figures.colours_of(runs.models)
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
    curves = [run for run in runs.training if run.metrics]
    if curves:
        about = (
            "Solid lines recall the tokens of one vector; dashed lines predict the next token from the ones before, "
            "which is another task: compare lines of one kind only."
            if any(run.causal for run in curves)
            else "Held-out text, scored during training; the last point is scored on more of it than the others."
        )
        plots += [
            Plot("training-seconds", "training", "What a second of training buys", about,
                 figures.training_curves(curves, colours, "train_seconds")),
            Plot("training-steps", "training", "What a step of training buys",
                 "The same runs against optimiser steps: what is learned from the same number of batches, "
                 "whatever a step costs on this machine.",
                 figures.training_curves(curves, colours, "step")),
        ]  # fmt: skip
    return plots
