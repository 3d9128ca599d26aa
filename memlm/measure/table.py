"""Tables for a terminal: those of retention and of ceilings, and of all that was measured."""

from typing import Any

from memlm.measure.access_table import access_table
from memlm.ui import aligned

_COLUMNS = (
    ("model", "model", "{}"),
    ("training", "training", "{}"),
    ("decoder", "decoder", "{}"),
    ("tokens", "chunk_tokens", "{}"),
    ("chars", "chunk_chars", "{:.0f}"),
    ("numbers", "memory_dim", "{}"),
    ("tokens right", "token_accuracy", "{:.2%}"),
    ("chunks right", "exact_match", "{:.1%}"),
    ("H_r", "entropy_ratio", "{:.3f}"),
    ("bits/byte", "bits_per_byte", "{:.3f}"),
    ("usable bits/token", "usable_bits_per_token", "{:.2f}"),
)


class Results(dict[str, Any]):
    """What a measurement found, as `results.json` has it; as text, the tables of it."""

    def __str__(self) -> str:
        tables = ("results", retention_table), ("access", access_table), ("ceilings", ceilings_table)
        return "\n\n".join(table(self[key]) for key, table in tables if self.get(key))


def retention_table(results: list[dict[str, Any]]) -> str:
    """Rows of a retention report as aligned text, the 95 % interval of usable bits beside them."""
    head = [title for title, _, _ in _COLUMNS] + ["95 %"]
    rows = [
        [form.format(row[key]) for _, key, form in _COLUMNS]
        + ["{:.2f} to {:.2f}".format(*row["usable_bits_per_token_ci"])]
        for row in results
    ]
    return aligned([head, *rows], words=3)


def ceilings_table(rows: list[dict[str, Any]]) -> str:
    """Rows of `--cram` and `--invert` as aligned text."""
    head = ["model", "task", "read before a token", "figure", "layer", "tokens", "chunks", "value", "95 %"]
    told = [
        [
            *(str(row[key]) for key in ("model", "task", "mode", "metric", "layer", "chunk_tokens", "chunks")),
            f"{row['value']:.3f}",
            "{:.3f} to {:.3f}".format(*row["value_ci"]),
        ]
        for row in rows
    ]
    return aligned([head, *told], words=4)
