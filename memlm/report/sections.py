"""The sections of a page, each a function from a report to HTML; one with nothing to say returns an empty string.

A new kind of run adds its section to `SECTIONS`.
"""

from collections.abc import Callable

from memlm.report import tables
from memlm.report.blocks import Report, each, figure_cards, section
from memlm.report.memory_sections import (
    ACCESS_TERMS,
    access,
    attribution,
    efficiency,
    evaluation,
    what_the_paper_claims,
)
from memlm.report.passages import chooser
from memlm.report.provenance import provenance_cards
from memlm.report.ranking import rankings
from memlm.report.ranking_table import ranking_tables
from memlm.report.runs import Measurement, Row
from memlm.report.text import escape, figure_of, number, percent, plural
from memlm.report.training import training_table


def opening(report: Report) -> str:
    """Title, what this shows and for whom."""
    if report.runs.measurements:
        says = (
            "Each model below reads a stretch of text it has never seen and keeps a single vector of it; a decoder "
            "then writes the text down again from that vector alone. The page is for anyone who builds on embeddings "
            "and wants to know how much of the input is still in them."
        )
    elif report.settings:
        says = (
            "Each model below reads a text chunk by chunk and keeps a memory of every chunk. It is asked for what it "
            "read before: with its memories, without, and with those of another text. The page is for anyone who wants "
            "to put memories in the place of long token sequences, and asks what a model can get out of them."
        )
    elif report.runs.evaluations and not report.runs.training:
        says = (
            "Each model below is asked the same questions with its memories, without, and with random vectors in their "
            "place. The page is for whoever wants to know what memories are worth in tasks that others know too."
        )
    elif not report.runs.training:
        says = (
            "What reading and writing cost a model that keeps memories in the place of tokens, beside models that do "
            "not. The page is for whoever has long contexts to serve."
        )
    else:
        says = (
            "Training runs on the same terms: held-out figures against seconds and steps, and where each run ended. "
            "The page is for whoever chooses what to train next; no memory has been measured here yet."
        )
    return f'<header><p class="kicker">memlm report</p><h1>{report.title}</h1><p class="lead">{says}</p></header>'


def headline(report: Report) -> str:
    """The best recall beside a causal encoder's and none at all."""
    found = report.headline
    if found is None:
        return ""
    best = found.best
    chars, vector = figure_of(best, "chunk_chars"), figure_of(best, "memory_dim")
    held = f"{number(chars)} characters" if chars else plural(int(best.get("chunk_tokens", 0)), "token")
    one = f"one vector of {number(vector)} numbers" if vector else "one vector"
    accuracy, exact = figure_of(best, "token_accuracy") or 0.0, figure_of(best, "exact_match")
    whole = f" and {percent(exact, 1)} of whole chunks" if exact is not None else ""
    if best["decoder"] != "own":
        about = "Read by a fresh decoder."
    elif found.fresh:
        theirs = percent(figure_of(found.fresh, "token_accuracy") or 0.0)
        about = f"Read by its own decoder; a fresh one recalls {theirs} from the same vectors."
    else:
        about = "Read by its own decoder."
    cards = _card(best, best["model"], "trained to remember", about, "best")
    if found.causal:
        about = "Read by a fresh decoder, trained on its vectors alone; the best of the causal encoders."
        cards += _card(found.causal, found.causal["model"], "trained on next tokens", about, "other")
    if found.none:
        about = "The same fresh decoder without any vector: what token frequencies alone give."
        cards += _card(found.none, "no memory", "nothing to read", about, "other")
    return (
        f'<section class="headline"><p class="claim"><b>{held}</b> of unseen text in <b>{one}</b>: '
        f"{percent(accuracy)} of tokens{whole} recalled.</p>"
        f'<div class="cards">{cards}</div></section>'
    )


def passages(report: Report) -> str:
    """Held-out passages side by side with what was recalled."""
    sampled = [m for m in report.runs.measurements if any(s.get("passages") for s in m.samples)]
    if report.headline and report.headline.measurement in sampled:
        sampled = [report.headline.measurement]
    panels = chooser(sampled[0]) if sampled else ""
    return section(
        "See for yourself",
        "Held-out passages, evenly spread over the text, and what came back from one vector each. Choose whose vector "
        "is read. Wrong tokens are <mark>marked</mark>; pointing at one tells what the text has.",
        panels,
    )


def retention(report: Report) -> str:
    """The retention table of every measurement."""
    bodies = each(report.runs.measurements, lambda m: _conditions(m) + tables.retention_table(m, report.series))
    toggle = (
        '<input type="checkbox" id="controls" checked><label for="controls" class="toggle">show controls</label>'
        if any(r["training"] != "autoencoder" for m in report.runs.measurements for r in m.results)
        else ""
    )
    return section(
        "Retention",
        "Every result with its 95 % bootstrap interval over chunks beneath it. Lighter rows are controls: what the "
        "same decoder makes of an encoder before training, of another chunk’s memory, of random tokens, of nothing.",
        toggle + bodies if bodies else "",
    )


def ranking(report: Report) -> str:
    """Who holds most, among those that can be compared."""
    return section(
        "Ranking",
        "By usable bits a token, the best first, with 95 % intervals over chunks. Only rows of the same data, chunk "
        "length and decoder’s budget are in one table. Rows whose intervals overlap are not told apart by their ranks.",
        ranking_tables(rankings(report.runs), report.series),
    )


def ceilings(report: Report) -> str:
    """What needs no probe: crammed vectors and inverted states."""
    return section(
        "Without a probe",
        "What a frozen language model could give at best. <em>Cram</em>: one input vector for each chunk is optimised "
        "until the model regenerates the chunk from it. <em>Invert</em>: a chunk is found again from the hidden states "
        "of all its places, token by token. A probe reads one state in one pass and gets less.",
        each(report.runs.measurements, tables.ceilings_table),
    )


def storage(report: Report) -> str:
    """What a memory costs beside the text."""
    bodies = each(report.runs.measurements, lambda m: tables.storage_table(m, report.series))
    return section(
        "Storage",
        "Mean bytes to keep one chunk. A memory at full precision is not a compressed file and need not be smaller "
        "than its text: it is what a model reads in one step, in the place of the chunk’s tokens.",
        bodies,
    )


def measured_figures(report: Report) -> str:
    """Figures of the measurements."""
    return section("Recall in figures", "", figure_cards(report, lambda plot: plot.group.startswith("measurement")))


def training(report: Report) -> str:
    """Training curves and where each run ended."""
    if not report.runs.training:
        return ""
    body = figure_cards(report, lambda plot: plot.group == "training")
    return section("Training", "", body + training_table(report.runs.training, report.series))


def how_to_read(report: Report) -> str:
    """One or two sentences for each metric."""
    chosen = [*(_TERMS if report.runs.measurements else []), *(ACCESS_TERMS if report.settings else [])]
    terms = "".join(f"<div><dt>{term}</dt><dd>{meaning}</dd></div>" for term, meaning in chosen)
    return section("How to read this", "", f'<dl class="terms">{terms}</dl>' if terms else "")


def provenance(report: Report) -> str:
    """Where every number comes from."""
    return section(
        "Where the numbers come from",
        "Enough to run each of them again. A measurement is a function of the model, the data, the probe and the seed.",
        provenance_cards(report.runs),
    )


SECTIONS: list[Callable[[Report], str]] = [
    opening,
    headline,
    what_the_paper_claims,
    passages,
    retention,
    ranking,
    ceilings,
    storage,
    measured_figures,
    access,
    attribution,
    evaluation,
    efficiency,
    training,
    how_to_read,
    provenance,
]

_TERMS = [
    ("tokens, whole chunks", "Share of held-out tokens whose most likely reading is the right one, and of chunks in "
     "which every token is. Recall of a whole chunk is the stricter test: one slip in 64 tokens fails it."),
    ("first error at", "How many tokens come out right, on average, before the first wrong one; the chunk’s length "
     "where all are right."),
    ("one pass", "All tokens of a chunk come out of the vector at once and none is fed back, so there is no difference "
     "between teacher forcing and free running: what is scored is what a user gets."),
    ("H<sub>r</sub>", "Entropy ratio, 1 − CE / H<sub>0</sub>: 1 is perfect, 0 is random logits. A probe that is told "
     "nothing still learns token frequencies, so untrained encoders already score 0.26 to 0.34: read usable "
     "information in its place."),
    ("usable bits", "Cross-entropy of the same decoder trained without a memory, minus with it: what the vector adds, "
     "free of token frequencies. It is a lower bound, since a larger decoder or a longer training might get out more. "
     "A decoder may ignore the vector, and stops where it reads kept training chunks best: one without use is near 0."),
    ("bits per byte", "Cross-entropy left over per byte of text, comparable between tokenizers. Lower is better."),
    ("own and fresh decoder", "An autoencoder has a decoder of its own. A fresh one, trained on frozen memories with "
     "one budget for every encoder, makes encoders comparable, causal ones included."),
    ("controls", "<em>Untrained</em>: the same architecture before training. <em>Shuffled</em>: another chunk’s "
     "memory. <em>Random tokens</em>: text nobody wrote, which tells a learnt code from a plain copy. <em>No "
     "memory</em>: the floor. Confident answers to the wrong memory cost more than guessing: negative bits."),
]  # fmt: skip


def _card(row: Row, title: str, training: str, about: str, kind: str) -> str:
    accuracy, exact = figure_of(row, "token_accuracy") or 0.0, figure_of(row, "exact_match")
    whole = f"<p><b>{percent(exact, 1)}</b> of whole chunks</p>" if exact is not None else ""
    return (
        f'<div class="card {kind}"><h3>{escape(title)}<small>{training}</small></h3>'
        f'<p class="big">{percent(accuracy)} <small>of tokens</small></p>'
        f'<div class="meter" aria-hidden="true"><i style="width:{100 * accuracy:.2f}%"></i></div>'
        f'{whole}<p class="about">{escape(about)}</p></div>'
    )


def _conditions(measurement: Measurement) -> str:
    """What all rows of a measurement have in common."""
    row = measurement.results[0]
    known = [
        plural(int(chunks), "held-out chunk") if (chunks := figure_of(row, "chunks")) else "",
        f"{number(tokens)} tokens each" if (tokens := figure_of(row, "chunk_tokens")) else "",
        f"vocabulary of {number(size)}" if (size := figure_of(row, "vocab_size")) else "",
    ]
    return f'<p class="conditions">{", ".join(part for part in known if part)}</p>' if any(known) else ""
