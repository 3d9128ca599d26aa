"""Tables for a terminal: those of retention and of ceilings, and of all that was measured."""

from typing import Any

from memlm.measure.access_table import access_table
from memlm.ui import aligned

GROWING = 0.1  # of the usable bits, by the last doubling of the budget
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
    "by": "{probe_of}",
}
_GIVEN = {
    **{"model": "{model}", "training": "{training}", "given the text before by": "{prior}"},
    **{"tokens": "{chunk_tokens}", "numbers": "{memory_dim}", "tokens right": "{token_accuracy:.2%}"},
    "usable bits/token": "{usable_bits_per_token:.2f}",
    "usable bits/vector": "{usable_bits_per_embedding:.1f}",
    "95 %": "{usable_bits_per_embedding_ci[0]:.1f} to {usable_bits_per_embedding_ci[1]:.1f}",
    "by": "{family}, {train_chunks:,} chunks",
}
_CEILINGS = {
    **{"model": "{model}", "task": "{task}", "read before a token": "{mode}", "figure": "{metric}", "layer": "{layer}"},
    **{"tokens": "{chunk_tokens}", "chunks": "{chunks}", "value": "{value:.3f}"},
    "95 %": "{value_ci[0]:.3f} to {value_ci[1]:.3f}",
}


class Results(dict[str, Any]):
    """What a measurement found, as `results.json` has it; as text, the tables of it."""

    def __str__(self) -> str:
        tables = [("results", retention_table), ("curves", curves_table), ("given", given_table)]
        tables += [("access", access_table), ("ceilings", ceilings_table)]
        return "\n\n".join(table(self[key]) for key, table in tables if self.get(key))


def retention_table(results: list[dict[str, Any]]) -> str:
    """Rows of a retention report as aligned text, the 95 % interval of usable bits beside them, and by which probe."""
    told = [row | {"probe_of": _probe_of(row)} for row in results]
    return aligned([list(_RETENTION), *([form.format(**row) for form in _RETENTION.values()] for row in told)], 3)


def _probe_of(row: dict[str, Any]) -> str:
    """The family that a row's figures are of, and whether more chunks would tell more (docs/protocol.md)."""
    if "family" not in row:
        return ""
    said = f"{row['family']}, {row['train_chunks']:,} chunks"
    if not row.get("learnt", True):
        return f"{said}: not learnt at this budget"
    growing = (row.get("last_doubling") or 0) > GROWING
    return f"{said}: still growing ({row['last_doubling']:+.0%} by the last doubling)" if growing else said


def curves_table(curves: list[dict[str, Any]]) -> str:
    """Usable bits a token by budget, a line for each encoder, chunk length and family of probes."""
    budgets = sorted({row["train_chunks"] for row in curves})
    lines: dict[tuple[str, str, int], dict[int, str]] = {}
    for row in curves:
        line = lines.setdefault((row["model"], row["family"], row["chunk_tokens"]), {})
        line[row["train_chunks"]] = f"{row['usable_bits_per_token']:.2f}"
    head = ["usable bits/token by", "family", "tokens", *(f"{budget:,} chunks" for budget in budgets)]
    body = [[*map(str, who), *(line.get(budget, "") for budget in budgets)] for who, line in lines.items()]
    return aligned([head, *body], 2)


def given_table(rows: list[dict[str, Any]]) -> str:
    """Rows beside a prior as aligned text."""
    return aligned([list(_GIVEN), *([form.format(**row) for form in _GIVEN.values()] for row in rows)], 3)


def ceilings_table(rows: list[dict[str, Any]]) -> str:
    """Rows of `--cram` and `--invert` as aligned text."""
    return aligned([list(_CEILINGS), *([form.format(**row) for form in _CEILINGS.values()] for row in rows)], 4)
