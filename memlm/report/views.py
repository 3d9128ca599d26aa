"""What templates ask of rows: conditions that they share, columns that somebody has, tokens in their colours, facts."""

from collections.abc import Iterator
from typing import Any

from memlm.report.compared import COLOURS, Model, Setting, chance_of
from memlm.report.runs import Row, Run, Runs
from memlm.report.text import figure_of, listed, number, plural

FULL = 8.0  # nats of cross-entropy that have the full colour
VISIBLE = 2  # per cent of the full colour; what is paler has none
TOLD = 15  # per cent of the full colour of l1 above which it is said which memory told a token
# Columns of access to memory: group -> title -> task, memory, metric, mode.
_ACCESS = {
    "causal loss, nats a token": {
        "with own mem\u00adory": ("causal", "own", "cross_entropy", None),
        "with\u00adout": ("causal", "none", "cross_entropy", None),
        "with an\u00adother’s": ("causal", "other", "cross_entropy", None),
        "gain": ("causal", "gain", "cross_entropy", None),
    },
    "copy, tokens right, %": {
        "with mem\u00adory": ("copy", "own", "token_accuracy", "teacher-forced"),
        "with\u00adout": ("copy", "none", "token_accuracy", "teacher-forced"),
        "free run\u00adning": ("copy", "own", "token_accuracy", "free-running"),
    },
    "blank copy, %": {
        "tokens right": ("blank", "own", "token_accuracy", None),
        "whole copies": ("blank", "own", "exact_match", None),
    },
    "look-up, values right, %": {
        "key-value recall": ("recall", "own", "token_accuracy", None),
        "needle": ("needle", "own", "token_accuracy", None),
    },
}
KINDS = {  # of runs that are told about, and how they are called
    "measurement": "measurement",
    "access": "measurement of access",
    "evaluation": "evaluation",
    "training": "training run",
    "benchmark": "benchmark of memory models",
}
FACTS = ("commit", "data", "seed", "machine", "device", "versions", "probe", "models", "objective", "batch", "optim")
FACTS += ("start", "frozen", "model", "setting")


def conditions(row: Row, chunk: str, tokens: str) -> str:
    """What all rows of a table have in common."""
    chunks, length, words = (figure_of(row, key) for key in ("chunks", "chunk_tokens", "vocab_size"))
    many = chunk.format(plural(chunks, "chunk"), plural(chunks, "held-out chunk")) if chunks else ""
    return listed(
        many, tokens.format(number(length)) if length else "", f"vocabulary of {number(words)}" if words else ""
    )


def access_columns(setting: Setting) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Columns of access to memory that some model has a figure for."""
    groups = {
        group: {title: key for title, key in columns.items() if any(model.access(*key) for model in setting)}
        for group, columns in _ACCESS.items()
    }
    return {group: columns for group, columns in groups.items() if columns}


def access_facts(setting: Setting) -> tuple[str, list[str], bool]:
    """What all rows of a setting have in common; why something was not measured; whether chance is known anywhere."""
    rows = [(one.name, row) for model in setting for one in model.seeds for row in one.rows]
    row = next((row for _, row in rows if row["task"] == "causal" and row["metric"]), rows[0][1])
    examples = {n for _, row in rows if (n := figure_of(row, "examples")) and not row["group"]}
    many = f"{number(max(examples))} held-out examples" if examples else ""
    shared = conditions(row, "{0} each", "{} tokens a chunk")
    notes = dict.fromkeys(f"{name}: no {row['task']}: {row['note']}" for name, row in rows if row.get("note"))
    chance = any(
        chance_of(setting, key[0]) is not None for some in access_columns(setting).values() for key in some.values()
    )
    return listed(f"up to {many} a task" if len(examples) > 1 else many, shared), list(notes), chance


def memories_of(row: Row) -> tuple[str, str]:
    """How many memories tokens could read, fewest to most, and their mean where that is another number."""
    fewest, mean, most = (figure_of(row, f"memories_{key}") for key in ("min", "mean", "max"))
    if fewest is None or most is None or fewest == most:
        return "–" if most is None else number(most), ""
    return f"{number(fewest)}–{number(most)}", f"mean {number(mean, 2)}" if mean is not None else ""


def reads(model: Model) -> tuple[str, str]:
    """How many memories tokens of the causal task could read; the model's kind, and how memories are read."""
    own = [row for row in model.first.rows if row["memory"] == "own"]
    many = memories_of(min(own, key=lambda row: row["task"] != "causal", default={}))
    return listed(*many), listed(model.first.about("kind"), model.first.about("reader"))


def tokens_of(sample: Row, full: float) -> Iterator[Row]:
    """All that is shown of each token of a text: `full` is the change of logits that has the full colour."""
    for n, piece in enumerate(sample["pieces"]):
        token: Row = {"n": n + 1, "piece": str(piece), "chunk": n // sample["chunk_tokens"]}
        token |= {key: sample[key][n] for key in ("places", "loss", "l1", "cosine", "entropy", "entropy_none")}
        shades = {"loss": abs(token["loss"]) / FULL, "l1": token["l1"] / full if full else 0}
        shades = {key: min(100, round(100 * shade)) for key, shade in shades.items()}
        by = sample["told_by"][n] if sample["told_by"] and shades["l1"] >= TOLD else -1
        colours = [f"--{key}:{shade}%" for key, shade in shades.items() if shade >= VISIBLE]
        colours += [f"--by:var(--series-{by % COLOURS})"] if by >= 0 else []
        yield token | {"style": ";".join(colours), "told_by": f"chunk {by + 1}" if by >= 0 else ""}


def columns_of(run: Run) -> dict[str, bool]:
    """All columns of a benchmark, in the order in which rows have them, and which are of words."""
    keys = dict.fromkeys(key for row in run.rows for key in row)
    return {key: all(isinstance(row.get(key), str) for row in run.rows) for key in keys}


def provenance(runs: Runs) -> list[tuple[str, str, dict[str, str]]]:
    """Name, kind and facts of each run; facts that a run does not know are left out."""
    retention = {run.path.resolve() for run in runs.measurement}  # which speaks for the same folder's access
    found = []
    for run in (run for kind in KINDS for run in getattr(runs, kind)):
        if run.kind == "access" and run.path.resolve() in retention:
            continue
        row = {key: run.rows[0].get(key) for key in FACTS[:5]} if run.rows and run.kind != "training" else {}
        told: dict[str, Any] = row | run.config | run.environment
        if run.kind in ("training", "evaluation"):  # not where data lies; an evaluation's differs from task to task
            told["data"] = run.environment.get("data")
        if run.kind in ("access", "evaluation"):
            told["models"] = list(dict.fromkeys(row["model"] for row in run.rows))
        told["probe"] = next((row["probe"] for row in run.rows if row.get("probe")), None)
        packages = {key: told.get(key) for key in ("memlm", "python")} | (told.get("packages") or {})
        told["versions"] = {key: version for key, version in packages.items() if version != "absent"}
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
