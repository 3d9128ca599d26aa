"""The leaderboard as Markdown: the same rankings as the page's, in a file that can stand in a repository."""

from pathlib import Path
from typing import Any

from memlm.errors import UsageError
from memlm.files import write_text
from memlm.report.ranking import Ranking, rankings
from memlm.report.reading import read_runs
from memlm.report.tables import RANKED, columns, row_says

_INTRO = """# Leaderboard

How much of a chunk of held-out text one vector still holds, made by

    memlm leaderboard {runs} --out {out}

from what `memlm measure` wrote there; asked again, it gives the same file. Rows are ranked by usable bits a token, with
95 % bootstrap intervals over chunks. Rows of different data, chunk length or probe are never in one table. What is not
known is left empty; the seed is the measurement's; seconds depend on the machine and on what else it did.
"""
_COLUMNS = columns(f"""
-: model = word name | training = word training | tokens = 0 chunk_tokens | characters = 0 chunk_chars
-: numbers = 0 memory_dim
{RANKED.strip()}
-: data = word data | vocabulary = 0 vocab_size | seed = 0 seed | device = word device | commit = word commit
""")


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
    for path in paths:
        alone = read_runs([path])
        if not alone.measurement and not alone.training:
            raise UsageError(f"{path} holds no results to rank: make some with memlm measure.")
    tables = rankings(read_runs(paths))
    if not tables:
        raise UsageError("there are no results to rank: name a folder that memlm measure made.")
    places = [path.name if path.is_absolute() else str(path) for path in (*paths, out)]  # for other machines
    intro = _INTRO.format(runs=" ".join(places[:-1]), out=places[-1])
    write_text(out, intro + "".join(map(_section, tables)))
    shared = [table.shared | {"probe": table.probe} for table in tables]
    rows = [[{"rank": i, **row} for i, row in enumerate(table.rows, 1)] for table in tables]
    return {"leaderboard": str(out), "tables": [s | {"rows": r} for s, r in zip(shared, rows, strict=True)]}


def _section(table: Ranking) -> str:
    lines = [["rank", *(column.title for column in _COLUMNS)]]
    lines.append(["---:", *("---" if column.form == "word" else "---:" for column in _COLUMNS)])
    for rank, row in enumerate(table.rows, 1):
        says = row_says(row | {"data": f"`{str(row.get('data'))[:12]}`"})
        cells = [column.cell(says(column.key)) for column in _COLUMNS]
        lines.append([str(rank), *(_escaped(f"{c.text or ''}{f' ({c.small})' if c.small else ''}") for c in cells)])
    return f"\n## {table.title}\n\n{table.conditions}.\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    """What would end a cell does not."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
