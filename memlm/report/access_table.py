"""The table of access to memory as HTML: a row for each model, with its memories, without, with another text's."""

from typing import NamedTuple

from memlm.report.access import Form, Model, Setting, Told
from memlm.report.tables import digits, plain, seeds_tag, swatch
from memlm.report.text import NOTHING, escape, figure_of, number, plural, share


class Column(NamedTuple):
    """What a column shows."""

    title: str
    task: str
    metric: str
    memory: str
    mode: str | None
    form: Form

    def of(self, model: Model) -> Told | None:
        """Its figure of a model."""
        return model.told(self.task, self.metric, self.memory, self.mode)


Columns = dict[str, list[Column]]  # under what stands above them
_COLUMNS: Columns = {
    "causal loss, nats a token": [
        Column("with own mem\u00adory", "causal", "cross_entropy", "own", None, digits(3)),
        Column("with\u00adout", "causal", "cross_entropy", "none", None, digits(3)),
        Column("with an\u00adother’s", "causal", "cross_entropy", "other", None, digits(3)),
        Column("gain", "causal", "cross_entropy", "gain", None, digits(3)),
    ],
    "copy, tokens right, %": [
        Column("with mem\u00adory", "copy", "token_accuracy", "own", "teacher-forced", share),
        Column("with\u00adout", "copy", "token_accuracy", "none", "teacher-forced", share),
        Column("free run\u00adning", "copy", "token_accuracy", "own", "free-running", share),
    ],
    "blank copy, %": [
        Column("tokens right", "blank", "token_accuracy", "own", None, share),
        Column("whole copies", "blank", "exact_match", "own", None, share),
    ],
    "look-up, values right, %": [
        Column("key-value recall", "recall", "token_accuracy", "own", None, share),
        Column("needle", "needle", "token_accuracy", "own", None, share),
    ],
}


def access_table(setting: Setting, series: dict[str, int]) -> str:
    """Every model of a setting, chance as the last row; `series` says each model's colour."""
    shown: Columns = {  # what no model was asked for has no column
        group: kept
        for group, columns in _COLUMNS.items()
        if (kept := [column for column in columns if any(column.of(model) for model in setting.models)])
    }
    if not shown:
        return ""
    groups = "".join(f'<th colspan="{len(columns)}">{group}</th>' for group, columns in shown.items())
    titles = "".join(
        f'<th scope="col" class="{"edge" if i == 0 else ""}">{column.title}</th>'
        for columns in shown.values()
        for i, column in enumerate(columns)
    )
    body = "".join(_row(model, shown, series) for model in setting.models) + _chance(setting, shown)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="access to memory"><table class="plain access">'
        f'<thead><tr class="groups"><th></th><th>reads</th>{groups}</tr>'
        f'<tr><th scope="col">model</th><th scope="col" class="word">mem\u00adories</th>'
        f"{titles}</tr></thead><tbody>{body}</tbody></table></div>{_notes(setting)}"
    )


def conditions(setting: Setting) -> str:
    """What all rows of a setting have in common."""
    row = next((row for row in setting.rows if row["task"] == "causal" and row["metric"]), setting.rows[0])
    examples = {int(n) for r in setting.rows if (n := figure_of(r, "examples")) and not r["group"]}
    many = f"{number(max(examples))} held-out examples" if examples else ""
    if len(examples) > 1:
        many = f"up to {many} a task"
    known = [
        many,
        f"{plural(int(c), 'chunk')} each" if (c := figure_of(row, "chunks")) else "",
        f"{number(t)} tokens a chunk" if (t := figure_of(row, "chunk_tokens")) else "",
        f"vocabulary of {number(v)}" if (v := figure_of(row, "vocab_size")) else "",
    ]
    return f'<p class="conditions">{", ".join(part for part in known if part)}</p>' if any(known) else ""


def _row(model: Model, shown: Columns, series: dict[str, int]) -> str:
    cells = ""
    for columns in shown.values():
        for i, column in enumerate(columns):
            told = column.of(model)
            value = plain(told.value if told else None, column.form)
            form = _shorter if column.form is share else column.form
            under = f"<small>{escape(told.spread(form))}</small>" if told and told.interval else ""
            cells += f'<td class="{"edge" if i == 0 else ""}">{value}{under}</td>'
    name = f"{escape(model.name)}{seeds_tag(len(model.seeds))}"
    return (
        f'<tr><th scope="row">{swatch(series.get(model.first.name))}{name}</th>'
        f'<td class="word">{_memories(model)}</td>{cells}</tr>'
    )


def _shorter(value: float) -> str:
    """An end of an interval in per cent: one digit less, there are many of them in a row."""
    return share(value, 1)


def _memories(model: Model) -> str:
    """How many memories tokens of the causal task could read, fewest to most; how they are read."""
    row = model.first.row("causal", "cross_entropy", "own")
    row = row or next((row for row in model.first.rows if row["memory"] == "own"), {})
    fewest, mean, most = (figure_of(row, f"memories_{key}") for key in ("min", "mean", "max"))
    if fewest is None or most is None:
        many = NOTHING
    else:
        many = number(most) if fewest == most else f"{number(fewest)}–{number(most)}"
    around = f", mean {number(mean, 2)}" if mean is not None and fewest != most else ""
    return f"{many}{around}<small>{escape(model.first.about('kind'))}, {escape(model.first.about('reader'))}</small>"


def _chance(setting: Setting, shown: Columns) -> str:
    """What guessing gives, under the columns where that is known."""
    cells, known = "", False
    for columns in shown.values():
        for i, column in enumerate(columns):
            accuracy = column.metric == "token_accuracy"
            among, told = (setting.chance(column.task, key) if accuracy else None for key in ("chance", "chance_told"))
            known |= among is not None
            under = f"<small>{share(told)} of those told</small>" if told is not None else ""
            edge = "edge" if i == 0 else ""
            cells += f'<td class="{edge}">{"" if among is None else share(among)}{under}</td>'
    return f'<tr class="chance"><th scope="row">chance</th><td></td>{cells}</tr>' if known else ""


def _notes(setting: Setting) -> str:
    """Why something was not measured."""
    said = {
        f"{one.name}: no {row['task']}: {row['note']}": None
        for model in setting.models
        for one in model.seeds
        for row in one.rows
        if row.get("note")
    }
    return f'<p class="conditions">{"<br>".join(map(escape, said))}</p>' if said else ""
