"""Trackers: the same is told to each (fields, loss and rate, system, artifacts), and a missing one stops the call."""

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import tracking
from banks import PERFECT

from memlm.cli import main
from memlm.errors import UsageError
from memlm.files import read_json
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.loop import train
from memlm.train.tracking import flattened


class Kept(tracking.GeneralTracker):
    """A tracker that keeps what it is told, and has artifacts."""

    name = "kept"
    requires_logging_directory = False
    told: list

    def __init__(self, project: str):
        super().__init__()
        self.told.append(("project", project))

    @property
    def tracker(self):
        return self

    def start(self):
        print("a tracker that prints")

    def store_init_configuration(self, values):
        self.told.append(("config", values))

    def log(self, values, step=None, **_):
        self.told.append((step, values))

    def log_artifact(self, path, name, type):
        assert Path(path).exists()
        self.told.append((type, name))

    def finish(self):
        self.told.append(("end", None))


@pytest.fixture
def kept(monkeypatch) -> type[Kept]:
    Kept.told = []
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "kept", Kept)
    monkeypatch.setattr(tracking, "_available_trackers", ["kept"])
    return Kept


@pytest.fixture
def config(data) -> TrainConfig:
    brief = {"steps": 20, "batch": 8, "eval_every": 15, "eval_chunks": 8, "checkpoint_every": 20, "device": "cpu"}
    return TrainConfig(data=data, model=PERFECT, optim=OptimConfig(warmup=2), **brief)


def test_everything_is_told_as_fields(kept, config, tmp_path, capsys):
    train(replace(config, trackers=("kept",)), tmp_path / "runs" / "one")
    assert capsys.readouterr().out == ""  # which belongs to results
    project, fields, *rows, model_config, model, end = kept.told
    assert project == ("project", "memlm")
    assert fields == ("config", flattened(read_json(tmp_path / "runs/one/config.json")))
    steps = [step for step, _ in rows]
    assert steps == [10, 15, 20, 20]  # a log every ten, held-out figures at 15 and at the end
    assert all(isinstance(figure, int | float) for _, row in rows for figure in row.values())
    assert all(row["system/rss_bytes"] > 1e6 and row["system/cpu_percent"] >= 0 for _, row in rows)
    assert all({"train/loss", "train/learning_rate"} <= row.keys() for step, row in rows[::2] if step != 15)
    assert rows[1][1]["token_accuracy"] >= 0
    assert (model_config, model, end) == (("config", "runs-one-config"), ("model", "runs-one-model"), ("end", None))


def test_a_config_is_flat_and_of_plain_values():
    fields = flattened({"a": {"b": 1, "c": {"d": "x"}}, "e": [1, 2], "f": None, "g": True})
    assert fields == {"a.b": 1, "a.c.d": "x", "e": "[1, 2]", "f": "null", "g": True}


def test_a_tracker_is_closed_whatever_ends_the_run(kept, config, tmp_path, monkeypatch):
    monkeypatch.setattr("memlm.train.loop.evaluate", None)
    with pytest.raises(TypeError):
        train(replace(config, trackers=("kept",)), tmp_path / "run")
    assert kept.told[-1] == ("end", None)
    assert not any(what == "model" for what, _ in kept.told)


def test_a_tracker_that_fails_at_the_end_leaves_the_run_whole(kept, config, tmp_path, monkeypatch, capsys):
    def refuse(self, path, name, type):
        raise RuntimeError("no room for it\nand more")

    monkeypatch.setattr(kept, "log_artifact", refuse)
    assert train(replace(config, trackers=("kept",)), tmp_path / "run")["step"] == 20
    assert "kept was not told of all that the run made (no room for it)." in capsys.readouterr().err


def test_a_tracker_that_cannot_start_is_one_sentence(kept, config, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "start", None)
    with pytest.raises(UsageError, match="a tracker could not be started"):
        train(replace(config, trackers=("kept",)), tmp_path / "run")


def test_an_absent_tracker_is_told_with_what_brings_it_before_anything_is_made(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    for name, how in (("trackio", "pip install 'memlm[trackers]'"), ("mlflow", "install its package")):
        run = str(tmp_path / name)
        assert main(["train", "slots", "--data", str(data), "--trackers", name, "--out", run]) == 2
        assert f"the tracker {name!r} is not installed: " in (told := capsys.readouterr().err)
        assert how in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["trackio", "tensorboard", "wandb"])
def test_a_real_tracker_has_it(name, config, tmp_path, monkeypatch, capfd):
    pytest.importorskip(name, reason=f"{name}, which the lock leaves out: pip install 'memlm[trackers]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    if name == "trackio":  # its folder is settled when it is imported
        from trackio import sqlite_storage

        monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    run = tmp_path / "runs" / "one"
    train(replace(config, trackers=(name,)), run)
    out, err = capfd.readouterr()
    assert out == ""
    assert "was not told" not in err
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run / "memlm")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [10, 20]
        assert "optim.lr" in next((run / "memlm").rglob("hparams.yml")).read_text()
    elif name == "wandb":
        (kept,) = run.rglob("*.wandb")
        patience = time.monotonic() + 20  # a process of wandb's writes it; figures are compressed there
        while b"optim.matrix_lr" not in kept.read_bytes():
            assert time.monotonic() < patience
            time.sleep(0.1)
    else:
        (database,) = (tmp_path / "trackio").glob("memlm.db")
        with sqlite3.connect(database) as rows:
            told = [json.loads(row) for (row,) in rows.execute("select metrics from metrics order by step")]
            (fields,) = rows.execute("select config from configs").fetchone()
            artifacts = {row for (row,) in rows.execute("select name from artifacts")}
        assert json.loads(fields)["optim.warmup"] == 2
        assert sum("train/loss" in row for row in told) == 2
        assert artifacts == {"runs-one-config", "runs-one-model"}
