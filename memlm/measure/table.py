"""Tables for a terminal: those of retention and of ceilings, and of all that was measured."""

from typing import Any

from memlm.measure.access_table import access_table
from memlm.ui import aligned

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


class Results(dict[str, Any]):
    """What a measurement found, as `results.json` has it; as text, the tables of it."""

    def __str__(self) -> str:
        tables = ("results", retention_table), ("access", access_table), ("ceilings", ceilings_table)
        return "\n\n".join(table(self[key]) for key, table in tables if self.get(key))


def retention_table(results: list[dict[str, Any]]) -> str:
    """Rows of a retention report as aligned text, the 95 % interval of usable bits beside them."""
    return aligned([list(_RETENTION), *([form.format(**row) for form in _RETENTION.values()] for row in results)], 3)


def ceilings_table(rows: list[dict[str, Any]]) -> str:
    """Rows of `--cram` and `--invert` as aligned text."""
    return aligned([list(_CEILINGS), *([form.format(**row) for form in _CEILINGS.values()] for row in rows)], 4)
