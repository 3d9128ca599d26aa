"""The evaluation's table for a terminal: models and conditions beside each other, task by task."""

from typing import Any

from memlm.ui import aligned

_HEAD = ("task", "metric", "model", "memories", "difference of", "value", "95 %", "difference", "95 %", "examples")
_HEAD += ("read", "with none")


def eval_table(rows: list[dict[str, Any]]) -> str:
    """Rows of an evaluation as aligned text.

    Differences are paired: of a model's own memories and another condition, or of its own and the first model's own;
    `read` tells how many memories the scored tokens could read, `with none` in how many examples none could be.
    """
    order = list(dict.fromkeys(map(_figure, rows)))
    return aligned([_HEAD, *map(_line, sorted(rows, key=lambda row: order.index(_figure(row))))], words=5)


def _figure(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["metric"], row["filter"]


def _line(row: dict[str, Any]) -> list[str]:
    form = "{:.2%}" if row["metric"].startswith(("acc", "exact_match")) else "{:.3f}"
    signed, fewest, most = form.replace(":", ":+"), row["memories_min"], row["memories_max"]
    differs = row["difference"] is not None
    return [
        row["task"],
        row["metric"] if row["filter"] == "none" else f"{row['metric']}, {row['filter']}",
        row["model"],
        row["condition"],
        row["difference_of"] or "",
        form.format(row["value"]),
        f"{form} to {form}".format(*row["value_ci"]),
        signed.format(row["difference"]) if differs else "",
        f"{signed} to {signed}".format(*row["difference_ci"]) if differs else "",
        str(row["n"]),
        str(most) if fewest == most else f"{fewest}-{most}, mean {row['memories_mean']:.1f}",
        f"{row['without_memories']:.0%}",
    ]
