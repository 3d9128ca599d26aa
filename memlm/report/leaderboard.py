"""The leaderboard as Markdown: the same rankings as the page's, in a file that can stand in a repository."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memlm.errors import UsageError
from memlm.files import write_text
from memlm.report.ranking import Entry, Ranking, rankings
from memlm.report.reading import read_runs
from memlm.report.runs import Row
from memlm.report.tables import Form, digits
from memlm.report.text import figure_of, interval_of, number, share, span

_INTRO = """# Leaderboard

How much of a chunk of held-out text one vector still holds, made by

    memlm leaderboard {runs} --out {out}

from what `memlm measure` wrote there; asked again, it gives the same file. Rows are ranked by usable bits a token, with
95 % bootstrap intervals over chunks. Rows of different data, chunk length or probe are never in one table. What is not
known is left empty; the seed is the measurement's; seconds depend on the machine and on what else it did.
"""
_Column = tuple[str, Callable[[Entry], str]]


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
        if not alone.measurements and not alone.training:
            raise UsageError(f"{path} holds no results to rank: make some with memlm measure.")
    tables = rankings(read_runs(paths))
    if not tables:
        raise UsageError("there are no results to rank: name a folder that memlm measure made.")
    runs = " ".join(map(_place, paths))
    write_text(out, _INTRO.format(runs=runs, out=_place(out)) + "".join(map(_section, tables)))
    return {"leaderboard": str(out), "tables": [_as_json(table) for table in tables]}


def _section(ranking: Ranking) -> str:
    head = _line(["rank", *(title for title, _ in _COLUMNS)])
    rule = _line(["---:", *("---" if title in _WORDS else "---:" for title, _ in _COLUMNS)])
    body = "".join(_line([str(n), *(cell(e) for _, cell in _COLUMNS)]) for n, e in enumerate(ranking.entries, 1))
    return f"\n## {ranking.title}\n\n{ranking.conditions}.\n\n{head}{rule}{body}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _place(path: Path) -> str:
    """A path for readers on other machines."""
    return path.name if path.is_absolute() else str(path)


def _as_json(ranking: Ranking) -> Row:
    shared = {
        key: getattr(ranking, key) for key in ("data", "vocab_size", "chunk_tokens", "chunks", "decoder", "probe")
    }
    rows = [
        {"rank": n, **entry.row, "train_tokens": entry.tokens, "train_seconds": entry.seconds}
        for n, entry in enumerate(ranking.entries, 1)
    ]
    return shared | {"rows": rows}


def _word(key: str) -> Callable[[Entry], str]:
    """A fact as it is: what would end a cell is escaped."""
    return lambda entry: _escaped(entry.row.get(key))


def _figure(key: str, form: Form) -> Callable[[Entry], str]:
    """A number and its interval."""

    def cell(entry: Entry) -> str:
        value, pair = figure_of(entry.row, key), interval_of(entry.row, key)
        told = "" if value is None else form(value)
        return f"{told} ({span(pair, form)})" if pair else told

    return cell


def _known(value: float | None) -> str:
    return "" if value is None else number(value)


def _escaped(value: Any) -> str:
    if value is None:
        return ""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


_COLUMNS: list[_Column] = [
    ("model", lambda entry: _escaped(entry.name)),
    ("training", _word("training")),
    ("tokens", _figure("chunk_tokens", number)),
    ("characters", _figure("chunk_chars", number)),
    ("numbers", _figure("memory_dim", number)),
    ("usable bits a token", _figure("usable_bits_per_token", digits(2))),
    ("an embedding", _figure("usable_bits_per_embedding", number)),
    ("a dimension", _figure("usable_bits_per_dimension", digits(2))),
    ("H_r", _figure("entropy_ratio", digits(3))),
    ("tokens right, %", _figure("token_accuracy", share)),
    ("chunks right, %", _figure("exact_match", share)),
    ("encoder's parameters", _figure("encoder_parameters", number)),
    ("s for 1,000 chunks", _figure("encode_seconds", digits(2))),
    ("training tokens", lambda entry: _known(entry.tokens)),
    ("training s", lambda entry: _known(entry.seconds)),
    ("data", lambda entry: f"`{str(entry.row.get('data'))[:12]}`"),
    ("vocabulary", _figure("vocab_size", number)),
    ("seed", _word("seed")),
    ("device", _word("device")),
    ("commit", _word("commit")),
]
_WORDS = ("model", "training", "data", "device", "commit")
