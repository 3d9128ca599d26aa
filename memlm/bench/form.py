"""One form for every benchmark: what was run where, both sides, the ratio; as markdown and as JSON."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from memlm import ui
from memlm.bench.timing import pair_ratio
from memlm.data import prepare
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import write_json, write_text
from memlm.provenance import commit, machine
from memlm.ranges import Checked, Positive


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """What every benchmark is told."""

    data: Path  # a prepared corpus, for those that need text
    out: Path  # where figures go
    seconds: Positive | None = None  # about how long a side is given; None: the benchmark's own length

    @property
    def device(self) -> torch.device:
        """A GPU where there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def corpus(self) -> Corpus:
        """The prepared corpus at `data`, made of the named corpus gutenberg if nothing is there.

        Raises:
            UsageError: `data` holds something else.
            WorkError: the corpus had to be downloaded and could not be.
        """
        if (self.data / "data.json").is_file():
            return Corpus.open(self.data)
        if self.data.is_file():
            raise UsageError(f"{self.data} is a file: name a folder made by memlm prepare.")
        ui.say(f"{self.data} is not there: preparing gutenberg into it")
        return prepare.prepare(prepare.Prepare(source="gutenberg", out=self.data))


@dataclass(kw_only=True)
class Report:
    """What a benchmark found. Its claim is how its file's docstring begins: what is compared, and what is asked."""

    name: str
    columns: tuple[str, ...]
    setting: str  # model, data, batch, seed: whatever the rows do not say
    claim: str = ""
    device: str = "cpu"
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)  # what was asked for, as numbers
    notes: list[str] = field(default_factory=list)
    figure: str | None = None  # file name of a PNG beside the markdown
    told: dict[str, Any] = field(default_factory=dict)  # seed, examples: what every row of the JSON says too
    raw: dict[str, Any] = field(default_factory=dict)  # curves and single timings

    def __post_init__(self) -> None:
        if not self.claim:
            first, *_ = (sys.modules[f"memlm.bench.{self.name}"].__doc__ or self.name).split("\n\n")
            self.claim = " ".join(first.split())

    def compare(self, case: str, times: Mapping[str, list[float]], base: str = "", unit: float = 1.0) -> None:
        """A row for each side of a case: median time, and how many times that of `base` (by default the first side)."""
        base = base or next(iter(times))
        self.rows += [(case, side, unit * median(t), pair_ratio(t, times[base])) for side, t in times.items()]
        self.raw.setdefault("seconds", {})[case] = times

    def ratio(self, what: str, times: Mapping[str, list[float]], theirs: str, ours: str, asked: str = "") -> None:
        """How many times faster one side is, and what was asked of that."""
        name = f"{what}, {theirs} / {ours}" + (f" ({asked})" if asked else "")
        self.ratios[name] = pair_ratio(times[theirs], times[ours])

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
        return {
            "benchmark": self.name,
            "results": [dict(zip(self.columns, row, strict=True)) | told for row in self.rows],
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
