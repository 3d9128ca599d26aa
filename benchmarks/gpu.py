"""What benchmarks/gpu.sh runs: parts in processes and times of their own, most valuable first.

    gpu.py OUT [--rehearsal]      --rehearsal: sizes that two CPU cores take seconds for, which show that parts run

Imports are done once: every part is a fork of this process, which never touches the device itself. Parts one after
another that measure no time run beside each other, all others have the device to themselves. A part that fails or
runs out of its time is told and the others still run; what the time does not allow is told as skipped. OUT/gpu.json and
OUT/gpu.md say what came of it all: two files, since some machines hand over few.
"""

import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else asking whether there is a device would bar forks
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parent.parent
BOUND = float(os.environ.get("BOUND", 480))  # seconds in all
NEEDED = ("accelerate", "matplotlib", "psutil", "pytest", "rich", "safetensors", "tokenizers", "transformers", "tyro")
LEAST = 15  # seconds; a part with less is skipped
DATA = Path(os.environ.get("DATA", ROOT / "data/gutenberg8k"))
PARTS = Path(tempfile.mkdtemp(prefix="gpu-"))  # what parts write: of it gpu.json tells all that is worth bringing home
LOG = 3000  # characters of what a part said
RUNS = Path(os.environ.get("RUNS", ROOT / "runs/gpu"))


@dataclass(frozen=True)
class Part:
    """A command of memlm, pytest's arguments or a script of this folder, and what bounds it on a GPU.

    After the word `searched`: the compiler chooses each kernel's form by trying, one number of it after another.
    """

    name: str
    seconds: float
    argv: tuple[str, ...]
    real: tuple[str, ...] = ()  # added on a GPU
    rehearsal: tuple[str, ...] | None = None  # added in a rehearsal; None: left out of it
    timed: bool = True


def train(preset: str, seconds: int, *real: str, rehearsal: tuple[str, ...] | None = None) -> Part:
    """A run by the real loop; its own time is training alone, to which reading, compiling and scoring come."""
    bounds = ("--max-seconds", str(seconds), "--eval-chunks", "128", "--keep", "1")
    argv = ("train", preset, "--data", str(DATA), "--out", str(RUNS / preset), *bounds)
    return Part(preset, seconds + 40, argv, real, rehearsal)


def parts() -> list[Part]:
    """All of them, most valuable first."""
    bench = ("--out", str(PARTS), "--data", str(DATA))
    searched = ("searched", "bench", "step", "--out", str(PARTS / "searched"), "--data", str(DATA))
    tests = ("pytest", "-q", "-m", "cuda", "tests/cuda", "--show-capture=no", "--tb=short", "--disable-warnings", "-k")
    small = ("--model.chunk-tokens", "16", "--model.memory-dim", "16", "--batch", "2", "--steps", "2")
    for side in ("encoder", "decoder"):
        small += (f"--model.{side}.width", "16", f"--model.{side}.layers", "1", f"--model.{side}.kernel", "2")
    compiled = ("--eval-every", "1000000", "--checkpoint-every", "1000000", "--compile", "on")
    far = ("train", "memory", "--data", str(DATA), "--out", str(RUNS / "memory"), "--max-seconds", "20")
    nccl = ("gpu_nccl.py", str(PARTS), str(DATA), str(RUNS))
    return [
        Part("tests", 100, (*tests, "not kernel and not compiled"), (), ("--collect-only",), timed=False),
        Part("tests of kernels", 120, (*tests, "kernel or compiled"), (), ("--collect-only",), timed=False),
        Part("nccl", 120, nccl, (), ("--rehearsal",), timed=False),
        Part("step", 100, ("bench", "step", *bench), ("--seconds", "2"), ("--seconds", "0.01")),
        Part("step, searched", 110, searched, ("--seconds", "2"), ("--seconds", "0.01")),
        Part("memory", 60, ("bench", "memory", *bench), ("--seconds", "6")),
        Part("far", 80, far),
        train("paper-mixer", 30, *compiled, rehearsal=small),
        train("paper-memory", 30, "--batch", "32", "--accumulate", "2", *compiled),
    ]


def run(parts: dict[Part, tuple[str, ...]], left: float) -> Iterator[dict[str, Any]]:
    """Run parts beside each other, each in a process of its own; what came of each, once it has ended."""
    started, going = time.monotonic(), {}
    for part, argv in parts.items():
        sys.stdout.flush()
        with warnings.catch_warnings():  # of threads that libraries have started: none of them is needed by a child
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            child(argv, PARTS / f"{part.name}.log")
        going[part] = pid
    while going:
        for part, pid in [*going.items()]:
            seconds, took = min(part.seconds, left), time.monotonic() - started
            done, code = os.waitpid(pid, os.WNOHANG)
            if not done and took < seconds:
                continue
            with suppress(ProcessLookupError):  # what it has begun ends with it
                os.killpg(pid, signal.SIGKILL)
            if not done:
                os.waitpid(pid, 0)
            del going[part]
            status = os.waitstatus_to_exitcode(code) if done else None
            said = (PARTS / f"{part.name}.log").read_text(errors="replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "")[:300]
            how = f"ran out of its {seconds:.0f} s"
            if status is not None:
                how = f"failed ({status})" if status else "done"
            yield {"part": part.name, "result": how, "seconds": round(took, 1), "said": last}
        time.sleep(0.1)


def child(argv: tuple[str, ...], log: Path) -> None:
    """The forked process; never returns."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1), os.dup2(file, 2)
    code: Any = 1
    try:
        if argv[0] == "searched":
            import torch._inductor.config as compiler

            compiler.coordinate_descent_tuning, argv = True, argv[1:]
        if argv[0] == "pytest":
            import pytest

            code = pytest.main([*argv[1:], "-p", "no:cacheprovider"])
        elif argv[0] == "device":
            import torch

            code = 0 if torch.ones(1, device="cuda").item() == 1 else 1
        elif argv[0].endswith(".py"):
            sys.argv = [*argv]
            runpy.run_path(str(ROOT / "benchmarks" / argv[0]), run_name="__main__")
            code = 0
        else:
            from memlm.cli import main

            code = main(list(argv))
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def report(out: Path, told: list[dict[str, Any]], command: str) -> None:
    """Write OUT/gpu.json and OUT/gpu.md."""
    from memlm.provenance import environment

    device = "cuda" if (PARTS / "device.log").exists() else "cpu"
    if device == "cuda":  # this process must not touch it
        name = os.popen("nvidia-smi --query-gpu=name --format=csv,noheader").read().strip()
    around = {**environment("cpu"), "command": command, "device": name if device == "cuda" else "cpu"}
    runs = {}
    for summary in sorted(RUNS.glob("**/summary.json")):
        row, run_name = json.loads(summary.read_text()), str(summary.parent.relative_to(RUNS))
        if not run_name.startswith("processes"):
            runs[run_name] = {k: v for k, v in row.items() if not isinstance(v, dict)}
    found = {name: told_by(PARTS / f"{name}.json") for name in ("step", "searched/step", "memory", "nccl")}
    logs = {
        row["part"]: (PARTS / f"{row['part']}.log").read_text(errors="replace")[-LOG:] for row in told if row["seconds"]
    }
    whole = {**around, "parts": told, "runs": runs, **found, "logs": logs}
    (out / "gpu.json").write_text(json.dumps(whole, indent=1))
    lines = ["# gpu", "", f"- hardware: {around['device']}; {around['machine']}", f"- commit: {around['commit']}"]
    lines += [f"- command: `{command}`", f"- versions: {around['packages']}", "", "| part | result | s | last line |"]
    lines += ["| --- | --- | --- | --- |"]
    lines += [
        f"| {row['part']} | {row['result']} | {row['seconds']} | {row['said'].replace('|', '/')} |" for row in told
    ]
    lines += ["", "| run | steps | tokens | s | tokens/s | held-out nats a token | tokens right |", "|" + " --- |" * 7]
    for run_name, row in runs.items():
        figures = f"{row['train_seconds']:.0f} | {row['tokens_per_second']:,.0f} | {row['cross_entropy']:.3f}"
        lines += [f"| {run_name} | {row['step']:,} | {row['tokens']:,} | {figures} | {row['token_accuracy']:.2%} |"]
    ratios = [(name, *item) for name, one in found.items() for item in one.get("ratios", {}).items()]
    lines += ["", *(f"- **{name}: {what}: {value:.4g}**" for name, what, value in ratios)]
    for name, row in ((name, one["kernels"]) for name, one in found["step"].get("measured", {}).items()):
        lines += [
            "",
            f"{name}: {row['ms']:.1f} ms a step in kernels",
            "",
            "| ms | calls | kernel |",
            "|" + " --- |" * 3,
        ]
        lines += [f"| {one['ms']:.3f} | {one['calls']:g} | `{one['kernel']}` |" for one in row["most"]]
    lines += ["", f"One process by torchrun: `{json.dumps(found['nccl'])}`"]
    (out / "gpu.md").write_text("\n".join(lines) + "\n")


def told_by(file: Path) -> dict[str, Any]:
    """What a part has written, if it has."""
    return json.loads(file.read_text()) if file.exists() else {}


def main() -> int:
    """All parts; 0 if every one that ran was done."""
    rehearsal = "--rehearsal" in sys.argv
    named = [arg for arg in sys.argv[1:] if not arg.startswith("-")]
    out = Path(named[0] if named else ROOT / "benchmarks/gpu").resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    if lacks := [name for name in NEEDED if find_spec(name) is None]:
        names = " ".join(lacks)
        print(
            f"not installed here: {names}. Where there is a network: pip install {names}; else bring them along (where "
            f"there is one: pip install --target site {names}) and set PYTHONPATH=site.",
            file=sys.stderr,
        )
        return 1
    import accelerate  # noqa: F401  once for all parts
    import transformers  # noqa: F401

    import memlm.loading  # noqa: F401

    print(f"imported after {time.monotonic() - STARTED:.0f} s", flush=True)
    told: list[dict[str, Any]] = []
    if not rehearsal:
        (check,) = run({Part("device", 60, ("device",)): ("device",)}, 60)
        if check["result"] != "done":
            print(f"there is no CUDA device here, or it cannot be used: {check['said']}", file=sys.stderr)
            return 1
    wanted = [part for part in parts() if not rehearsal or part.rehearsal is not None]
    for _, group in groupby(wanted, lambda part: part.name if part.timed else ""):
        left = BOUND - (time.monotonic() - STARTED)
        given = {part: part.argv + ((part.rehearsal or ()) if rehearsal else part.real) for part in group}
        skipped = ({"part": p.name, "result": "skipped: no time was left", "seconds": 0, "said": ""} for p in given)
        for row in skipped if left < LEAST else run(given, left):
            told.append(row)
            print(f"{row['part']}: {row['result']}, {row['seconds']} s: {row['said']}", flush=True)
            report(out, told, f"benchmarks/gpu.sh {' '.join(sys.argv[1:])}".strip())
    print(f"results are in {out}, after {time.monotonic() - STARTED:.0f} s")
    return 0 if all(row["result"] == "done" or row["result"].startswith("skipped") for row in told) else 1


if __name__ == "__main__":
    sys.exit(main())
