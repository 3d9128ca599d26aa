"""The table of an evaluation as HTML: task by task, every model under every condition, and how much it read."""

from itertools import groupby

from memlm.report.runs import Evaluation, Row
from memlm.report.tables import digits, swatch, with_interval
from memlm.report.text import NOTHING, escape, figure_of, number

_READS = {"own": "own memories", "none": "no memories", "random": "random vectors", "base": "base model, all tokens"}
_HEAD = ("task", "model", "reads", "value", "difference", "memories", "examples")
_WORDS = 3  # columns to the left


def evaluation_table(evaluation: Evaluation, series: dict[str, int]) -> str:
    """A line for each model and condition, those of a task together; `series` says each model's colour."""
    titles = "".join(f'<th scope="col"{" class=word" if 0 < i < _WORDS else ""}>{t}</th>' for i, t in enumerate(_HEAD))
    body = ""
    for (task, figure), rows in groupby(sorted(evaluation.rows, key=_figure), key=_figure):  # models keep their order
        title = f"{escape(task)}<small>{escape(figure)}</small>"
        for row in rows:
            body += f'<tr><th scope="row">{title}</th>{_cells(row, series)}</tr>'
            title = ""
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="evaluation"><table class="plain">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(row: Row) -> tuple[str, str]:
    """Task, and metric with its filter."""
    kept = str(row.get("filter", "none"))
    share = ", %" if _is_share(row) else ""
    return str(row["task"]), f"{row['metric']}{share}" if kept == "none" else f"{row['metric']}{share}, {kept}"


def _is_share(row: Row) -> bool:
    return str(row["metric"]).startswith(("acc", "exact_match"))


def _cells(row: Row, series: dict[str, int]) -> str:
    form = (lambda value: number(100 * value, 1)) if _is_share(row) else digits(3)  # a difference can be below 0
    against = f' title="from {escape(row["against"])}"' if row.get("against") else ""
    return (
        f'<td class="word">{swatch(series.get(row["model"]))}{escape(row["model"])}</td>'
        f'<td class="word">{escape(_READS.get(row["condition"], row["condition"]))}</td>'
        f"<td>{with_interval(row, 'value', form)}</td><td{against}>{with_interval(row, 'difference', form)}</td>"
        f"<td>{_memories(row)}</td><td>{number(row['n'])}</td>"
    )


def _memories(row: Row) -> str:
    """How many memories scored tokens could read, fewest to most, and their mean."""
    fewest, mean, most = (figure_of(row, f"memories_{key}") for key in ("min", "mean", "max"))
    if fewest is None or mean is None or most is None:
        return NOTHING
    return number(most) if fewest == most else f"{number(fewest)}–{number(most)}<small>mean {number(mean, 1)}</small>"
