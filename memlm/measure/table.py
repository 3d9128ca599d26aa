"""The retention table for a terminal."""

from typing import Any

_COLUMNS = (
    ("model", "model", "{}"),
    ("training", "training", "{}"),
    ("decoder", "decoder", "{}"),
    ("chars", "chunk_chars", "{:.0f}"),
    ("numbers", "memory_dim", "{}"),
    ("tokens right", "token_accuracy", "{:.2%}"),
    ("chunks right", "exact_match", "{:.1%}"),
    ("H_r", "entropy_ratio", "{:.3f}"),
    ("bits/byte", "bits_per_byte", "{:.3f}"),
    ("usable bits/token", "usable_bits_per_token", "{:.2f}"),
)


def retention_table(results: list[dict[str, Any]]) -> str:
    """Rows of a retention report as aligned text, the 95 % interval of usable bits beside them."""
    head = [title for title, _, _ in _COLUMNS] + ["95 %"]
    rows = [
        [form.format(row[key]) for _, key, form in _COLUMNS]
        + ["{:.2f} to {:.2f}".format(*row["usable_bits_per_token_ci"])]
        for row in results
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    # Words to the left, numbers to the right.
    lines = [
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, ["-" * w for w in widths], *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)
