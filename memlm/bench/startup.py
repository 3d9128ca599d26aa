"""`memlm --help` answers in under 0.5 s: heavy imports are lazy."""

import subprocess
import sys
from statistics import median

from memlm.bench.form import Options, Report
from memlm.bench.timing import in_turn

PROCESSES = {
    "memlm --help": ("-m", "memlm", "--help"),
    "memlm train slots --help": ("-m", "memlm", "train", "slots", "--help"),
    "python, nothing": ("-c", "pass"),
    "python, import torch": ("-c", "import torch"),
}


def run(options: Options, *, rounds: int = 5, warm_up: int = 1) -> Report:
    """Time the whole process, beside a Python that does nothing and one that only imports torch."""

    def process(*args: str) -> None:
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)

    sides = {name: lambda args=args: process(*args) for name, args in PROCESSES.items()}
    times = in_turn(sides, rounds=rounds, warm_up=warm_up)
    rows = [(name, median(t)) for name, t in times.items()]
    return Report(
        name="startup",
        columns=("process", f"seconds (median of {rounds})"),
        rows=rows,
        ratios={"memlm --help, seconds (below 0.5)": rows[0][1]},
        setting="whole processes, in turn",
        raw={"seconds": times},
    )
