"""The sections about memory models: what the paper claims of them, their access to memory, what they save."""

from memlm.report.access_table import access_table, conditions
from memlm.report.attribution import attribution_table, attribution_texts
from memlm.report.blocks import Report, each, figure_cards, section
from memlm.report.efficiency import efficiency_table, ratios
from memlm.report.evaluated import evaluation_table
from memlm.report.text import escape


def what_the_paper_claims(report: Report) -> str:
    """Claims with the numbers that decide them here."""
    body = "".join(
        f'<li class="{"holds" if claim.holds else "fails"}"><h3>{claim.name} <span>{escape(claim.title)}</span>'
        f"<em>{'holds here' if claim.holds else 'does not hold here'}</em></h3>"
        f'<p>{claim.says}</p><p class="rule">{escape(claim.rule)}</p></li>'
        for claim in report.claims
    )
    return section(
        "What the paper claims, and what these runs say",
        "Claims of “Language Model Memory and Memory Models for Language” that the runs of this page can decide. In "
        "brackets: the 95 % interval over examples, or, of a config with several seeds, the range over these.",
        f'<ul class="claims">{body}</ul>' if body else "",
    )


def access(report: Report) -> str:
    """What models get from their memories: a table and figures for each setting."""
    body = ""
    for i, setting in enumerate(report.settings):
        table = access_table(setting, report.series)
        figures = figure_cards(report, lambda plot, group=f"access-{i}": plot.group == group, "tall-first")
        body += (conditions(setting) + table if table else "") + figures
    return section(
        "Access to memory",
        "Every model reads held-out text chunk by chunk and is asked for what came before, with its own memories, with "
        "none, and with another text’s. Beneath a figure is its 95 % bootstrap interval over examples; what is said of "
        "several seeds is their mean, with the range from the lowest to the highest beneath.",
        body,
    )


def attribution(report: Report) -> str:
    """What single tokens owe to memories: figures, and texts in colour."""
    models = report.attributed
    if not any(row["value"] is not None for model in models for rows in model.seeds for row in rows):
        return ""
    body = attribution_texts(models) + attribution_table(models, report.series)
    return section(
        "What memories told, token by token",
        "Each text is read twice, with the memories of earlier chunks and with these hidden; a token is coloured by "
        "how much that changes its prediction. The second half of a copy repeats the first; in the last text half of "
        "it is noise, random tokens at random places. Point at a token for its numbers. In the table each figure has "
        "its 95 % interval over texts beneath it, and first chunks, which have no memory to read, are left out.",
        body + figure_cards(report, lambda plot: plot.group == "attribution"),
    )


def evaluation(report: Report) -> str:
    """What models answer to tasks."""
    return section(
        "Tasks",
        "Tasks of lm-eval, asked of each model with its own memories, without, and with random vectors of their mean "
        "and spread; the language model that a model was made over is asked too, and reads all tokens. A difference is "
        "paired: from the same model’s own memories, and of other models’ own from the first model’s. Beneath a figure "
        "is its 95 % bootstrap interval over examples; memories are those that the scored tokens could read.",
        each(report.runs.evaluations, lambda found: evaluation_table(found, report.series)),
    )


def efficiency(report: Report) -> str:
    """What memories save in time and bytes (C3)."""
    several = len(report.runs.benchmarks) > 1
    body = ""
    for i, found in enumerate(report.runs.benchmarks):
        if not found.rows:
            continue
        body += f"<h3>{escape(found.name)}</h3>" if several else ""
        body += f'<p class="conditions">{escape(found.facts["setting"])}</p>' if found.facts["setting"] else ""
        body += ratios(found) + figure_cards(report, lambda plot, group=f"efficiency-{i}": plot.group == group)
        body += efficiency_table(found)
    return section(
        "Efficiency",
        "Claim C3: memories in the place of tokens save computation. The same text is read, and gone on with, by "
        "models that keep all of it and by models that keep a memory for each chunk.",
        body,
    )


ACCESS_TERMS = [
    ("own, without, another’s", "The same model on the same text: reading the memories of the chunks before, reading "
     "none, reading those of another text. What memory gives is the first minus the second; what it says about this "
     "very text, the first minus the third."),
    ("copy", "The second half of an example repeats the first. <em>Shown the true tokens before</em>, a model "
     "gets much of it right by plain language modelling: only the difference to the copy without memory counts. "
     "<em>Free running</em>, it reads what it wrote itself, and a slip can spoil the rest."),
    ("blank copy", "The second half is blanks: only memories can tell what stood in the first. A whole copy is one "
     "without a single wrong token."),
    ("key-value recall", "Random keys and values told in earlier chunks, some keys asked in the last: arbitrary "
     "access. Chance is a uniform guess among all values; a model that knows which values were told, but not to which "
     "keys, gets the second number."),
    ("needle", "One random key and its value put into one chunk of real text, and asked for at the end."),
]  # fmt: skip
