"""memlm leaderboard RUN... --out FILE.md: measured models ranked by what their embeddings hold, as Markdown."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Call:
    """Rank measured models by usable bits a token, in a table for each data, chunk length and probe."""

    # Made by memlm measure or demo, or folders of them; training runs beside them tell what training cost.
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path = Path("docs/leaderboard.md")  # the file, ending in .md
    json: bool = False  # print the tables as one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm leaderboard")
    from memlm.report.leaderboard import write_leaderboard

    done = write_leaderboard(list(call.runs), call.out)
    if call.json:
        print(json.dumps(done, allow_nan=False))
        return
    rows = sum(len(table["rows"]) for table in done["tables"])
    print(f"{done['leaderboard']}: {rows} row(s) in {len(done['tables'])} table(s)")
