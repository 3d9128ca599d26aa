"""The whole report on disk: one page that needs nothing beside it, and its figures as PNG files."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from memlm.errors import UsageError
from memlm.files import write_bytes, write_text
from memlm.locks import one_writer
from memlm.report import views
from memlm.report.figures import inline_svg, png
from memlm.report.plots import charts_of
from memlm.report.templating import templates
from memlm.results import choose, claims, compared, lineage
from memlm.results import runs as rows
from memlm.results.ranking import rankings
from memlm.results.reading import read_runs, shown
from memlm.results.runs import Runs
from memlm.results.text import figure_of

Report = dict[str, Any]  # what templates name
_HEADLINE = ("chunk_tokens", "chunk_chars", "memory_dim", "token_accuracy", "exact_match", "usable_bits_per_token")


def make_report(runs: Runs) -> Report:
    """Everything that a page shows, not yet drawn or written."""
    settings, models = compared.settings_of(runs), compared.attributed(runs)
    series = compared.series_of(runs, [*(model for setting in settings for model in setting), *models])
    measurement, best = choose.headline(runs.measurement)
    sampled = ([measurement] if measurement else []) + runs.measurement
    return {
        "runs": runs,
        "settings": settings,  # of access to memory
        "models": models,  # whose tokens were attributed
        "series": series,  # each model's place among the colours
        "charts": charts_of(runs, settings, models, series),  # by section
        "headline": best,
        "samples": next((found for run in sampled if (found := choose.samples_to_show(run))), []),
        "far": choose.farthest(settings),
        "claims": claims.claims(runs, settings),
        "rankings": rankings(runs),
    }


def render(report: Report) -> str:
    """The page as text: no scripts, no references to anything outside it; what is not ours is escaped."""
    env = templates(escape=True)
    for room in (views, choose, rows, lineage, compared, claims):
        env.globals.update({name: thing for name, thing in vars(room).items() if not name.startswith("_")})
    css = Markup(files("memlm.report").joinpath("templates/page.css").read_text("utf-8"))
    return env.get_template("page.html.j2").render(**report, css=css, svg=lambda chart: Markup(inline_svg(chart)))


@one_writer
def write_report(paths: list[Path], out: Path, figures: Path | None = None) -> dict[str, Any]:
    """Read runs, write the page and its figures; a page that is there already is replaced.

    Args:
        paths: training runs, curricula, measurements, benchmarks, or folders that hold some.
        out: the page, `.html`.
        figures: the folder for PNG files, `<page>-figures` beside the page if not given.

    Returns:
        What was written and the headline's figures, as JSON values.

    Raises:
        UsageError: a path that is no run, an `out` that is no page, or one that another process writes.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise UsageError(f"{out} cannot be the page: name a file that ends in .html.")
    folder = Path(figures) if figures else out.with_name(f"{out.stem}-figures")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder for the figures.")
    with shown(paths):
        report = make_report(read_runs(paths))
        page = render(report)
        charts = [chart for some in report["charts"].values() for chart in some]
        pictures = {folder / f"{chart.name}.png": png(chart) for chart in charts}
    for picture, content in pictures.items():
        write_bytes(picture, content)
    write_text(out, page)  # last: where it is all is
    kinds = {"measurements": "measurement", "training_runs": "training", "access": "access"}
    kinds |= {"evaluations": "evaluation", "benchmarks": "benchmark"}
    best = {
        name: {"model": row["model"], "decoder": row["decoder"]} | {key: figure_of(row, key) for key in _HEADLINE}
        for name, row in report["headline"].items()
    }
    return {
        **{"page": str(out), "figures": list(map(str, pictures)), "models": report["runs"].models},
        **{name: [run.name for run in getattr(report["runs"], kind)] for name, kind in kinds.items()},
        **{"headline": best or None, "claims": [{"claim": c.name, "holds": c.holds} for c in report["claims"]]},
    }
