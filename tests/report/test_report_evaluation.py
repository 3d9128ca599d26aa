"""Evaluations on the page: every model and condition with its interval, its difference, and what it read."""

import json

import pytest
from made_up_runs import ENVIRONMENT, write_run
from test_report_memory import section
from test_report_page import page_of

from memlm.report.page import write_report


def row(condition, value, difference=None, *, task="memlm_needle", metric="acc", model="runs <one>", memories=3):
    read = memories if condition in ("own", "random") else 0
    return {
        "task": task,
        "metric": metric,
        "filter": "none",
        "model": model,
        "condition": condition,
        "value": value,
        "value_ci": [value - 0.05, value + 0.05],
        "n": 1234,
        "difference_of": None if difference is None else f"own - {condition}",
        "difference": difference,
        "difference_ci": None if difference is None else [difference - 0.04, difference + 0.04],
        "memories_min": 0,
        "memories_mean": read / 2,
        "memories_max": read,
        "seed": 0,
        "data": "5ca1ab1e" * 8,
    }


ROWS = [
    row("own", 0.525),
    row("none", 0.25, 0.275),
    row("random", 0.31, 0.215),
    row("base", 0.875, -0.35),
    row("own", 2.345, task="memlm_text", metric="bits_per_byte"),
]


def write_evaluation(folder, rows=ROWS):
    folder.mkdir(parents=True)
    (folder / "eval.json").write_text(json.dumps({"results": rows, "environment": ENVIRONMENT, "warnings": []}))
    return folder


def test_every_row_is_told_with_interval_difference_and_memories(tmp_path):
    page = page_of(write_evaluation(tmp_path / "asked"))
    told = section(page, "Tasks")
    assert "<h1>What are memories worth in tasks?</h1>" in page
    assert "memlm_needle acc, % runs <one> own memories 52.5 47.5–57.5 – 0–3 mean 1.50 1,234" in told
    assert "runs <one> no memories 25.0 20.0–30.0 27.5 23.5–31.5 0 1,234" in told
    assert "runs <one> base model, all tokens 87.5 82.5–92.5 −35.0 −39.0…−31.0 0 1,234" in told
    assert "memlm_text bits_per_byte runs <one> own memories 2.345 2.295–2.395 –" in told
    assert "<one>" not in page
    assert ENVIRONMENT["commit"] in section(page, "Where the numbers come from")


@pytest.mark.usefixtures("undrawn")
def test_an_evaluation_stands_beside_runs_and_is_counted(tmp_path):
    write_evaluation(tmp_path / "asked")
    write_run(tmp_path / "trained")
    done = write_report([tmp_path], tmp_path / "page.html")
    assert done["evaluations"] == ["asked"]
    assert set(done["models"]) >= {"runs <one>", "trained"}


@pytest.mark.parametrize("content", [[], {}, {"results": []}, {"results": [{"task": "x"}]}, {"results": 3}])
@pytest.mark.usefixtures("undrawn")
def test_what_others_call_eval_json_is_no_evaluation(content, tmp_path):
    write_run(tmp_path / "trained")
    (tmp_path / "trained" / "eval.json").write_text(json.dumps(content))
    page = page_of(tmp_path)
    assert section(page, "Tasks") == ""
