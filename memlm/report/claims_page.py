"""The page of claims as Markdown and as data: every claim with its clauses, then the experiments as tables."""

from pathlib import Path
from typing import Any, NamedTuple

from memlm.errors import UsageError
from memlm.files import write_json, write_text
from memlm.protocol import PROTOCOL
from memlm.provenance import commit, machine
from memlm.report import claims
from memlm.report.compared import settings_of
from memlm.report.held import held_by
from memlm.report.reading import read_runs, shown
from memlm.report.rules import RULES, BySeed, t_interval
from memlm.report.runs import Runs
from memlm.report.text import UNITS, Told, number, plural, templates

TITLES = {
    "E3": "Causal encoders trained longer, and of other depths: usable bits a token (E3)",
    "E9": "The paper’s memory model, one vector a memory: positions, and how it is trained (E4, E5, E9)",
    "E10": "Is the code language? Text and uniform random tokens, from 16-token memories (E10)",
    "E11": "Memories kept in fewer bits a number, 64 tokens in 256 numbers (E11)",
    "E12": "The oracle: given the memory of the very chunk, by place and width (E12)",
    "E14": "What embeddings hold of a source whose next token depends on the last one alone (E14)",
}
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
    columns: list[str]
    rows: list[list[str]]


class Figures(NamedTuple):
    """What a folder decides and shows."""

    claims: list[claims.Judged]
    tables: list[Table]

    @property
    def names(self) -> set[str]:
        """The claims and experiments that it has figures of."""
        return {one.name.split()[0] for one in self.claims if one.findings} | {table.name for table in self.tables}


def figures_of(folder: Path) -> Figures:
    """Judge what is in a folder: training runs, measurements, benchmarks and experiments, one level down.

    Raises:
        UsageError: there is nothing of the kind, or it is of another protocol.
    """
    with shown([folder]):
        runs = read_runs([folder])
        for row in (row for run in (*runs.measurement, *runs.access, *runs.experiment) for row in run.rows):
            if (protocol := row.get("protocol") or 1) != PROTOCOL:
                raise UsageError(
                    f"{folder} holds figures of protocol {protocol}, this is protocol {PROTOCOL}: leave it out."
                )
        return Figures(claims.claims(runs, settings_of(runs)), tables_of(runs))


def write_claims(folder: Path, told: dict[str, Any], figures: list[Figures]) -> dict[str, Any]:
    """Write `claims.md` and `claims.json` into a folder.

    Args:
        folder: where they go.
        told: how it was made: quick, seeds, source, minutes, asked, scale, joined.
        figures: of every folder; what several have is told by the first.

    Returns:
        what claims.json tells, and `page`.
    """
    judged: list[claims.Judged] = []
    tables: dict[str, Table] = {}
    for one in figures:
        known = {claim.rule for claim in judged if claim.findings}
        fresh = [c for c in one.claims if c.rule not in known and c.name.split()[0] in told["asked"]]
        judged = [c for c in judged if c.findings or c.rule not in {f.rule for f in fresh}] + fresh
        tables = {table.name: table for table in one.tables} | tables
    judged.sort(key=lambda claim: RULES.index(claim.rule))
    shown_tables = [tables[name] for name in TITLES if name in tables]
    told = told | {"protocol": PROTOCOL, "commit": commit(), "machine": machine("cpu")}
    env = templates(escape=False)
    env.globals.update({name: getattr(claims, name) for name in ("clause_of", "limit_of", "figure_said", "VERDICTS")})
    page = env.get_template("claims.md.j2").render(claims=judged, tables=shown_tables, told=told)
    data = told | {"claims": [_as_json(one) for one in judged], "experiments": [_table_json(t) for t in shown_tables]}
    write_json(folder / "claims.json", data)
    write_text(folder / "claims.md", page)
    return data | {"page": str(folder / "claims.md")}


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
    return Table(name, TITLES[name], " ".join([_ABOUT.get(name, ""), f"Part test, {of}."]).strip(), columns, rows)


def _cell(unit: str, values: BySeed) -> str:
    told = Told(sum(values.values()) / len(values), t_interval(values))
    return f"{told:{unit}}" if unit in UNITS else number(told.value, 3)


def _as_json(one: claims.Judged) -> dict[str, Any]:
    findings = [
        {
            "figure": f.clause.figure,
            "says": f.clause.says,
            "of": f.of,
            "limit": f.clause.limit,
            "at_most": f.clause.most,
            "mean": f.mean,
            "interval": f.interval,
            "seeds": {str(seed): value for seed, value in f.values.items()},
            "verdict": claims.VERDICTS[f.holds],
        }
        for f in one.findings
    ]
    told = {"claim": one.name, "title": one.title, "verdict": one.verdict, "says": one.says, "clauses": findings}
    return told | {"runs": one.behind, "made_on": one.made_on, "history": list(one.rule.history)}


def _table_json(table: Table) -> dict[str, Any]:
    return table._asdict()
