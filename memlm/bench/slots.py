"""Training time until 50 % of the tokens of the part tune come back out of 256 numbers, 16 tokens in: slots against
the paper's mixer (flat, kernel 4, last-token readout, repeat, no norm on the memory). Asked: at least 20 times less.

The mixer is run twice, with its own optimiser and with that of slots, so that what the architecture gives and what the
optimiser gives are told apart.
"""

import io
import sys
from contextlib import nullcontext, redirect_stderr
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.ticker import PercentFormatter

from memlm import ui
from memlm.bench import figure
from memlm.bench.form import Options, Report
from memlm.bench.timing import matrix_rate
from memlm.errors import WorkError
from memlm.presets import preset
from memlm.report.figures import MUTED, SERIES
from memlm.train.config import TrainConfig
from memlm.train.loop import train
from memlm.train.tracking import read_metrics

TOKENS, MEMORY, BATCH = 16, 256, 128
OURS, PAPER, SWAPPED = "slots", "mixer", "mixer, optimiser of slots"
SIDES = {OURS: ("slots", "slots"), PAPER: ("mixer", "mixer"), SWAPPED: ("mixer", "slots")}  # presets: model, optimiser
EVAL_EVERY = 5  # steps; scoring is not counted in training seconds
FOREVER = 10**6  # steps; time ends a side

Curve = list[tuple[float, float]]  # (training seconds, held-out token accuracy)


def sides(data: Path, seconds: float) -> dict[str, TrainConfig]:
    """The config of each side: the preset at 16 tokens, with a rate that rises for 50 steps and then stays."""
    return {
        side: replace(
            preset(model),
            data=data,
            model=replace(preset(model).model, chunk_tokens=TOKENS, memory_dim=MEMORY),
            optim=replace(preset(optimiser).optim, warmup=50, decay_from=1.0),
            batch=BATCH,
            steps=FOREVER,
            max_seconds=seconds,
            eval_every=EVAL_EVERY,
            checkpoint_every=FOREVER,
            compile="off",
            precision="fp32",
        )
        for side, (model, optimiser) in SIDES.items()
    }


def run(options: Options, *, target: float = 0.5) -> Report:
    """Train one side after the other for as many seconds and read when each one's curve passes `target`."""
    corpus, seconds = options.corpus(), options.seconds or 120.0
    per_cent = f"{100 * target:g} %"
    report = Report(
        name="slots",
        columns=(
            "side",
            f"seconds to {per_cent}",
            "ms a step",
            "best within its time, %",
            "machine before it, GFLOP/s",
        ),
        setting=(
            f"{TOKENS} tokens, {MEMORY} numbers, batch {BATCH}, fp32, seed 0, data {corpus.hash[:12]} (vocabulary "
            f"{corpus.vocab_size}); {seconds:g} s of training a side, one after the other; learning rates as in the "
            f"presets, rising for 50 steps and constant after that for every side, so that no side is punished by a "
            f"schedule that does not fit its time; scored every {EVAL_EVERY} steps on 512 chunks of the part tune, "
            "which is not counted; linear between two scores"
        ),
        device=options.device.type,
    )
    curves: dict[str, Curve] = {}
    reached: dict[str, float | None] = {}
    for name, config in sides(options.data, seconds).items():
        ui.say(f"{name}: {seconds:g} s of training")
        rate = matrix_rate(options.device)
        metrics, failure = _train(config)
        curves[name] = curve = [(row["train_seconds"], row["token_accuracy"]) for row in metrics]
        reached[name] = time = crossing(curve, target)
        spent = curve[-1][0] if curve else 0.0
        if failure:
            report.notes.append(f"{name} stopped after {spent:.1f} s: {failure}")
        step_ms = 1000 * spent / metrics[-1]["step"] if metrics else 0.0
        best = 100 * max((accuracy for _, accuracy in curve), default=0.0)
        report.rows.append((name, f"more than {spent:.4g}" if time is None else time, step_ms, best, rate / 1e9))

    for name, asked in ((PAPER, "asked, at least 20"), (SWAPPED, "the architecture's share")):
        what, theirs, ours = f"time to {per_cent}, {name} / slots", reached[name], reached[OURS]
        if ours is None:
            report.notes.append(f"slots itself did not reach {per_cent}: there is no ratio to {name}.")
        elif theirs is not None:
            report.ratios[f"{what} ({asked})"] = theirs / ours
        elif curves[name]:
            report.ratios[f"{what} ({asked}; a lower bound, {name} never got there)"] = curves[name][-1][0] / ours
    report.figure = _plot(curves, target, options.out / "slots.png")
    thin = {name: thinned(curve, reached[name]) for name, curve in curves.items()}
    report.raw = {"seconds_to_target": reached, "curves": thin}
    return report


def crossing(curve: Curve, target: float) -> float | None:
    """When the curve, which starts from nothing, first reaches `target`; linear between its points, None if never."""
    before, below = 0.0, 0.0
    for seconds, accuracy in curve:
        if accuracy >= target:
            return before + (seconds - before) * (target - below) / (accuracy - below) if accuracy > below else seconds
        before, below = seconds, accuracy
    return None


def thinned(curve: Curve, near: float | None = None) -> Curve:
    """Points 2 % apart in time, the last one, and all those within a tenth of `near`."""
    kept: Curve = []
    for seconds, accuracy in curve:
        close = near is not None and abs(seconds - near) < 0.1 * near
        if not kept or close or seconds >= 1.02 * kept[-1][0] or seconds == curve[-1][0]:
            kept.append((seconds, accuracy))
    return kept


def _train(config: TrainConfig) -> tuple[list[dict[str, Any]], str]:
    """The metrics of a run, and why it stopped early if it did; hundreds of scores are not a log for people."""
    quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with TemporaryDirectory() as scratch, quiet:
        failure = ""
        try:
            train(config, Path(scratch) / "run")
        except WorkError as error:
            failure = str(error).split(";")[0]
        return read_metrics(Path(scratch) / "run" / "metrics.jsonl"), failure


def _plot(curves: dict[str, Curve], target: float, path: Path) -> str:
    drawing, axes = figure.over_seconds("held-out tokens right")
    for (name, curve), colour in zip(curves.items(), SERIES, strict=False):
        if curve:
            axes.plot(*zip(*thinned(curve), strict=True), color=colour, label=name)
    axes.axhline(target, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.legend(loc="center right", frameon=False, fontsize=8)
    return figure.save(drawing, path)
