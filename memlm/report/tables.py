"""Tables described as data: a line of text for each group of columns, and rows that answer to the columns' keys."""

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from memlm.report.choose import CONTROLS, by_model, is_control
from memlm.report.compared import Model, Setting, chance_of
from memlm.report.lineage import parts_of
from memlm.report.ranking import Ranking
from memlm.report.runs import Row, Run, owner
from memlm.report.text import Form, Told, digits, figure_of, listed, number, plural, share, span, told


class Cell(NamedTuple):
    """What a cell says (None is what is not known), what stands small beneath, and what pointing at it tells."""

    text: str | None
    small: str = ""
    title: str = ""


def significant(value: float) -> str:
    """Three digits that count."""
    whole = value == int(value) or abs(value) >= 1000
    return number(value, 0 if whole else max(0, 2 - math.floor(math.log10(abs(value)))))


# What objectives teach, in the order in which they are shown.
LEARNS = {"autoencode": "recall", "noise": "recall of random tokens", "causal": "next token", "copy": "copy"}
LEARNS |= {"blank": "blank copy", "recall": "key-value recall"}
FORMS: dict[str, Form] = {str(count): digits(count) for count in range(5)}
FORMS |= {"share": share, "change": lambda value: number(100 * value, 1), "significant": significant}
# Group: title = form key | title = form key ... The form `word` stands to the left; `share/1` has a digit less in its
# intervals. A group without a name is -.
RETENTION = """
encoder: kind, training = word kind | decoder = word decoder
chunk: length = word length | vector = word memory_dim
recalled: tokens, % = share token_accuracy | chunks, % = share exact_match | first error at = 1 first_error
information: Hᵣ = 3 entropy_ratio | bits per byte = 3 bits_per_byte
usable bits: per token = 2 usable_bits_per_token | per embed\u00adding = 0 usable_bits_per_embedding
usable bits: per dimen\u00adsion = 2 usable_bits_per_dimension
"""
RANKED = """
-: usable bits a token = 2 usable_bits_per_token | an embedding = 0 usable_bits_per_embedding
-: a dimension = 2 usable_bits_per_dimension | Hᵣ = 3 entropy_ratio
-: tokens right, % = share token_accuracy | chunks right, % = share exact_match
-: encoder’s parameters = 0 encoder_parameters | s for 1,000 chunks = 2 encode_seconds
-: training tokens = 0 train_tokens | training s = 0 train_seconds
"""
CEILINGS = """
-: task = word task | read before a token = word mode | figure = word metric
-: layer = 0 layer | tokens = 0 chunk_tokens | chunks = 0 chunks | value = 3 value
"""
STORAGE = """
-: memory (fp32) = 0 memory_bytes | token ids = 0 token_id_bytes | gzip = 0 gzip_bytes | plain text = 0 text_bytes
-: memory / text = 1 ratio
"""
ACCESS = """
causal loss, nats a token: with own mem\u00adory = 3 causal own cross_entropy
causal loss, nats a token: with\u00adout = 3 causal none cross_entropy
causal loss, nats a token: with an\u00adother’s = 3 causal other cross_entropy | gain = 3 causal gain cross_entropy
copy, tokens right, %: with mem\u00adory = share/1 copy own token_accuracy teacher-forced
copy, tokens right, %: with\u00adout = share/1 copy none token_accuracy teacher-forced
copy, tokens right, %: free run\u00adning = share/1 copy own token_accuracy free-running
blank copy, %: tokens right = share/1 blank own token_accuracy | whole copies = share/1 blank own exact_match
look-up, values right, %: key-value recall = share/1 recall own token_accuracy
look-up, values right, %: needle = share/1 needle own token_accuracy
"""
ATTRIBUTED = """
-: tokens = word tokens
what hiding memories changes: loss, nats = 3 mean loss | logits, L₁ = 1 mean l1 | 1 − cosine = 3 mean cosine
entropy, nats: with = 2 mean entropy | without = 2 mean entropy_none
copied told from these, AUC: by loss = 3 auc loss | by L₁ = 3 auc l1
single memory: right one, % = share source l1
"""
TOKENS = """
-: token = word piece | chunk = word chunk | is = word places | told by = word told_by | loss = 2 loss | L₁ = 1 l1
-: 1 − cosine = 3 cosine | entropy = 2 entropy | without = 2 entropy_none
"""
TASKS = """
-: model = word model | reads = word reads | value = 0 value | difference = 0 difference | memories = 0 memories
-: examples = 0 n
"""
TRAINING = """
-: learns = word learns | steps = 0 step | tokens read = 0 tokens | seconds = 0 train_seconds
-: tokens a second = 0 tokens_per_second | held-out nats a token = 4 cross_entropy
-: tokens right, % = share token_accuracy | whole chunks right, % = share exact_match
"""
_PLACES = {  # text and places -> how they are called
    ("plain", "plain"): "plain text",
    ("copy", "plain"): "copy: the text before",
    ("copy", "copied"): "copy: copied",
    ("noisy copy", "copied"): "half noise: copied",
    ("noisy copy", "noise"): "half noise: noise",
}
_READS = {"own": "own memories", "none": "no memories", "random": "random vectors", "base": "base model, all tokens"}


class Column(NamedTuple):
    """A title, what it asks of a row, and how that is written."""

    title: str
    key: str
    form: str = "0"
    group: str = ""

    def cell(self, value: Told | Cell | float | str | None) -> Cell:
        """A figure has its interval beneath it."""
        if isinstance(value, Cell):
            return value
        if value is None or isinstance(value, str):
            return Cell(value)
        form, less = FORMS.get(self.form.partition("/")[0], number), self.form.partition("/")[2]
        if not isinstance(value, Told):
            return Cell(form(value))
        ends: Form = (lambda end: share(end, int(less))) if less else form
        return Cell(form(value.value), span(value.interval, ends) if value.interval else "")


def columns(text: str) -> list[Column]:
    """Columns from their lines of text."""
    found = []
    for line in text.strip().splitlines():
        group, _, some = line.partition(": ")
        for title, _, spec in (one.partition(" = ") for one in some.split(" | ")):
            form, _, key = spec.partition(" ")
            found.append(Column(title, key, form, "" if group == "-" else group))
    return found


class Line(NamedTuple):
    """A row of a table: whom it is about, and what it answers to the key of a column."""

    head: str
    says: Callable[[str], Any]
    series: int | None = None
    tag: str = ""  # small, after its name
    kind: str = ""  # a class of page.css
    title: str = ""  # what pointing at its name tells


class Table(NamedTuple):
    """Rows in bodies with a rule between them; what a screen reader calls it; what stands above and beneath it."""

    label: str
    head: str
    columns: list[Column]
    bodies: list[list[Line]]
    title: str = ""
    conditions: str = ""
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Names of groups, and how many columns each has."""
        return [(name, len(list(some))) for name, some in groupby(column.group for column in self.columns)]


def row_says(row: Row) -> Callable[[str], Any]:
    """The answers of a row: words and cells as they are, numbers with their intervals."""
    return lambda key: row.get(key) if isinstance(row.get(key), (str, Cell)) else told(row, key)


def retention(run: Run, series: dict[str, int]) -> Table:
    """Every result of a measurement, controls lighter under their model."""
    bodies = []
    for rows in by_model(run):
        lines = []
        # Each decoder's row, its controls after it.
        for row in sorted(rows, key=lambda r: (r["decoder"] != "own", is_control(r), r["training"] == "untrained")):
            control, name = CONTROLS.get(row["training"]), row["model"]
            tokens, chars = (Column("", "").cell(told(row, key)).text or "–" for key in ("chunk_tokens", "chunk_chars"))
            kind = Cell(str(row.get("encoder", "–")), str(row["training"]))
            says = row_says(row | {"kind": kind, "length": Cell(f"{tokens} tokens", f"{chars} chars")})
            kind = "control" if control else "main"
            lines.append(Line(control or name, says, None if control else series.get(name), kind=kind, title=name))
        bodies.append(lines)
    about = conditions(run.rows[0], "held-out chunk", "tokens each")
    return Table("retention", "model", columns(RETENTION), bodies, run.name, about)


def conditions(row: Row, chunk: str, tokens: str) -> str:
    """What all rows have in common."""
    chunks, length, words = (figure_of(row, key) for key in ("chunks", "chunk_tokens", "vocab_size"))
    many = f"{number(length)} {tokens}" if length else ""
    return listed(plural(chunks, chunk) if chunks else "", many, f"vocabulary of {number(words)}" if words else "")


def storage(run: Run, series: dict[str, int]) -> Table:
    """What each model's memory costs in bytes, beside other ways of keeping the same chunk."""
    rows: dict[str, Row] = {}
    for row in run.rows:
        memory, text = figure_of(row, "memory_bytes"), figure_of(row, "text_bytes")
        if not is_control(row) and memory is not None:
            rows.setdefault(owner(row), row | {"ratio": f"{number(memory / text, 1)}×" if text else None})
    lines = [Line(name, row_says(row), series.get(name)) for name, row in rows.items()]
    return Table("storage", "model", columns(STORAGE), [lines], run.name)


def ceilings(run: Run, series: dict[str, int]) -> Table:
    """What a model of others could give without any probe."""
    rows = [row | {"metric": str(row["metric"]).replace("_", " ")} for row in run.ceilings]
    return Table("ceilings", "model", columns(CEILINGS), [[Line(r["model"], row_says(r)) for r in rows]], run.name)


def ranking(ranked: Ranking, series: dict[str, int]) -> Table:
    """Who holds most, among those that can be compared."""
    rows = enumerate(ranked.rows, 1)
    lines = [Line(f"{i} {r['name']}", row_says(r), series.get(r["model"]), r["training"]) for i, r in rows]
    shown = [Column("vector", "memory_dim"), *columns(RANKED)]
    return Table("ranking", "rank, model", shown, [lines], ranked.title, ranked.conditions)


def access(setting: Setting, series: dict[str, int]) -> Table:
    """Every model of a setting, with its memories, without, with another text's; chance as the last row."""

    def says(model: Model) -> Callable[[str], Any]:
        own = [row for row in model.first.rows if row["memory"] == "own"]
        many = _memories(min(own, key=lambda row: row["task"] != "causal", default={}))
        reads = Cell(
            listed(many.text or "–", many.small), listed(model.first.about("kind"), model.first.about("reader"))
        )
        return lambda key: reads if key == "memories" else model.access(*key.split())

    def chance(key: str) -> Cell:
        task, _, metric, *_ = [*key.split(), "", ""]
        among, told = (chance_of(setting, task, which) for which in ("chance", "chance_told"))
        if among is None or metric != "token_accuracy":
            return Cell("")
        return Cell(share(among), f"{share(told)} of those told" if told is not None else "")

    lines = [Line(m.name, says(m), series.get(m.first.name), _seeds(m)) for m in setting]
    asked = [column for column in columns(ACCESS) if any(line.says(column.key) for line in lines)]
    lines += [Line("chance", chance, kind="chance")] if any(chance(column.key).text for column in asked) else []
    rows = [(one.name, row) for model in setting for one in model.seeds for row in one.rows]
    notes = dict.fromkeys(f"{name}: no {row['task']}: {row['note']}" for name, row in rows if row.get("note"))
    row = next((row for _, row in rows if row["task"] == "causal" and row["metric"]), rows[0][1])
    examples = {n for _, row in rows if (n := figure_of(row, "examples")) and not row["group"]}
    many = f"{number(max(examples))} held-out examples" if examples else ""
    about = listed(f"up to {many} a task" if len(examples) > 1 else many, conditions(row, "chunk", "tokens a chunk"))
    about = about.replace(" chunks,", " chunks each,").replace(" chunk,", " chunk each,")
    shown = [Column("mem\u00adories", "memories", "word", "reads"), *asked]
    return Table("access to memory", "model", shown, [lines] if asked else [], "", about, tuple(notes))


def attribution(models: list[Model], series: dict[str, int]) -> Table:
    """A line for each model, text and kind of place."""

    def says(model: Model, text: str, places: str) -> Callable[[str], Any]:
        def answer(key: str) -> Any:
            if key == "tokens":
                return _PLACES[text, places]
            figure, metric = key.split()
            # How well copied places are told from others is a figure of the copied ones.
            asked = (
                (text, "copied", figure, metric, places) if figure == "auc" else (text, places, figure, metric, None)
            )
            found = model.figures.get(asked)
            if figure != "source" or not found:
                return found or ""
            chance = next(r["chance"] for r in model.first.rows if r["text"] == text and r["figure"] == "source")
            ends = span(found.interval, share) if found.interval else ""
            return Cell(share(found.value), listed(ends, f"chance {share(chance, 0)}" if chance is not None else ""))

        return answer

    bodies = []
    for model in models:
        known = [key for key in _PLACES if (*key, "mean", "loss", None) in model.figures]
        first, *others = [Line("", says(model, *key)) for key in known] or [Line("", str)]
        head = first._replace(head=model.name, series=series.get(model.first.name), tag=_seeds(model))
        bodies += [[head, *others]] if known else []
    return Table("attribution", "model", columns(ATTRIBUTED), bodies)


def tokens(some: list[Row]) -> Table:
    """A text token by token."""
    facts = [{"piece": t["piece"].replace("\n", "↵"), "chunk": str(t["chunk"] + 1)} for t in some]
    facts = [f | {"told_by": f"chunk {t['told_by']}" if t["told_by"] else ""} for t, f in zip(some, facts, strict=True)]
    lines = [Line(str(t["n"]), row_says(t | f)) for t, f in zip(some, facts, strict=True)]
    return Table("tokens", "", columns(TOKENS), [lines])


def evaluation(run: Run, series: dict[str, int]) -> Table:
    """A line for each model and condition, those of a task together."""

    def is_share(row: Row) -> bool:
        return str(row["metric"]).startswith(("acc", "exact_match"))

    def figure(row: Row) -> tuple[str, str]:
        kept = "" if row.get("filter", "none") == "none" else f", {row['filter']}"
        return str(row["task"]), f"{row['metric']}{', %' if is_share(row) else ''}{kept}"

    bodies = []
    for (task, metric), rows in groupby(sorted(run.rows, key=figure), key=figure):  # models keep their order
        lines = []
        for row in rows:
            form = Column("", "", "change" if is_share(row) else "3")
            facts = {key: form.cell(told(row, key)) for key in ("value", "difference")}
            facts["difference"] = facts["difference"]._replace(
                title=f"from {row['against']}" if row.get("against") else ""
            )
            facts |= {"memories": _memories(row), "reads": _READS.get(row["condition"], str(row["condition"]))}
            name = {"head": "", "tag": ""} if lines else {"head": task, "tag": metric}
            lines.append(Line(says=row_says(row | facts), series=series.get(row["model"]), **name))
        bodies.append(lines)
    return Table("evaluation", "task", columns(TASKS), bodies, run.name)


def efficiency(run: Run, series: dict[str, int]) -> Table:
    """Every row as the benchmark has it."""
    first, *others = dict.fromkeys(key for row in run.rows for key in row)
    words = {key for key in others if all(isinstance(row.get(key), str) for row in run.rows)}
    rows = [{key: None if value == "-" else value for key, value in row.items()} for row in run.rows]
    shown = [Column(key, key, "word" if key in words else "significant") for key in others]
    lines = [Line(Column("", "", "significant").cell(row_says(row)(first)).text or "–", row_says(row)) for row in rows]
    return Table("efficiency", first, shown, [lines])


def training(runs: list[Run], series: dict[str, int]) -> Table:
    """Where each training run ended: its budget, its speed and its last held-out figures, a line an objective."""
    lines = []
    for run in runs:
        for i, (task, row) in enumerate(parts_of(run, run.last).items()):
            spent = dict.fromkeys(("step", "tokens", "train_seconds", "tokens_per_second"), "") if i else {}
            says = row_says(row | spent | {"learns": LEARNS.get(task, task)})
            state = "" if run.summary else "not finished"
            lines.append(Line("", says, kind="part") if i else Line(run.name, says, series.get(run.name), state))
    return Table("training", "run", columns(TRAINING), [lines])


def _memories(row: Row) -> Cell:
    """How many memories tokens could read, fewest to most, and their mean where that is another number."""
    fewest, mean, most = (figure_of(row, f"memories_{key}") for key in ("min", "mean", "max"))
    if fewest is None or most is None or fewest == most:
        return Cell(None if most is None else number(most))
    return Cell(f"{number(fewest)}–{number(most)}", f"mean {number(mean, 2)}" if mean is not None else "")


def _seeds(model: Model) -> str:
    """What is said beneath the name of a model that is several seeds of one config."""
    return f"mean and range of {len(model.seeds)} seeds" if len(model.seeds) > 1 else ""
