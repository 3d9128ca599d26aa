"""The paper's claims judged by whatever runs there are: which run is which is read from its config, never its name.

`rules.py` says what is asked, the readers here (`claims_read.py`) find the figures of every seed, and a claim is told
with every clause, the runs behind it and the history of its rule. A page and `memlm claims` show the same.
"""

from typing import NamedTuple

from memlm.results.claims_read import READERS, Reading
from memlm.results.compared import Setting
from memlm.results.lineage import unseeded
from memlm.results.rules import RULES, Clause, Finding, Rule, judge, verdict
from memlm.results.runs import Run, Runs
from memlm.results.text import UNITS, Told, plural

VERDICTS = {True: "holds", False: "does not hold", None: "not decided"}


class Judged(NamedTuple):
    """A claim as some runs decide it, or as none does."""

    rule: Rule
    title: str
    says: str  # of which models, and what stands beside them
    findings: list[Finding]
    runs: list[Run]  # behind it
    holds: bool | None
    made_on: list[str]  # machines and commits of its runs and of what was measured of them

    @property
    def name(self) -> str:
        """C1, ..."""
        return self.rule.name

    @property
    def verdict(self) -> str:
        """In words."""
        return VERDICTS[self.holds]

    @property
    def by_clause(self) -> list[tuple[Clause, list[Finding]]]:
        """Findings of a clause together, in the rule's order."""
        clauses = {one.clause: [f for f in self.findings if f.clause == one.clause] for one in self.findings}
        return list(clauses.items())

    @property
    def most_seeds(self) -> int:
        """Of how many its best known figure is."""
        return max((len(one.values) for one in self.findings), default=0)

    @property
    def seeds(self) -> str:
        """How many seeds its figures are of."""
        counts = sorted({len(one.values) for one in self.findings if one.values})
        return " to ".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]]))) + f" seed{'s' * (counts != [1])}"

    @property
    def behind(self) -> list[str]:
        """Names of its runs, those of one config together with their seeds."""
        named: dict[str, set[int]] = {}
        for run in self.runs:
            seed = run.config.get("seed")
            seeds = named.setdefault(run.name if seed is None else unseeded(run.name), set())
            seeds |= {seed} if seed is not None else set()
        return [f"{name}{_seeds(sorted(seeds))}" for name, seeds in sorted(named.items())]


def _seeds(seeds: list[int]) -> str:
    """[0, 1, 2] -> ` (seeds 0 to 2)`."""
    whole = len(seeds) > 2 and seeds == [*range(seeds[0], seeds[-1] + 1)]
    told = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
    return f" ({plural(len(seeds), 'seed').split()[-1]} {told})" if seeds else ""


def claims(runs: Runs, settings: list[Setting]) -> list[Judged]:
    """Every claim as each reading decides it, or open; nothing where no run decides any."""
    told = [one for rule in RULES for one in _judged(rule, runs, settings)]
    return told if any(one.findings for one in told) else []


def _judged(rule: Rule, runs: Runs, settings: list[Setting]) -> list[Judged]:
    found = [_by(rule, reading, runs) for reading in READERS[rule.name](runs, settings)]
    return found or [Judged(rule, rule.claim, "The runs that would decide it are not all here.", [], [], None, [])]


def _by(rule: Rule, reading: Reading, runs: Runs) -> Judged:
    """A reading judged clause by clause; a clause without figures is open."""
    findings = [
        judge(clause, values, of)
        for clause in rule.clauses
        for of, values in (reading.figures.get(clause.figure) or {"": {}}).items()
    ]
    told = sorted(
        (f for f in findings if f.mean is not None), key=lambda f: (f.mean or 0) * (1 if f.clause.most else -1)
    )
    means = {
        one.clause.figure: Told(one.mean or 0, one.interval) for one in told
    }  # of several, the worst for the claim
    title = rule.title.format(**means) if all(c.figure in means for c in rule.clauses) else rule.claim
    return Judged(rule, title, reading.says, findings, reading.runs, verdict(findings), _made_on(reading.runs, runs))


def _made_on(behind: list[Run], runs: Runs) -> list[str]:
    """Where and by which code: of runs, and of rows about them."""
    names = {name for run in behind for name in (run.name, run.path.name)}
    measured = (*runs.measurement, *runs.access, *runs.experiment)
    rows = [row for run in measured for row in run.rows if names & {row.get("model"), row.get("twin_of")}]
    commits: dict[str, set[str]] = {}
    for one in [*(run.environment for run in behind), *rows]:
        if {"machine", "commit"} <= one.keys():
            commits.setdefault(str(one["machine"]), set()).add(str(one["commit"])[:12])
    return [f"{machine} (commit{'s' * (len(by) > 1)} {', '.join(sorted(by))})" for machine, by in commits.items()]


def clause_of(clause: Clause, of: str) -> str:
    """What is read, and of which."""
    return f"{clause.says} ({of})" if of else clause.says


def limit_of(clause: Clause) -> str:
    """`at most 50 %`."""
    form = UNITS[clause.unit][0]
    return f"{'at most' if clause.most else 'at least'} {form(clause.limit)}"


def figure_said(one: Finding) -> str:
    """The mean and its interval, or of how few seeds it is, or that there is none."""
    if one.mean is None:
        return "not measured"
    said = f"{Told(one.mean, one.interval):{one.clause.unit}}"
    return said if one.interval else f"{said}, {plural(len(one.values), 'seed')}"
