"""Commit, data, seeds, machine, versions and settings of each run: enough to run it again."""

from typing import Any

from memlm.report.runs import Runs
from memlm.report.text import figure_of, listed, number

KINDS = {
    "measurement": "measurement",
    "access": "measurement of access",
    "evaluation": "evaluation",
    "training": "training run",
    "benchmark": "benchmark of memory models",
}
FACTS = ("commit", "data", "seed", "machine", "device", "versions", "probe", "models", "objective", "batch", "optim")
FACTS += ("start", "frozen", "model", "setting")


def provenance(runs: Runs) -> list[tuple[str, str, dict[str, str]]]:
    """Name, kind and facts of each run; facts that a run does not know are left out."""
    retention = {run.path.resolve() for run in runs.measurement}  # which speaks for the same folder's access
    found = []
    for run in (run for kind in KINDS for run in getattr(runs, kind)):
        if run.kind == "access" and run.path.resolve() in retention:
            continue
        row = {key: run.rows[0].get(key) for key in FACTS[:5]} if run.rows and run.kind != "training" else {}
        told: dict[str, Any] = row | run.config | run.environment
        if run.kind == "training":
            told["data"] = run.environment.get("data")  # and not where it lies
        elif run.kind == "evaluation":
            told["data"] = None  # differs from task to task
        if run.kind in ("access", "evaluation"):
            told["models"] = list(dict.fromkeys(row["model"] for row in run.rows))
        told["probe"] = next((row["probe"] for row in run.rows if row.get("probe")), None)
        own = {key: told.get(key) for key in ("memlm", "python")}
        told["versions"] = {
            key: value for key, value in (own | (told.get("packages") or {})).items() if value != "absent"
        }
        facts = {key: described(told.get(key)) for key in FACTS}
        found.append((run.name, KINDS[run.kind], {key: fact for key, fact in facts.items() if fact}))
    return found


def described(value: Any) -> str:
    """A setting in words: of parts of a model their kind and then every field; of a hash its beginning."""
    if isinstance(value, dict):
        parts = {key: described(part) for key, part in value.items() if key != "kind"}
        return listed(str(value.get("kind", "")), *(f"{key} {part}" for key, part in parts.items() if part))
    if isinstance(value, (list, tuple)):
        return listed(*map(described, value))
    known = figure_of({"x": value}, "x")
    if known is not None:
        return number(known) if known == int(known) else str(value)
    text = "" if value is None else str(value)
    return text[:12] if len(text) == 64 else text
