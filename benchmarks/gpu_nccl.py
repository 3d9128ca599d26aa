"""torchrun with one process, DDP and FSDP2 (NCCL on a GPU), beside a plain run: the same losses; resumed, the same
weights. A part of gpu.py.

    gpu_nccl.py OUT DATA RUNS [--rehearsal]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from memlm.cli import main as memlm

STEPS, HALF = 6, 3
SAME = 1e-4  # relative: sums on a GPU are made in no fixed order
WAIT = 80  # seconds for runs that were begun together; the first start of torchrun on a bare machine takes long


def by_torchrun(run: Path, port: int, rest: list[str]) -> subprocess.Popen[bytes]:
    """Begin `memlm train` for a run; what it says goes to RUN.log."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "1", "--master-port", str(port)]
    argv = [sys.executable, *launch, "-m", "memlm", "train", *rest]
    with open(f"{run}.log", "ab") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "NCCL_DEBUG": "VERSION"})


def ended(begun: list[subprocess.Popen[bytes]], rehearsal: bool) -> list[int]:
    """Their exit codes; who has not ended in time is told to, by a signal that torchrun hands on."""
    deadline = time.monotonic() + (5 if rehearsal else 1) * WAIT
    for one in begun:
        try:
            one.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.terminate()
    return [one.wait() for one in begun]


def cut(run: Path) -> Path:
    """A copy of a run as it was at its first checkpoint."""
    half = run.with_name(f"{run.name}-again")
    shutil.copytree(run, half)
    shutil.rmtree(half / "model")
    (half / "summary.json").unlink()
    shutil.rmtree(sorted((half / "checkpoints").iterdir())[-1])
    return half


def losses(run: Path) -> list[float]:
    """Losses and held-out cross-entropies of a run."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[key] for row in rows for key in ("loss", "cross_entropy")]


def apart(run: Path, other: Path) -> float:
    """The largest distance of two runs' weights, relative to the length of each."""
    from safetensors.torch import load_file

    ours, theirs = (load_file(one / "model/model.safetensors") for one in (run, other))
    return max(float((ours[k] - theirs[k]).norm() / theirs[k].norm().clamp(min=1e-9)) for k in theirs)


def main() -> int:
    """0 if all ran and the losses are the same."""
    parser = argparse.ArgumentParser()
    for name in ("out", "data", "runs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rehearsal", action="store_true")
    call = parser.parse_args()
    runs = {name: call.runs / "processes" / name for name in (["fsdp"] if call.rehearsal else ["ddp", "fsdp"])}
    plain = call.runs / "processes/plain"
    shutil.rmtree(call.runs / "processes", ignore_errors=True)
    (call.runs / "processes").mkdir(parents=True)
    asked = ["memory-vector", "--data", str(call.data), "--steps", str(STEPS), "--batch", "4", "--eval-chunks", "8"]
    asked += ["--eval-every", str(HALF), "--checkpoint-every", str(HALF), "--precision", "fp32", "--compile", "off"]
    asked += ["--device", "cpu" if call.rehearsal else "cuda"]
    begun = [
        by_torchrun(run, 29511 + i, [*asked, "--out", str(run), "--parallel", name])
        for i, (name, run) in enumerate(runs.items())
    ]
    codes = [memlm(["train", *asked, "--out", str(plain)])]
    codes += ended(begun, call.rehearsal)
    told: dict[str, Any] = {"codes": codes}
    if not any(codes):
        halves = {name: cut(run) for name, run in runs.items()}
        if call.rehearsal:  # torchrun is seen to start one: this one is begun as it would, in this process
            os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29521"}
            codes = [memlm(["train", "--resume", str(half)]) for half in halves.values()]
        else:
            again = [by_torchrun(half, 29521 + i, ["--resume", str(half)]) for i, half in enumerate(halves.values())]
            codes = ended(again, call.rehearsal)
        told["codes again"] = codes
    if not any(codes):
        for name, half in halves.items():
            both = zip(losses(plain), losses(runs[name]), strict=True)
            told[name] = {
                "losses apart": max(abs(a - b) / abs(a) for a, b in both),
                "resumed, weights apart": apart(half, runs[name]),
                "group": next((line for line in log(runs[name]) if "NCCL version" in line), "no NCCL"),
            }
    else:
        told["said"] = {run.name: "\n".join(log(run))[-1500:] for run in runs.values()}
    (call.out / "nccl.json").write_text(json.dumps(told, indent=1))
    print(json.dumps(told))
    right = not any(codes) and all(told[name]["losses apart"] <= SAME for name in runs)
    return 0 if right else 1


def log(run: Path) -> list[str]:
    """What a run said."""
    return [line for line in Path(f"{run}.log").read_text(errors="replace").splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
