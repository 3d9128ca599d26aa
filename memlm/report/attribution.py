"""What memories told, as HTML: a table of figures, and texts whose tokens are coloured by what they owe to memories."""

from itertools import groupby
from typing import Any

from memlm.report.access import Form, Told
from memlm.report.attributed import Attributed
from memlm.report.figures import SERIES
from memlm.report.passages import text as shown_text
from memlm.report.runs import Row
from memlm.report.tables import digits, plain, seeds_tag, swatch
from memlm.report.text import escape, number, share

FULL = 8.0  # nats of cross-entropy that have the full colour
VISIBLE = 2  # per cent of the full colour; what is paler has none
TOLD = 15  # per cent of the full colour of l1 above which it is said which memory told a token
_LINES = [  # text, places -> how they are called
    ("plain", "plain", "plain text"),
    ("copy", "plain", "copy: the text before"),
    ("copy", "copied", "copy: copied"),
    ("noisy copy", "copied", "half noise: copied"),
    ("noisy copy", "noise", "half noise: noise"),
]
_MEANS: list[tuple[str, str, Form]] = [
    ("loss, nats", "loss", digits(3)),
    ("logits, L<sub>1</sub>", "l1", digits(1)),
    ("1 − cosine", "cosine", digits(3)),
    ("with", "entropy", digits(2)),
    ("without", "entropy_none", digits(2)),
]
_TEXTS = {"plain": "plain text", "copy": "a copy", "noisy copy": "a copy, half of it noise"}
_HEAD = ("", "token", "chunk", "is", "told by", "loss", "L<sub>1</sub>", "1 − cosine", "entropy", "without")


def attribution_table(models: list[Attributed], series: dict[str, int]) -> str:
    """A line for each model, text and kind of place."""
    body = "".join(f"<tbody>{_lines(model, series)}</tbody>" for model in models)
    titles = "".join(
        f'<th scope="col"{" class=edge" if i in (0, 3) else ""}>{t}</th>' for i, (t, _, _) in enumerate(_MEANS)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="attribution"><table class="retention">'
        '<thead><tr class="groups"><th></th><th></th><th colspan="3">what hiding memories changes</th>'
        '<th colspan="2">entropy, nats</th><th colspan="2">copied told from these, AUC</th><th>single memory</th></tr>'
        f'<tr><th scope="col">model</th><th scope="col" class="word">tokens</th>{titles}<th scope="col" class="edge">'
        'by loss</th><th scope="col">by L<sub>1</sub></th><th scope="col" class="edge">right one, %</th></tr></thead>'
        f"{body}</table></div>"
    )


def attribution_texts(models: list[Attributed], group: str = "attribution") -> str:
    """A switch between two measures, and a panel for each model, one shown at a time; empty without texts."""
    shown = [model for model in models if model.samples]
    panels = "".join(
        f'<input type="radio" name="{group}" id="{group}-{i}"{" checked" if i == 0 else ""}>'
        f'<label for="{group}-{i}">{escape(model.name)}'
        f"<small>reads {escape(model.seeds[0][0]['reader'])}</small></label>"
        f'<div class="panel">{_panel(model)}</div>'
        for i, model in enumerate(shown)
    )
    if not panels:
        return ""
    switch = "".join(
        f'<input type="radio" name="{group}-by" id="{group}-by-{key}"{" checked" if key == "loss" else ""}>'
        f'<label class="by" for="{group}-by-{key}">{title}</label>'
        for key, title in (("loss", "change in loss"), ("l1", "change in logits (L<sub>1</sub>)"))
    )
    return (
        f'<div class="occlusion"><span class="by">Colour is the </span>{switch}'
        f'<div class="chooser" role="group" aria-label="whose memories are hidden">{panels}</div></div>'
    )


def _lines(model: Attributed, series: dict[str, int]) -> str:
    body = ""
    for text, places, title in _LINES:
        if not model.told(text, places, "mean", "loss"):
            continue
        head = "" if body else f"{swatch(series.get(model.first))}{escape(model.name)}{seeds_tag(len(model.seeds))}"
        cells = "".join(
            _cell(model.told(text, places, "mean", metric), form, "edge" if i in (0, 3) else "")
            for i, (_, metric, form) in enumerate(_MEANS)
        )
        for i, metric in enumerate(("loss", "l1")):
            cells += _cell(model.told(text, "copied", "auc", metric, places), digits(3), "" if i else "edge")
        right, chance = model.told(text, places, "source", "l1"), model.chance(text)
        guess = f"<small>chance {share(chance, 0)}</small>" if right and chance is not None else ""
        cells += _cell(right, share, "edge", guess)
        body += f'<tr><th scope="row">{head}</th><td class="word">{title}</td>{cells}</tr>'
    return body


def _cell(told: Told | None, form: Form, kind: str, more: str = "") -> str:
    under = f"<small>{escape(told.spread(form))}</small>" if told and told.interval else ""
    return f'<td class="{kind}">{plain(told.value, form) if told else ""}{under}{more}</td>'


def _panel(model: Attributed) -> str:
    full = max((value for sample in model.samples for value in sample["l1"]), default=0.0)
    legend = (
        f'<p class="scale loss"><i class="ramp less"></i> memories mislead by {number(FULL)} nats or more … 0 … '
        f'<i class="ramp"></i> they save {number(FULL)} nats or more</p>'
        f'<p class="scale l1">0 … <i class="ramp"></i> the logits move by {number(full)} (sum over the vocabulary)</p>'
    )
    if any(sample["told_by"] for sample in model.samples):
        legend += (
            '<p class="scale"><i class="number" style="--by:var(--series-0)">1</i> begins a chunk; a token underlined '
            "in a chunk’s colour would change most without that chunk’s memory.</p>"
        )
    return legend + "".join(_text(sample, full) for sample in model.samples)


def _text(sample: Row, full: float) -> str:
    tokens = list(_tokens(sample, full))
    chunks = [(chunk, list(some)) for chunk, some in groupby(tokens, lambda token: token["chunk"])]
    marked = "".join(
        f'<i class="number" style="--by:{_colour(chunk)}">{chunk + 1}</i>{"".join(map(_mark, some))}'
        for chunk, some in chunks
    )
    titles = "".join(
        f'<th scope="col"{" class=word" if 0 < i < 5 else ""}>{title}</th>' for i, title in enumerate(_HEAD)
    )
    rows = "".join(map(_row, tokens))
    return (
        f'<h4>{_TEXTS.get(sample["text"], escape(sample["text"]))}</h4><p class="heat">{marked}</p>'
        '<details><summary>the same as a table</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="the same as a table"><table class="plain"><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody>'
        "</table></div></details>"
    )


def _tokens(sample: Row, full: float) -> Any:
    """All that is shown of each token."""
    for n, piece in enumerate(sample["pieces"]):
        token: dict[str, Any] = {"n": n, "piece": str(piece), "chunk": n // sample["chunk_tokens"]}
        token |= {key: sample[key][n] for key in ("places", "loss", "l1", "cosine", "entropy", "entropy_none")}
        token["by_loss"] = min(100, round(100 * abs(token["loss"]) / FULL))
        token["by_l1"] = min(100, round(100 * token["l1"] / full)) if full else 0
        by = sample["told_by"][n] if sample["told_by"] else -1
        yield token | {"told_by": by if by >= 0 and token["by_l1"] >= TOLD else None}


def _mark(token: dict[str, Any]) -> str:
    """A token in its colours; pointing at it tells the numbers."""
    colours = [f"--{key}:{token[f'by_{key}']}%" for key in ("loss", "l1") if token[f"by_{key}"] >= VISIBLE]
    if token["told_by"] is not None:
        colours.append(f"--by:{_colour(token['told_by'])}")
    told = f", told by chunk {token['told_by'] + 1}" if token["told_by"] is not None else ""
    said = (
        f"“{token['piece']}” {token['places']}{told}: without memories {number(token['loss'], 2)} nats more loss, "
        f"logits move by {number(token['l1'], 1)} (1 − cosine {number(token['cosine'], 3)}), entropy "
        f"{number(token['entropy'], 2)} with, {number(token['entropy_none'], 2)} without"
    ).replace("\n", "↵")
    kind = ' class="less"' if token["loss"] < 0 else ""
    style = f' style="{";".join(colours)}"' if colours else ""
    return f'<b{kind}{style} title="{escape(said)}">{shown_text(token["piece"])}</b>'


def _row(token: dict[str, Any]) -> str:
    told = f"chunk {token['told_by'] + 1}" if token["told_by"] is not None else ""
    words = (token["piece"].replace("\n", "↵"), str(token["chunk"] + 1), token["places"], told)
    figures = (("loss", 2), ("l1", 1), ("cosine", 3), ("entropy", 2), ("entropy_none", 2))
    return (
        f'<tr><th scope="row">{token["n"] + 1}</th>{"".join(f"<td class=word>{escape(word)}</td>" for word in words)}'
        f"{''.join(f'<td>{number(token[key], count)}</td>' for key, count in figures)}</tr>"
    )


def _colour(chunk: int) -> str:
    return f"var(--series-{chunk % len(SERIES)})"
