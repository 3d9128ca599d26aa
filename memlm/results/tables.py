"""Experiments beside the claims as tables: what is varied by row, figures over seeds by column."""

from typing import NamedTuple

from memlm.results.held import held_by
from memlm.results.rules import BySeed, t_interval
from memlm.results.runs import Runs
from memlm.results.text import UNITS, Told, number, plural

TITLES = {
    "E3": "Causal encoders trained longer, and of other depths: usable bits a token (E3)",
    "E9": "The paper’s memory model, one vector a memory: positions, and how it is trained (E4, E5, E9)",
    "E10": "Is the code language? Text and uniform random tokens, from 16-token memories (E10)",
    "E11": "Memories kept in fewer bits a number, 64 tokens in 256 numbers (E11)",
    "E12": "The oracle: given the memory of the very chunk, by place and width (E12)",
    "E14": "What embeddings hold of a source whose next token depends on the last one alone (E14)",
}
BESIDE = {"E3": "C1", "E14": "C7"}  # what is made with a claim, and not asked for by itself
_ABOUT = {
    "E9": "Over a frozen autoencoder, but for one; as many steps of the decoder each.",
    "E11": "int4 as banks keep it, with a scale for 32 numbers; int8, fp8 (e4m3) and int3 with one a memory. Noise in "
    "training: Gaussian, a quarter of a memory’s deviation.",
    "E14": "As a share of their entropy; the last letter tells less than 1 % of any older token.",
}


class Table(NamedTuple):
    """An experiment: what is varied by row, figures by column."""

    name: str
    title: str
    about: str
    seeds: int  # that all of its figures have
    columns: list[str]
    rows: list[list[str]]


def tables_of(runs: Runs) -> list[Table]:
    """A table for each experiment that was run."""
    found: dict[str, dict[str, dict[str, tuple[str, BySeed]]]] = {}
    for row in (row for run in runs.experiment for row in run.rows):
        case = found.setdefault(row["experiment"], {}).setdefault(row["case"], {})
        case.setdefault(row["figure"], (row["unit"], {}))[1][row["seed"]] = row["value"]
    named = {"E3": _scale(runs)} | found
    return [_table(name, named[name]) for name in TITLES if named.get(name)]


def _scale(runs: Runs) -> dict[str, dict[str, tuple[str, BySeed]]]:
    """E3 from what was measured: causal encoders of our own that differ in steps or layers."""
    cases: dict[str, dict[str, tuple[str, BySeed]]] = {}
    for group in held_by(runs):
        for one in sorted((h for h in group if h.training == "causal" and h.runs), key=lambda h: h.name):
            stack, row = one.config["model"]["stack"], next(iter(one.rows.values()))
            case = f"{one.name}: {row['chunk_tokens']} tokens, {plural(stack['layers'], 'layer')}, "
            case += f"{number(one.config['steps'])} steps"
            cases[case] = {family: ("bits", one.usable(family)) for family in one.families}
    return cases if len(cases) > 1 else {}


def _table(name: str, cases: dict[str, dict[str, tuple[str, BySeed]]]) -> Table:
    columns = list(dict.fromkeys(figure for figures in cases.values() for figure in figures))
    rows = [[case, *(_cell(*figures[c]) if c in figures else "–" for c in columns)] for case, figures in cases.items()]
    seeds = {len(values) for figures in cases.values() for _, values in figures.values()}
    of = " to ".join(map(str, sorted({min(seeds), max(seeds)}))) + (" seed" if seeds == {1} else " seeds")
    about = " ".join([_ABOUT.get(name, ""), f"Part test, {of}."]).strip()
    return Table(name, TITLES[name], about, min(seeds), columns, rows)


def _cell(unit: str, values: BySeed) -> str:
    told = Told(sum(values.values()) / len(values), t_interval(values))
    return f"{told:{unit}}" if unit in UNITS else number(told.value, 3)
