"""Tables for a terminal: how any is laid out, and those of retention and of ceilings."""

from collections.abc import Sequence
from typing import Any

_RETENTION = {  # title -> how a row is written there
    "model": "{model}",
    "training": "{training}",
    "decoder": "{decoder}",
    "tokens": "{chunk_tokens}",
    "chars": "{chunk_chars:.0f}",
    "numbers": "{memory_dim}",
    "tokens right": "{token_accuracy:.2%}",
    "chunks right": "{exact_match:.1%}",
    "H_r": "{entropy_ratio:.3f}",
    "bits/byte": "{bits_per_byte:.3f}",
    "usable bits/token": "{usable_bits_per_token:.2f}",
    "95 %": "{usable_bits_per_token_ci[0]:.2f} to {usable_bits_per_token_ci[1]:.2f}",
}
_CEILINGS = {
    **{"model": "{model}", "task": "{task}", "read before a token": "{mode}", "figure": "{metric}", "layer": "{layer}"},
    **{"tokens": "{chunk_tokens}", "chunks": "{chunks}", "value": "{value:.3f}"},
    "95 %": "{value_ci[0]:.3f} to {value_ci[1]:.3f}",
}


def retention_table(results: list[dict[str, Any]]) -> str:
    """Rows of a retention report as aligned text, the 95 % interval of usable bits beside them."""
    return aligned([list(_RETENTION), *([form.format(**row) for form in _RETENTION.values()] for row in results)], 3)


def ceilings_table(rows: list[dict[str, Any]]) -> str:
    """Rows of `--cram` and `--invert` as aligned text."""
    return aligned([list(_CEILINGS), *([form.format(**row) for form in _CEILINGS.values()] for row in rows)], 4)


def aligned(rows: Sequence[Sequence[str]], words: int) -> str:
    """A head and rows as lines: so many columns of words to the left, numbers after them to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        cells = [cell.ljust(width) for cell, width in zip(row[:words], widths[:words], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[words:], widths[words:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
