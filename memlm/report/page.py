"""The whole report on disk: one page that needs nothing beside it, and its figures as PNG files."""

from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from memlm.errors import UsageError
from memlm.files import write_bytes, write_text
from memlm.report.access import settings_of
from memlm.report.attributed import attributed
from memlm.report.choose import headline
from memlm.report.claims import claims
from memlm.report.colours import series_of
from memlm.report.plots import plots_of
from memlm.report.reading import read_runs
from memlm.report.runs import Runs
from memlm.report.sections import SECTIONS, Report
from memlm.report.svg import png
from memlm.report.text import escape


def make_report(runs: Runs) -> Report:
    """Everything a page shows, figures included, not yet written."""
    settings = settings_of(runs)
    series, models = series_of(runs, settings), attributed(runs)
    return Report(
        runs=runs,
        settings=settings,
        attributed=models,
        series=series,
        plots=plots_of(runs, settings, models, series),
        headline=headline(runs.measurements),
        claims=claims(runs, settings),
    )


def render(report: Report) -> str:
    """The page as text: no scripts, no references to anything outside it."""
    skeleton, css = (files("memlm.report").joinpath(name).read_text("utf-8") for name in ("page.html", "page.css"))
    body = "\n".join(part for section in SECTIONS if (part := section(report)))
    return Template(skeleton).substitute(title=escape(report.title), css=css, body=body)


def write_report(paths: list[Path], out: Path, figures: Path | None = None) -> dict[str, Any]:
    """Read runs, write the page and its figures; a page that is there already is replaced.

    Args:
        paths: training runs, curricula, measurements, benchmarks, or folders that hold some.
        out: the page, `.html`.
        figures: the folder for PNG files, `<page>-figures` beside the page if not given.

    Returns:
        What was written and the headline's figures, as JSON values.

    Raises:
        UsageError: a path that is no run, or an `out` that is no page.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise UsageError(f"{out} cannot be the page: name a file that ends in .html.")
    folder = Path(figures) if figures else out.with_name(f"{out.stem}-figures")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder for the figures.")
    runs = read_runs(paths)
    report = make_report(runs)
    write_text(out, render(report))
    pictures = [folder / f"{plot.name}.png" for plot in report.plots]
    for plot, picture in zip(report.plots, pictures, strict=True):
        write_bytes(picture, png(plot.figure))
    return {
        "page": str(out),
        "figures": [str(picture) for picture in pictures],
        "measurements": [measurement.name for measurement in runs.measurements],
        "training_runs": [run.name for run in runs.training],
        "models": runs.models,
        "headline": report.headline.as_json() if report.headline else None,
        "access": [access.name for access in runs.access],
        "evaluations": [evaluation.name for evaluation in runs.evaluations],
        "benchmarks": [benchmark.name for benchmark in runs.benchmarks],
        "claims": [{"claim": claim.name, "holds": claim.holds} for claim in report.claims],
    }
