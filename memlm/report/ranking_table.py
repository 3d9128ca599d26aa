"""Rankings as HTML: a table for each set of rows that can be compared."""

from memlm.report.ranking import Entry, Ranking
from memlm.report.tables import Form, digits, plain, swatch, with_interval
from memlm.report.text import escape, figure_of, number, share

_FIGURES: list[tuple[str, str, Form]] = [
    ("usable bits a token", "usable_bits_per_token", digits(2)),
    ("per embed\u00adding", "usable_bits_per_embedding", number),
    ("per dimen\u00adsion", "usable_bits_per_dimension", digits(2)),
    ("H<sub>r</sub>", "entropy_ratio", digits(3)),
    ("tokens, %", "token_accuracy", share),
    ("chunks, %", "exact_match", share),
]
_HEAD = ("rank, model", "vector", *(title for title, _, _ in _FIGURES), "encoder’s para\u00admeters",
         "seconds for 1,000 chunks", "tokens read in training", "seconds of training")  # fmt: skip


def ranking_tables(rankings: list[Ranking], series: dict[str, int]) -> str:
    """All of them, each under what its rows share."""
    return "".join(
        f'<h3>{escape(one.title)}</h3><p class="conditions">{escape(one.conditions)}</p>{_table(one, series)}'
        for one in rankings
    )


def _table(ranking: Ranking, series: dict[str, int]) -> str:
    titles = "".join(f'<th scope="col">{title}</th>' for title in _HEAD)
    body = "".join(_row(rank, entry, series) for rank, entry in enumerate(ranking.entries, 1))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="ranking"><table class="plain access">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(rank: int, entry: Entry, series: dict[str, int]) -> str:
    row = entry.row
    cost = (figure_of(row, "encoder_parameters"), figure_of(row, "encode_seconds"), entry.tokens, entry.seconds)
    forms = (number, digits(2), number, number)
    name = f'{swatch(series.get(row["model"]))}{escape(entry.name)}<small class="tag">{escape(row["training"])}</small>'
    return (
        f'<tr><th scope="row"><span class="rank">{rank}</span>{name}</th>'
        f"<td>{plain(figure_of(row, 'memory_dim'), number)}</td>"
        f"{''.join(f'<td>{with_interval(row, key, form)}</td>' for _, key, form in _FIGURES)}"
        f"{''.join(f'<td>{plain(value, form)}</td>' for value, form in zip(cost, forms, strict=True))}</tr>"
    )
