"""What benchmarks/gpu.sh runs: parts one after the other, each in a process and a time of its own, most valuable first.

    gpu.py OUT [--rehearsal]      --rehearsal: sizes that two CPU cores take seconds for, which show that parts run

Imports are done once: every part is a fork of this process, which never touches the device itself. A part that fails or
runs out of its time is told and the others still run; what the time does not allow is told as skipped. OUT/gpu.json and
OUT/gpu.md say what came of it all, beside what each part writes.
"""

import json
import os
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else asking whether there is a device would bar forks
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
STARTED = time.monotonic()
ROOT = Path(__file__).resolve().parent.parent
BOUND = float(os.environ.get("BOUND", 520))  # seconds in all
LEAST = 15  # seconds; a part with less is skipped
DATA = Path(os.environ.get("DATA", ROOT / "data/gutenberg"))
RUNS = Path(os.environ.get("RUNS", ROOT / "runs/gpu"))


@dataclass(frozen=True)
class Part:
    """A command of memlm (or pytest's arguments), and what bounds it on a GPU."""

    name: str
    seconds: float
    argv: tuple[str, ...]
    real: tuple[str, ...] = ()  # added on a GPU
    rehearsal: tuple[str, ...] | None = None  # added in a rehearsal; None: left out of it


def train(preset: str, seconds: int, *real: str, rehearsal: tuple[str, ...] | None = None) -> Part:
    """A run by the real loop; its own time is training alone, to which reading, compiling and scoring come."""
    bounds = ("--max-seconds", str(seconds), "--eval-chunks", "128", "--keep", "1")
    argv = ("train", preset, "--data", str(DATA), "--out", str(RUNS / preset), *bounds)
    return Part(preset, seconds + 60, argv, real, rehearsal)


def parts(out: Path) -> list[Part]:
    """All of them, most valuable first."""
    from memlm.presets import CURRICULA, PRESETS

    bench = ("--out", str(out), "--data", str(DATA))
    tests = ("pytest", "-q", "-m", "cuda", "tests/cuda", "--show-capture=no", "--tb=short", "--disable-warnings")
    small = ("--model.chunk-tokens", "16", "--model.memory-dim", "16", "--batch", "2", "--steps", "2")
    for side in ("encoder", "decoder"):
        small += (f"--model.{side}.width", "16", f"--model.{side}.layers", "1", f"--model.{side}.kernel", "2")
    seldom = ("--eval-every", "1000000", "--checkpoint-every", "1000000")
    compiled = (*seldom, "--compile", "on")
    far = [name for name in ("far-curriculum", "memory-far", "far") if name in {**PRESETS, **CURRICULA}][:1]
    return [
        Part("step", 150, ("bench", "step", *bench), ("--seconds", "4"), ("--seconds", "0.01")),
        Part("tests", 110, tests, (), ("--collect-only",)),
        train("paper-memory", 45, "--batch", "32", "--accumulate", "2", *compiled),
        train("paper-mixer", 45, *compiled, rehearsal=small),
        *(train(name, 45) for name in far),
        Part("memory", 90, ("bench", "memory", *bench), ("--seconds", "8")),
        train("paper-transformer", 30, *compiled),
        Part("encode", 40, ("bench", "encode", *bench), ("--seconds", "5")),
        Part("attention", 120, ("bench", "attention", *bench), ("--seconds", "0.3")),  # compiles a kernel for each case
    ]


def run(part: Part, argv: tuple[str, ...], seconds: float, out: Path) -> dict[str, Any]:
    """Run a part in a process of its own; what came of it."""
    started = time.monotonic()
    sys.stdout.flush()
    with warnings.catch_warnings():  # of threads that libraries have started: none of them is needed by a child
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        child(argv, out / f"{part.name}.log")
    status = None
    while status is None and time.monotonic() - started < seconds:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else time.sleep(0.1)
    if status is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    took = round(time.monotonic() - started, 1)
    said = [line for line in (out / f"{part.name}.log").read_text(errors="replace").splitlines() if line.strip()]
    how = f"ran out of its {seconds:.0f} s" if status is None else ("done" if status == 0 else f"failed ({status})")
    return {"part": part.name, "result": how, "seconds": took, "said": said[-1][:300] if said else ""}


def child(argv: tuple[str, ...], log: Path) -> None:
    """The forked process; never returns."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1), os.dup2(file, 2)
    code: Any = 1
    try:
        if argv[0] == "pytest":
            import pytest

            code = pytest.main([*argv[1:], "-p", "no:cacheprovider"])
        elif argv[0] == "device":
            import torch

            code = 0 if torch.ones(1, device="cuda").item() == 1 else 1
        else:
            from memlm.cli import main

            code = main(list(argv))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code))


def report(out: Path, told: list[dict[str, Any]], command: str) -> None:
    """Write OUT/gpu.json and OUT/gpu.md."""
    from memlm.provenance import environment

    device = "cuda" if (out / "device.log").exists() else "cpu"
    if device == "cuda":  # this process must not touch it
        name = os.popen("nvidia-smi --query-gpu=name --format=csv,noheader").read().strip()
    around = {**environment("cpu"), "command": command, "device": name if device == "cuda" else "cpu"}
    runs = {}
    for summary in sorted(RUNS.glob("*/summary.json")):
        row = json.loads(summary.read_text())
        runs[summary.parent.name] = {k: v for k, v in row.items() if not isinstance(v, dict)}
    step = json.loads((out / "step.json").read_text()) if (out / "step.json").exists() else {}
    (out / "gpu.json").write_text(
        json.dumps({**around, "parts": told, "runs": runs, "step": step.get("ratios")}, indent=1)
    )
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
    lines += ["", *(f"- **{what}: {value:.4g}**" for what, value in step.get("ratios", {}).items())]
    (out / "gpu.md").write_text("\n".join(lines) + "\n")


def main() -> int:
    """All parts; 0 if every one that ran was done."""
    rehearsal = "--rehearsal" in sys.argv
    named = [arg for arg in sys.argv[1:] if not arg.startswith("-")]
    out = Path(named[0] if named else ROOT / "benchmarks/gpu").resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import accelerate  # noqa: F401  once for all parts
    import transformers  # noqa: F401

    import memlm.loading  # noqa: F401

    print(f"imported after {time.monotonic() - STARTED:.0f} s", flush=True)
    told: list[dict[str, Any]] = []
    if not rehearsal:
        check = run(Part("device", 60, ("device",)), ("device",), 60, out)
        if check["result"] != "done":
            print(f"there is no CUDA device here, or it cannot be used: {check['said']}", file=sys.stderr)
            return 1
    for part in parts(out):
        if rehearsal and part.rehearsal is None:
            continue
        left = BOUND - (time.monotonic() - STARTED)
        argv = part.argv + ((part.rehearsal or ()) if rehearsal else part.real)
        if left < LEAST:
            told.append({"part": part.name, "result": "skipped: no time was left", "seconds": 0, "said": ""})
        else:
            told.append(run(part, argv, min(part.seconds, left), out))
        row = told[-1]
        print(f"{row['part']}: {row['result']}, {row['seconds']} s: {row['said']}", flush=True)
        report(out, told, f"benchmarks/gpu.sh {' '.join(sys.argv[1:])}".strip())
    print(f"results are in {out}, after {time.monotonic() - STARTED:.0f} s")
    return 0 if all(row["result"] == "done" or row["result"].startswith("skipped") for row in told) else 1


if __name__ == "__main__":
    sys.exit(main())
