"""The access table for a terminal: what a model does with its memories, without, and with another text's."""

from typing import Any

from memlm.ui import aligned

_OF_COPIES = {"token_accuracy": "tokens right", "exact_match": "copies right"}
_OF_FACTS = {"token_accuracy": "values right", "found": "found"}
_SHOWN = {  # task -> metric -> how it is called
    "causal": {"cross_entropy": "nats/token", "bits_per_byte": "bits/byte"},
    **dict.fromkeys(("facts", "facts-3", "facts-changed"), _OF_FACTS),
    "quote": {"token_accuracy": "tokens right", "found": "found"},
    "copy": _OF_COPIES,
    "blank": _OF_COPIES,
    "recall": {"token_accuracy": "values right"},
    "needle": {"token_accuracy": "values right"},
}
_HEAD = ("model", "reader", "task", "figure", "memories", "with", "without", "another's", "gain", "95 %", "chance")


def access_table(rows: list[dict[str, Any]]) -> str:
    """The main figures of an access report as aligned text; groups and further figures are in the report itself."""
    lines, notes = [], []
    for row in rows:
        shown = _SHOWN[row["task"]].get(row["metric"])
        if row["note"]:
            notes.append(f"{row['model']}: no {row['task']}: {row['note']}")
        elif shown and row["group"] is None and row["memory"] == "own":
            task = f"{row['task']}, free" if row["mode"] == "free-running" else row["task"]
            task += f", {of}" if (of := row.get("symbols")) else ""
            lines.append([row["model"], row["reader"], task, shown, *_figures(row, rows)])
    return "\n".join([aligned([_HEAD, *lines], words=4), *notes])


def _figures(own: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Memories, the figure under the three conditions, the gain with its interval, and chance."""
    same = ("model", "example_chunks", "task", "symbols", "mode", "metric", "group")
    beside = {row["memory"]: row for row in rows if all(row.get(key) == own.get(key) for key in same)}
    form = "{:.3f}" if own["metric"] in ("cross_entropy", "bits_per_byte") else "{:.2%}"
    low, high = (form.format(bound) for bound in beside["gain"]["value_ci"])
    fewest, most = own["memories_min"], own["memories_max"]
    return [
        str(most) if fewest == most else f"{fewest}-{most}",
        *(form.format(beside[memory]["value"]) for memory in ("own", "none", "other", "gain")),
        f"{low} to {high}",
        "" if own["chance"] is None else form.format(own["chance"]),
    ]
