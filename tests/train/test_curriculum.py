"""Curricula: stages that start from one another; stopped anywhere and resumed equals uninterrupted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memlm.cli import main
from memlm.errors import UsageError
from memlm.files import read_json
from memlm.loading import find_model, load_model
from memlm.models.shapes import AutoencoderShape, MemoryShape
from memlm.nn.config import StackConfig
from memlm.presets import CURRICULA
from memlm.readers.config import VectorReader
from memlm.records import from_dict, to_dict
from memlm.train.config import Curriculum, OptimConfig, TrainConfig
from memlm.train.curriculum import load_curriculum, train_curriculum
from memlm.train.loop import load_config, train
from memlm.train.tracking import read_metrics

POINTWISE = StackConfig(kind="pointwise", width=16, layers=1)
TRANSFORMER = StackConfig(kind="transformer", width=16, layers=1, heads=2)


@pytest.fixture
def curriculum(data) -> Curriculum:
    autoencoder = TrainConfig(
        data=data,
        model=AutoencoderShape(
            chunk_tokens=4, memory_dim=12, encoder=POINTWISE, decoder=POINTWISE, readout="slots", bridge="slots"
        ),
        steps=4,
        batch=8,
        eval_every=2,
        eval_chunks=4,
        checkpoint_every=2,
        optim=OptimConfig(kind="muon", warmup=2),
        device="cpu",
    )
    blank = replace(
        autoencoder,
        model=MemoryShape(
            encoder=autoencoder.model.encoder_shape,
            reader=VectorReader(vectors=2),
            decoder=TRANSFORMER,
        ),
        objective="blank",
        start=Path("autoencoder"),
        frozen=("encoder",),
    )
    combined = replace(blank, objective="causal+0.5*blank", start=Path("blank"))
    return Curriculum(stages={"autoencoder": autoencoder, "blank": blank, "combined": combined})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(find_model(folder) / "model.safetensors")


def assert_same(one: Path, other: Path, curriculum: Curriculum) -> None:
    for name in curriculum.stages:
        a, b = weights(one / name), weights(other / name)
        assert all(torch.equal(a[key], b[key]) for key in a)
        rows = [read_metrics(run / name / "metrics.jsonl") for run in (one, other)]
        for row in rows[0] + rows[1]:
            del row["train_seconds"], row["tokens_per_second"]
        assert rows[0] == rows[1]


def test_stages_start_from_one_another_and_the_last_model_is_the_curriculum_s(curriculum, tmp_path):
    summary = train_curriculum(curriculum, tmp_path / "out")
    assert list(summary["stages"]) == list(curriculum.stages)
    assert summary["step"] == 4
    assert summary["parts"]["blank"]
    first, last = weights(tmp_path / "out" / "autoencoder"), weights(tmp_path / "out")
    for name, tensor in first.items():
        if name.startswith("encoder"):
            assert torch.equal(tensor, last[name])
    assert find_model(tmp_path / "out") == tmp_path / "out" / "combined" / "model"
    assert load_model(tmp_path / "out").config.read_shape() == curriculum.stages["combined"].model
    assert load_curriculum(tmp_path / "out") == curriculum
    # every stage is an ordinary run of its own
    for name, config in curriculum.stages.items():
        assert load_config(tmp_path / "out" / name) == config
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / "combined")
    train(curriculum.stages["combined"], tmp_path / "elsewhere" / "combined")
    assert_same(tmp_path / "out", tmp_path / "elsewhere", curriculum)


def test_stopped_anywhere_and_resumed_equals_uninterrupted(curriculum, tmp_path, monkeypatch):
    """Every file that a run writes is a moment to be stopped at: in a stage, at its end, before the next begins."""
    from memlm.train import loop

    train_curriculum(curriculum, tmp_path / "whole")
    real = {name: getattr(loop, name) for name in ("write_json", "save_checkpoint", "save_model")}
    left = [0]

    def stopped(name):
        def call(*args):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return real[name](*args)

        return call

    for name in real:
        monkeypatch.setattr(loop, name, stopped(name))
    stops = 0
    while True:
        left[0] = 1 + stops  # at the first file, at the second, ...
        try:
            train_curriculum(curriculum, tmp_path / "cut", resume=(tmp_path / "cut").exists())
            break
        except KeyboardInterrupt:
            stops += 1
            (tmp_path / "cut" / "blank").mkdir(exist_ok=True)  # as a kill just after it leaves it
        assert stops < 30
    assert stops > 5
    assert_same(tmp_path / "whole", tmp_path / "cut", curriculum)


def test_what_has_not_ended_is_said_to_be_so(curriculum, tmp_path, monkeypatch):
    train_curriculum(curriculum, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "combined")
    with pytest.raises(UsageError, match=r"out is a curriculum that has not ended: .*--resume .*out"):
        find_model(tmp_path / "out")
    before = (tmp_path / "out" / "blank" / "model" / "model.safetensors").stat().st_mtime_ns
    train_curriculum(curriculum, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "blank" / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_another_curriculum_is_refused(curriculum, tmp_path):
    train_curriculum(Curriculum(stages={"autoencoder": curriculum.stages["autoencoder"]}), tmp_path / "out")
    with pytest.raises(UsageError, match="resume"):
        train_curriculum(curriculum, tmp_path / "out")
    with pytest.raises(UsageError, match=r"another curriculum .*the stages autoencoder\)"):
        train_curriculum(curriculum, tmp_path / "out", resume=True)
    one = Curriculum(stages={"autoencoder": replace(curriculum.stages["autoencoder"], seed=4)})
    with pytest.raises(UsageError, match=r"another curriculum \(see autoencoder\.seed\)"):
        train_curriculum(one, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("stage", "change", "sentence"),
    [
        ("combined", {"frozen": ("reeder",)}, "no part 'reeder'"),
        ("blank", {"data": Path("nowhere")}, "not a prepared data set"),
        ("autoencoder", {"start": Path("blank")}, "autoencoder starts from blank, which does not come before"),
        ("blank", {"start": Path("blank")}, "does not come before"),
        ("combined", {"precision": "bf16"}, "one and the same precision"),
        (
            "autoencoder",
            {"model": AutoencoderShape(chunk_tokens=4, memory_dim=10)},
            r"nothing of the stage autoencoder, for blank, fits: in its encoder memory_dim is 10, not 12",
        ),
    ],
)
def test_what_a_later_stage_would_refuse_is_told_before_the_first(curriculum, tmp_path, stage, change, sentence):
    stages = {**curriculum.stages, stage: replace(curriculum.stages[stage], **change)}
    with pytest.raises(UsageError, match=sentence):
        train_curriculum(Curriculum(stages=stages), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "model", "Blank copy"])
def test_a_stage_s_name_is_a_folder_s(name, curriculum):
    with pytest.raises(UsageError, match="cannot name a stage"):
        Curriculum(stages={name: curriculum.stages["autoencoder"]})
    with pytest.raises(UsageError, match="at least one stage"):
        Curriculum(stages={})


def test_curricula_survive_json(curriculum):
    for one in (curriculum, *(make() for make in CURRICULA.values())):
        again = from_dict(Curriculum, json.loads(json.dumps(to_dict(one))))
        assert again == one
        assert list(again.stages) == list(one.stages)
    with pytest.raises(UsageError, match=r"curriculum\.stages\.blank has no field 'stepz'"):
        from_dict(Curriculum, {"stages": {"blank": {"stepz": 1}}}, "curriculum")


def test_the_command_line_sets_fields_of_one_stage_and_of_all(data, curriculum, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CURRICULA, "memory", lambda: curriculum)
    out = tmp_path / "out"
    call = ["memory", "--data", str(data), "--seed", "3", "--out", str(out), "--json"]
    assert main(["train", *call, "--stages.blank.steps", "2", "--max-seconds", "60"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {name: row["step"] for name, row in printed["stages"].items()} == {
        "autoencoder": 4,
        "blank": 2,
        "combined": 4,
    }
    stages = read_json(out / "curriculum.json")["stages"]
    assert {(stage["seed"], stage["max_seconds"], stage["data"]) for stage in stages.values()} == {(3, 60, str(data))}
    assert main(["train", "--resume", str(out)]) == 0
    assert capsys.readouterr().out.count("\n") == 3
    assert main(["train", "--config", str(out / "curriculum.json"), "--out", str(tmp_path / "again")]) == 0
    assert_same(out, tmp_path / "again", curriculum)
    assert main(["train", "--resume", str(out), "--seed", "4"]) == 2
    assert "another curriculum" in capsys.readouterr().err
