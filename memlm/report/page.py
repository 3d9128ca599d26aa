"""The whole report on disk: one page that needs nothing beside it, and its figures as PNG files."""

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from memlm.errors import UsageError
from memlm.files import write_bytes, write_text
from memlm.report import choose, compared, lineage, views
from memlm.report.choose import Headline, headline, samples_to_show
from memlm.report.claims import Claim, claims
from memlm.report.compared import Model, Setting, attributed, series_of, settings_of
from memlm.report.figures import Chart, inline_svg, png
from memlm.report.plots import charts_of
from memlm.report.ranking import rankings
from memlm.report.reading import read_runs
from memlm.report.runs import Runs
from memlm.report.text import templates


class Report(NamedTuple):
    """What a page is made from; templates name these."""

    runs: Runs
    settings: list[Setting]  # of access to memory
    models: list[Model]  # whose tokens were attributed
    series: dict[str, int]  # each model's place among the colours
    charts: dict[str, list[Chart]]  # by section
    headline: Headline | None
    claims: list[Claim]


def make_report(runs: Runs) -> Report:
    """Everything that a page shows, not yet drawn or written."""
    settings, models = settings_of(runs), attributed(runs)
    series = series_of(runs, [*(model for setting in settings for model in setting), *models])
    charts = charts_of(runs, settings, models, series)
    return Report(runs, settings, models, series, charts, headline(runs.measurement), claims(runs, settings))


def render(report: Report) -> str:
    """The page as text: no scripts, no references to anything outside it; what is not ours is escaped."""
    env = templates(escape=True)
    for room in (views, choose, lineage, compared):
        env.globals.update({name: thing for name, thing in vars(room).items() if not name.startswith("_")})
    env.globals.update(rankings=rankings, svg=lambda chart: Markup(inline_svg(chart)))
    css = Markup(files("memlm.report").joinpath("templates/page.css").read_text("utf-8"))
    sampled = ([report.headline.measurement] if report.headline else []) + report.runs.measurement
    samples = next((found for run in sampled if (found := samples_to_show(run))), [])
    return env.get_template("page.html.j2").render(**report._asdict(), samples=samples, css=css)


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
    report = make_report(read_runs(paths))
    runs, charts = report.runs, [chart for some in report.charts.values() for chart in some]
    write_text(out, render(report))
    pictures = {folder / f"{chart.name}.png": chart for chart in charts}
    for picture, chart in pictures.items():
        write_bytes(picture, png(chart))
    names = {kind: [run.name for run in getattr(runs, kind)] for kind in Runs._fields}
    return {
        "page": str(out),
        "figures": list(map(str, pictures)),
        "measurements": names["measurement"],
        "training_runs": names["training"],
        "models": runs.models,
        "headline": report.headline.as_json() if report.headline else None,
        "access": names["access"],
        "evaluations": names["evaluation"],
        "benchmarks": names["benchmark"],
        "claims": [{"claim": claim.name, "holds": claim.holds} for claim in report.claims],
    }
