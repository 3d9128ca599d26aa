"""benchmarks/gpu.sh, rehearsed: every kind of part runs, and what came of it is told."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_gpus_run_is_rehearsed_on_a_cpu(data, tmp_path):
    around = {"DATA": str(data), "RUNS": str(tmp_path / "runs"), "PYTHON": sys.executable, "BOUND": "300"}
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh"), str(tmp_path / "out"), "--rehearsal"],
        env={**os.environ, **around, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert {row["part"]: row["result"] for row in told["parts"]} == dict.fromkeys(
        ("tests", "tests of kernels", "nccl", "step", "step, searched", "paper-mixer"), "done"
    )
    assert told["runs"]["paper-mixer"]["step"] == 2
    assert any("share of the bf16 rate" in what for what in told["step"]["ratios"])
    assert any("encoding, compiled / plain" in what for what in told["step"]["ratios"])
    assert told["searched/step"]["ratios"].keys() == told["step"]["ratios"].keys()
    assert told["nccl"]["fsdp"]["losses apart"] < 1e-5
    assert told["nccl"]["fsdp"]["resumed, weights apart"] < 1e-5
    (mixer,) = told["step"]["measured"].values()
    assert len(mixer["kernels"]["most"]) == 12
    assert "| step | done |" in (tmp_path / "out" / "gpu.md").read_text()


def test_what_no_time_is_left_for_is_told(tmp_path, monkeypatch):
    around = {"DATA": str(tmp_path), "RUNS": str(tmp_path / "runs"), "BOUND": "0"}
    for name, value in {**around, "PYTORCH_NVML_BASED_CUDA_CHECK": "1", "PYTORCH_CUDA_ALLOC_CONF": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "out"), "--rehearsal"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ROOT)
    assert runpy.run_path(str(ROOT / "benchmarks/gpu.py"), run_name="gpu")["main"]() == 0
    told = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert {row["result"] for row in told["parts"]} == {"skipped: no time was left"}
