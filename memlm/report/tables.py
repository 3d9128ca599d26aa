"""Tables of a report as HTML: retention with its controls, storage."""

from collections.abc import Callable

from memlm.report.choose import CONTROLS, by_model, is_control
from memlm.report.runs import Measurement, Row, owner
from memlm.report.text import NOTHING, escape, figure_of, interval_of, number, plural, share, span

Form = Callable[[float], str]


def digits(count: int) -> Form:
    """Numbers with that many digits after the point."""
    return lambda value: number(value, count)


# Group of columns -> (title, key, form); those without an interval in the data show none.
_COLUMNS: dict[str, list[tuple[str, str, Form]]] = {
    "recalled": [
        ("tokens, %", "token_accuracy", share),
        ("chunks, %", "exact_match", share),
        ("first error at", "first_error", digits(1)),
    ],
    "information": [("H<sub>r</sub>", "entropy_ratio", digits(3)), ("bits per byte", "bits_per_byte", digits(3))],
    "usable bits": [
        ("per token", "usable_bits_per_token", digits(2)),
        ("per embed\u00adding", "usable_bits_per_embedding", number),
        ("per dimen\u00adsion", "usable_bits_per_dimension", digits(2)),
    ],
}


def retention_table(measurement: Measurement, series: dict[str, int]) -> str:
    """Every result of a measurement, controls lighter under their model; `series` says each model's colour."""
    groups = "".join(f'<th colspan="{len(columns)}">{group}</th>' for group, columns in _COLUMNS.items())
    titles = "".join(
        f'<th scope="col" class="{"edge" if i == 0 else ""}">{title}</th>'
        for columns in _COLUMNS.values()
        for i, (title, _, _) in enumerate(columns)
    )
    bodies = "".join(
        f"<tbody>{''.join(_row(row, series, first=row is rows[0]) for row in _in_order(rows))}</tbody>"
        for _, rows in by_model(measurement)
    )
    return (
        '<div class="scroll"><table class="retention"><thead>'
        f'<tr class="groups"><th></th><th colspan="2">encoder</th><th colspan="2">chunk</th>{groups}</tr>'
        '<tr><th scope="col">model</th><th scope="col" class="word">kind, training</th>'
        '<th scope="col" class="word">decoder</th><th scope="col" class="word edge">length</th>'
        f'<th scope="col" class="word">vector</th>{titles}</tr></thead>{bodies}</table></div>'
    )


def storage_table(measurement: Measurement, series: dict[str, int]) -> str:
    """What each model's memory costs in bytes, beside other ways of keeping the same chunk; empty without figures."""
    keys = ("memory_bytes", "token_id_bytes", "gzip_bytes", "text_bytes")
    rows: dict[str, Row] = {}
    for row in measurement.results:
        if not is_control(row) and figure_of(row, keys[0]) is not None:
            rows.setdefault(owner(row), row)
    if not rows:
        return ""
    body = ""
    for name, row in rows.items():
        memory, text = figure_of(row, "memory_bytes"), figure_of(row, "text_bytes")
        cells = "".join(f"<td>{plain(figure_of(row, key), number)}</td>" for key in keys)
        ratio = f"{number(memory / text, 1)}×" if memory and text else NOTHING
        body += f'<tr><th scope="row">{swatch(series.get(name))}{escape(name)}</th>{cells}<td>{ratio}</td></tr>'
    return (
        '<div class="scroll"><table class="plain"><thead><tr><th scope="col">model</th><th scope="col">memory (fp32)'
        '</th><th scope="col">token ids</th><th scope="col">gzip</th><th scope="col">plain text</th>'
        f'<th scope="col">memory / text</th></tr></thead><tbody>{body}</tbody></table></div>'
    )


def ceilings_table(measurement: Measurement) -> str:
    """What a model of others could give without any probe; empty where nobody asked."""
    body = "".join(
        f'<tr><th scope="row">{escape(row["model"])}</th>'
        + "".join(f'<td class="word">{escape(row[key])}</td>' for key in ("task", "mode"))
        + f'<td class="word">{escape(str(row["metric"]).replace("_", " "))}</td>'
        + "".join(f"<td>{plain(figure_of(row, key), number)}</td>" for key in ("layer", "chunk_tokens", "chunks"))
        + f"<td>{with_interval(row, 'value', digits(3))}</td></tr>"
        for row in measurement.ceilings
    )
    head = ("model", "task", "read before a token", "figure", "layer", "tokens", "chunks", "value")
    kinds = ("", *['class="word"'] * 3, *[""] * 4)
    titles = "".join(f'<th scope="col" {kind}>{title}</th>' for kind, title in zip(kinds, head, strict=True))
    table = f'<div class="scroll"><table class="plain"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
    return f"{table}</div>" if body else ""


def _in_order(rows: list[Row]) -> list[Row]:
    """Each decoder's row, its controls after it."""
    return sorted(rows, key=lambda row: (row["decoder"] != "own", is_control(row), row["training"] == "untrained"))


def _row(row: Row, series: dict[str, int], *, first: bool) -> str:
    control = is_control(row)
    training = str(row["training"])
    if training == "none":
        name = "no memory"
    elif control:
        name = CONTROLS[training]
    else:
        name = f"{swatch(series.get(row['model']))}{escape(row['model'])}"
    tokens, chars, size = (plain(figure_of(row, k), number) for k in ("chunk_tokens", "chunk_chars", "memory_dim"))
    words = (
        f'<td class="word">{escape(row.get("encoder", "–"))}<small>{escape(training)}</small></td>'
        f'<td class="word">{escape(row["decoder"])}</td>'
        f'<td class="word edge">{tokens} tokens<small>{chars} chars</small></td>'
        f'<td class="word">{size}</td>'
    )
    cells = ""
    for columns in _COLUMNS.values():
        for i, (_, key, form) in enumerate(columns):
            cells += f'<td class="{"edge" if i == 0 else ""}">{with_interval(row, key, form)}</td>'
    kind = "control" if control else "main"
    title = f' title="{escape(row["model"])}"' if control else ""
    return f'<tr class="{kind}"><th scope="row"{title}>{name}</th>{words}{cells}</tr>'


def with_interval(row: Row, key: str, form: Form) -> str:
    """A figure, and its interval beneath it."""
    pair = interval_of(row, key)
    return plain(figure_of(row, key), form) + (f"<small>{escape(span(pair, form))}</small>" if pair else "")


def plain(value: float | None, form: Form) -> str:
    """A number, or a dash."""
    return NOTHING if value is None else escape(form(value))


def swatch(series: int | None) -> str:
    """The colour of a model, as it has it in figures."""
    return "" if series is None else f'<i class="swatch" style="background:var(--series-{series})"></i>'


def seeds_tag(count: int) -> str:
    """What is said beneath the name of a model that is several seeds of one config."""
    return f'<small class="tag">mean and range of {plural(count, "seed")}</small>' if count > 1 else ""
