"""What templates ask of rows: conditions that they share, columns that somebody has, tokens in their colours, facts."""

from collections.abc import Iterator
from typing import Any

from memlm.results.compared import COLOURS, Model, Setting
from memlm.results.runs import Row, Run
from memlm.results.text import figure_of, listed, number, plural

FULL = 8.0  # nats of cross-entropy that have the full colour
VISIBLE = 2  # per cent of the full colour; what is paler has none
Columns = dict[str, dict[str, tuple[str, ...]]]  # group -> title -> task, memory, metric, mode
TOLD = 15  # per cent of the full colour of l1 above which it is said which memory told a token
FACTS = ("commit", "data", "seed", "machine", "device", "versions", "probe", "models", "objective", "batch", "optim")
FACTS += ("start", "frozen", "model", "setting")


def conditions(row: Row, chunk: str, tokens: str) -> str:
    """What all rows of a table have in common."""
    chunks, length, words = (figure_of(row, key) for key in ("chunks", "chunk_tokens", "vocab_size"))
    many = chunk.format(plural(chunks, "chunk"), plural(chunks, "held-out chunk")) if chunks else ""
    return listed(
        many, tokens.format(number(length)) if length else "", f"vocabulary of {number(words)}" if words else ""
    )


def asked(setting: Setting, groups: Columns) -> Columns:
    """Groups of columns of access to memory without those that no model has a figure for."""
    known = {
        group: {title: key for title, key in columns.items() if any(model.access(*key) for model in setting)}
        for group, columns in groups.items()
    }
    return {group: columns for group, columns in known.items() if columns}


def access_facts(setting: Setting) -> tuple[str, list[str]]:
    """What all rows of a setting have in common, and why something was not measured."""
    rows = [(one.name, row) for model in setting for one in model.seeds for row in one.rows]
    row = next((row for _, row in rows if row["task"] == "causal" and row["metric"]), rows[0][1])
    examples = {n for _, row in rows if (n := figure_of(row, "examples")) and not row["group"]}
    many = f"{number(max(examples))} held-out examples" if examples else ""
    shared = conditions(row, "{0} each", "{} tokens a chunk")
    notes = dict.fromkeys(f"{name}: no {row['task']}: {row['note']}" for name, row in rows if row.get("note"))
    return listed(f"up to {many} a task" if len(examples) > 1 else many, shared), list(notes)


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
    T, pieces, opened = sample["chunk_tokens"], sample["pieces"], sample.get("opened")
    for n, piece in enumerate(pieces):
        token: Row = {"n": n + 1, "piece": str(piece), "chunk": n // T}
        looked = [(k + 1, share, "".join(pieces[k * T : (k + 1) * T])) for k, share in opened[n]] if opened else []
        token["looked_up"] = [f"chunk {k}, {share:.0%}: “{passage}”" for k, share, passage in looked]
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


def facts_of(run: Run) -> dict[str, str]:
    """Enough to run it again; what it does not know is left out."""
    row = {key: run.rows[0].get(key) for key in FACTS[:5]} if run.rows and run.kind != "training" else {}
    told: dict[str, Any] = row | run.config | run.environment | {"start": run.config.get("start")}
    if run.kind in ("training", "evaluation"):  # not where data lies; an evaluation's differs from task to task
        told["data"] = run.environment.get("data")
    if run.kind in ("access", "evaluation"):
        told["models"] = list(dict.fromkeys(row["model"] for row in run.rows))
    told["probe"] = next((row["probe"] for row in run.rows if row.get("probe")), None)
    packages = {key: told.get(key) for key in ("memlm", "python")} | (told.get("packages") or {})
    told["versions"] = {key: version for key, version in packages.items() if version != "absent"}
    return {key: fact for key in FACTS if (fact := described(told.get(key)))}


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
