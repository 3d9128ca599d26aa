"""One form for every benchmark: what was run where, both sides, the ratio; as markdown and as JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memlm.errors import UsageError
from memlm.files import write_json, write_text
from memlm.provenance import commit, machine


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every benchmark is told."""

    data: Path  # a prepared corpus, for those that need text
    out: Path  # where figures go
    seconds: float | None = None  # about how long a side is given; None: the benchmark's own length

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise UsageError(f"seconds must be above 0, not {self.seconds:g}.")


@dataclass(kw_only=True)
class Report:
    """What a benchmark found."""

    name: str
    claim: str  # what is compared, and what is asked of it
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    ratios: dict[str, float]  # what was asked for, as numbers
    setting: str  # model, data, batch, seed: whatever the rows do not say
    device: str = "cpu"
    notes: list[str] = field(default_factory=list)
    figure: str | None = None  # file name of a PNG beside the markdown
    told: dict[str, Any] = field(default_factory=dict)  # seed, examples: what every row of the JSON says too
    raw: dict[str, Any] = field(default_factory=dict)  # curves and single timings

    def markdown(self) -> str:
        """The report in the fixed form of benchmarks/*.md."""
        table = [self.columns, ("---",) * len(self.columns), *self.rows]
        lines = [
            f"# {self.name}",
            "",
            self.claim,
            "",
            f"- command: `memlm bench {self.name}`",
            f"- machine: {machine(self.device)}",
            f"- commit: {commit()}",
            f"- setting: {self.setting}",
            "",
            *("| " + " | ".join(_cell(c) for c in row) + " |" for row in table),
            "",
            *(f"- **{what}: {_cell(ratio)}**" for what, ratio in self.ratios.items()),
            *(f"- {note}" for note in self.notes),
            *(["", f"![{self.name}]({self.figure})"] if self.figure else []),
        ]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        told = {**self.told, "device": self.device, "commit": commit()}
        rows = [dict(zip(self.columns, row, strict=True)) | told for row in self.rows]
        return {
            "benchmark": self.name,
            "results": rows,
            "ratios": self.ratios,
            "setting": self.setting,
            "machine": machine(self.device),
            "commit": commit(),
            **self.raw,
        }

    def save(self, folder: Path) -> Path:
        """Write NAME.md and NAME.json into `folder`; returns the markdown's path."""
        write_json(Path(folder) / f"{self.name}.json", self.as_json())
        write_text(Path(folder) / f"{self.name}.md", self.markdown())
        return Path(folder) / f"{self.name}.md"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return " to ".join(map(_cell, value))
    return str(value)
