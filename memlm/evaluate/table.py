"""The evaluation's table for a terminal: models and conditions beside each other, task by task."""

from typing import Any

from memlm.ui import aligned

_HEAD = ("task", "metric", "model", "memories", "value", "95 %", "difference", "95 %", "examples", "read", "with none")


def eval_table(rows: list[dict[str, Any]]) -> str:
    """Rows of an evaluation as aligned text.

    `difference` is from the row of the same model's own memories, and of another model's own from the first model's;
    `read` tells how many memories the scored tokens could read, `with none` in how many examples none could be.
    """
    order = {(row["task"], row["metric"], row["filter"]): i for i, row in reversed(list(enumerate(rows)))}
    lines = [_line(row) for row in sorted(rows, key=lambda row: order[row["task"], row["metric"], row["filter"]])]
    return aligned([_HEAD, *lines], words=4)


def _line(row: dict[str, Any]) -> list[str]:
    form = "{:.2%}" if row["metric"].startswith(("acc", "exact_match")) else "{:.3f}"
    ci = "{} to {}".format(*(form.format(bound) for bound in row["value_ci"]))
    difference = difference_ci = ""
    if row["difference"] is not None:
        signed = form.replace(":", ":+")
        difference = signed.format(row["difference"])
        difference_ci = "{} to {}".format(*(signed.format(bound) for bound in row["difference_ci"]))
    fewest, most = row["memories_min"], row["memories_max"]
    return [
        row["task"],
        row["metric"] if row["filter"] == "none" else f"{row['metric']}, {row['filter']}",
        row["model"],
        row["condition"],
        form.format(row["value"]),
        ci,
        difference,
        difference_ci,
        str(row["n"]),
        str(most) if fewest == most else f"{fewest}-{most}, mean {row['memories_mean']:.1f}",
        f"{row['without_memories']:.0%}",
    ]
