"""The leaderboard as Markdown: the same rankings as the page's, in a file that can stand in a repository."""

from pathlib import Path
from typing import Any

from memlm.errors import UsageError
from memlm.files import write_text
from memlm.locks import one_writer
from memlm.report.templating import templates
from memlm.results.ranking import rankings
from memlm.results.reading import read_runs, shown


@one_writer
def write_leaderboard(paths: list[Path], out: Path) -> dict[str, Any]:
    """Rank what was measured and write it as Markdown; a file that is there already is replaced.

    Args:
        paths: measurements, the runs that trained their models, or folders that hold some.
        out: the file, `.md`.

    Returns:
        `leaderboard`, the file's path, and `tables`: of each what its rows share, and the rows in their order.

    Raises:
        UsageError: a path that is no run, no measurement of retention among them, or an `out` that is no Markdown file.
    """
    out = Path(out)
    if out.suffix.lower() != ".md" or out.is_dir():
        raise UsageError(f"{out} cannot be the leaderboard: name a file that ends in .md.")
    with shown(paths):
        for path in paths:
            alone = read_runs([path])
            if not alone.measurement and not alone.training:
                raise UsageError(f"{path} holds no results to rank: make some with memlm measure.")
        tables = rankings(read_runs(paths))
    if not tables:
        raise UsageError("there are no results to rank: name a folder that memlm measure made.")
    places = [path.name if path.is_absolute() else str(path) for path in (*paths, out)]  # for other machines
    page = templates(escape=False).get_template("leaderboard.md.j2")
    with shown(paths):
        text = page.render(runs=places[:-1], out=places[-1], tables=tables)
    write_text(out, text)
    ranked = [[{"rank": i, **row} for i, row in enumerate(table.rows, 1)] for table in tables]
    shared = [table.shared | {"probe": table.probe} for table in tables]
    return {"leaderboard": str(out), "tables": [s | {"rows": r} for s, r in zip(shared, ranked, strict=True)]}
