"""The page of claims as Markdown and as data: every claim with its clauses, then the experiments as tables."""

from pathlib import Path
from typing import Any

from memlm.files import write_json, write_text
from memlm.protocol import PROTOCOL
from memlm.provenance import commit, machine
from memlm.report.templating import templates
from memlm.results import claims
from memlm.results.decided import Figures
from memlm.results.rules import RULES
from memlm.results.tables import TITLES, Table


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
