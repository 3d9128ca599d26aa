"""Held-out passages beside what came back from one vector, wrong tokens marked; a chooser without any script."""

from collections.abc import Sequence
from typing import Any

from memlm.report.choose import CONTROLS, row_of, samples_to_show
from memlm.report.runs import Measurement, owner
from memlm.report.text import escape, figure_of, percent, plural

_READ_BY = {"own": "read by its own decoder", "fresh": "read by a fresh decoder"}


def chooser(measurement: Measurement, group: str = "passages") -> str:
    """One panel of passages for each model, one shown at a time; empty without samples."""
    panels = ""
    for i, sample in enumerate(samples_to_show(measurement)):
        name, about = _title(sample)
        row = row_of(measurement, sample)
        accuracy = figure_of(row, "token_accuracy") if row else None
        score = f" <b>{percent(accuracy)}</b>" if accuracy is not None else ""
        checked = " checked" if i == 0 else ""
        panels += (
            f'<input type="radio" name="{group}" id="{group}-{i}"{checked}>'
            f'<label for="{group}-{i}">{escape(name)}<small>{escape(about)}{score}</small></label>'
            f'<div class="panel">{"".join(_passage(passage) for passage in sample["passages"])}</div>'
        )
    return f'<div class="chooser" role="group" aria-label="whose memory is read">{panels}</div>' if panels else ""


def _title(sample: dict[str, Any]) -> tuple[str, str]:
    training, decoder = sample["training"], str(sample["decoder"])
    read = _READ_BY.get(decoder, f"read by {decoder}")
    if training == "none":
        return "no memory", "what a decoder guesses alone"
    if training == "untrained":
        return f"{owner(sample)}, {CONTROLS['untrained']}", read
    return sample["model"], f"{training}, {read}"


def _passage(passage: dict[str, list[Any]]) -> str:
    original, recalled, right = passage["original"], passage["recalled"], passage["right"]
    count = plural(len(right) - sum(map(bool, right)), "token")
    verdict = '<span class="whole">all of it right</span>' if all(right) else f"{count} of {len(right)} wrong"
    pairs = zip(recalled, right, original, strict=False)
    marked = "".join(text(piece) if ok else wrong(piece, truth) for piece, ok, truth in pairs)
    return (
        f'<div class="pair"><div><h4>original</h4><p>{text("".join(map(str, original)))}</p></div>'
        f"<div><h4>recalled <span>{verdict}</span></h4><p>{marked}</p></div></div>"
    )


def text(piece: str) -> str:
    """Text of a book in a paragraph: line ends become a faint mark, so that lines can be as long as there is room."""
    return '<i class="line"></i> '.join(escape(part) for part in piece.split("\n"))


def wrong(piece: str, truth: str) -> str:
    """A wrong token: coloured, underlined, and the right one on hovering. White space becomes visible."""
    shown = piece.replace("\n", "↵")
    shown = shown if shown.strip() else shown.replace(" ", "␣") or "∅"
    return f'<mark title="the text has {escape(_quoted(truth))}">{escape(shown)}</mark>'


def _quoted(piece: Sequence[str]) -> str:
    return "“" + str(piece).replace("\n", "↵") + "”"
