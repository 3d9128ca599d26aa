"""The page of claims as Markdown and as data: every claim with its clauses, then the experiments as tables."""

from pathlib import Path
from typing import Any

from memlm.files import write_json, write_text
from memlm.protocol import PROTOCOL
from memlm.provenance import commit, machine
from memlm.report.templating import templates
from memlm.results import claims
from memlm.results.decided import Figures, joined
from memlm.results.tables import Table


def write_claims(folder: Path, told: dict[str, Any], figures: list[Figures]) -> dict[str, Any]:
    """Write `claims.md` and `claims.json` into a folder.

    Args:
        folder: where they go.
        told: how it was made: quick, seeds, source, minutes, asked, scale, joined.
        figures: of every folder; what several have is told by the one of most seeds.

    Returns:
        what claims.json tells, and `page`.
    """
    judged, tables = joined(figures, told["asked"])
    told = told | {"protocol": PROTOCOL, "commit": commit(), "machine": machine("cpu")}
    env = templates(escape=False)
    env.globals.update({name: getattr(claims, name) for name in ("clause_of", "limit_of", "figure_said", "VERDICTS")})
    page = env.get_template("claims.md.j2").render(claims=judged, tables=tables, told=told)
    data = told | {"claims": [_as_json(one) for one in judged], "experiments": [_table_json(t) for t in tables]}
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
