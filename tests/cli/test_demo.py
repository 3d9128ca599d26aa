"""The demo from the command line, on a small text and a sliver of its budget: every step, and going on after a stop.

Its parts are tested where they live. Here: the demo's own configs train, one starts from the other's folder, what is
measured of all goes on one page, and what is there is not made again.
"""

import json
from functools import partial
from pathlib import Path

from texts import write_documents

import memlm
from memlm import demo
from memlm.bench import memory
from memlm.cli import main
from memlm.export import shipped
from memlm.files import read_json
from memlm.nn.config import StackConfig
from memlm.report import page

TINY = StackConfig(kind="transformer", width=8, layers=1, heads=2)
NEEDED = {"model", "encoder", "training", "chunk_tokens", "chunk_chars", "memory_dim", "seed", "data", "commit"}
FIGURES = {"cross_entropy", "entropy_ratio", "token_accuracy", "exact_match", "usable_bits_per_token"}


def test_the_whole_story(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "CONTEXTS", (32, 64))
    monkeypatch.setattr(memory, "run", partial(memory.run, chunk_tokens=4, stack=TINY))
    monkeypatch.setattr(page, "png", lambda chart: b"")  # each figure is drawn once, into the page
    source, out = write_documents(tmp_path / "text", count=3, words=3000), tmp_path / "demo"
    argv = ["demo", "--source", str(source), "--out", str(out), "--scale", "0.002", "--json"]
    assert main(argv) == 0
    out_, err = capsys.readouterr()
    report = json.loads(out_)
    assert err.index("from its vector: ") < err.index("causal-mixer")  # before anything else is trained
    told = {(r["encoder"], r["training"]) for r in report["results"]}
    assert told >= {("slots", "autoencoder"), ("slots", "untrained"), ("mixer", "untrained"), ("none", "none")}
    assert told >= {("mixer", "causal"), ("transformer", "causal"), ("transformer", "untrained")}
    for result in report["results"]:
        assert result.keys() >= NEEDED | FIGURES | {f"{name}_ci" for name in FIGURES}
    assert err.index("without: ") > err.index("the text goes on: ") > err.index("5/7")
    memories = set(demo.memory_runs(0))
    assert {row["model"] for row in report["access"]} == memories
    assert set(report["train_seconds"]) == set(demo.runs()) | memories
    assert read_json(out / "slots" / "config.json")["steps"] == round(0.002 * demo.runs()["slots"].steps)
    assert read_json(out / "cost" / "memory.json")["results"]
    text = (out / "report.html").read_text(encoding="utf-8")
    assert all(name in text for name in memories | {"slots", "mixer", "transformer"})
    assert shipped(Path(report["model"]["out"])) == report["model"]
    assert memlm.load(report["model"]["out"]).chunk_tokens == 64

    (out / "report.html").unlink()
    shown = []
    monkeypatch.setattr(page, "write_report", lambda runs, path: shown.append((runs, path)))
    for made in ("memlm.train.loop.Batches", "memlm.measure.run.measure_access", "memlm.measure.run.Measurement"):
        monkeypatch.setattr(made, None)  # would fail if anything were made again
    monkeypatch.setattr(memory, "run", None)
    assert main(argv) == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "train_seconds": None} == {**report, "train_seconds": None}
    ((runs, path),) = shown
    assert path == out / "report.html"
    assert {run.name for run in runs} == {*demo.runs(), *memories, "retention", "access", "far", "cost"}
