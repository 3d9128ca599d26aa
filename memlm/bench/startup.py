"""How soon `memlm --help` answers: heavy imports must be lazy."""

import subprocess
import sys
from statistics import median

from memlm.bench.form import Options, Report
from memlm.bench.timing import in_turn


def run(options: Options, *, rounds: int = 5, warm_up: int = 1) -> Report:
    """Time the whole process, beside a Python that does nothing and one that only imports torch."""

    def process(*args: str) -> None:
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)

    sides = {
        "memlm --help": lambda: process("-m", "memlm", "--help"),
        "memlm train slots --help": lambda: process("-m", "memlm", "train", "slots", "--help"),
        "python, nothing": lambda: process("-c", "pass"),
        "python, import torch": lambda: process("-c", "import torch"),
    }
    times = in_turn(sides, rounds=rounds, warm_up=warm_up)
    middle = {name: median(t) for name, t in times.items()}
    return Report(
        name="startup",
        claim="`memlm --help` answers in under 0.5 s: heavy imports are lazy.",
        columns=("process", f"seconds (median of {rounds})"),
        rows=list(middle.items()),
        ratios={"memlm --help, seconds (below 0.5)": middle["memlm --help"]},
        setting="whole processes, in turn",
        raw={"seconds": times},
    )
