"""The loop: resumed equals uninterrupted, also after kill -9; accumulation; golden losses; what must stop."""

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memlm.cli import main
from memlm.errors import UsageError, WorkError
from memlm.files import read_json, write_json
from memlm.loading import load_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import AutoencoderShape, CausalShape, MemoryShape, RecurrentShape
from memlm.nn.config import StackConfig
from memlm.readers.config import PointerReader, VectorReader
from memlm.records import from_dict, to_dict
from memlm.train.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.loop import _check, load_config, train
from memlm.train.tracking import read_metrics

POINTWISE = StackConfig(kind="pointwise", width=16, layers=1)
SLOTS = AutoencoderShape(
    chunk_tokens=8,
    memory_dim=32,
    encoder=replace(POINTWISE, layers=0),
    decoder=POINTWISE,
    readout="slots",
    bridge="slots",
)
MIXER = StackConfig(kind="mixer", width=16, layers=1, kernel=2)


@pytest.fixture(scope="module")
def config(data) -> TrainConfig:
    return TrainConfig(
        data=data,
        model=SLOTS,
        steps=30,
        batch=16,
        eval_every=10,
        eval_chunks=16,
        checkpoint_every=10,
        optim=OptimConfig(kind="muon", warmup=5),
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> Path:
    """A run of it that nothing interrupted; never written to by a test."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(config, run)
    return run


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def figures(run):
    """What must be the same in a run that was interrupted and one that was not."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("train_seconds", "tokens_per_second")} for row in rows]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_resumed_equals_uninterrupted(config, whole, tmp_path, kind):
    if kind != config.optim.kind:
        config, whole = replace(config, optim=replace(config.optim, kind=kind)), tmp_path / "whole"
        train(config, whole)
    shutil.copytree(whole, tmp_path / "cut")
    for later in list_checkpoints(tmp_path / "cut" / "checkpoints")[1:]:
        (later / "state.json").unlink()  # as if it had never been finished
    (tmp_path / "cut" / "summary.json").unlink()
    train(config, tmp_path / "cut", resume=True)
    assert_same_weights(whole, tmp_path / "cut")
    assert figures(whole) == figures(tmp_path / "cut")


KILLED = """
import os, signal, sys
from memlm.cli import main

def at_the_second_checkpoint(event, what):  # which is written, under another name
    if event == "os.rename" and str(what[1]).endswith("step-00000020"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(at_the_second_checkpoint)
main(sys.argv[1:])
"""


def test_killed_and_resumed_equals_uninterrupted(config, whole, tmp_path, capsys):
    write_json(tmp_path / "config.json", to_dict(config))
    call = ["train", "--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "cut")]
    done = subprocess.run([sys.executable, "-c", KILLED, *call], stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in list_checkpoints(tmp_path / "cut" / "checkpoints")] == ["step-00000010"]
    assert not (tmp_path / "cut" / "summary.json").exists()
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "cut"), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["step"] == config.steps
    assert "goes on from step 10" in told.err
    assert_same_weights(whole, tmp_path / "cut")
    assert figures(whole) == figures(tmp_path / "cut")


def test_two_half_batches_are_one_batch(config, tmp_path, monkeypatch):
    """The gradients too: of their length AdamW, Muon and clipping would show nothing in the weights."""
    clip, norms = torch.nn.utils.clip_grad_norm_, []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: norms.append(clip(*args)))
    config = replace(config, steps=3, optim=replace(config.optim, kind="adamw"))
    train(config, tmp_path / "one")
    train(replace(config, batch=8, accumulate=2), tmp_path / "two")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert len(norms) == 6
    torch.testing.assert_close(norms[:3], norms[3:], rtol=1e-3, atol=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)


TRANSFORMER = StackConfig(kind="transformer", width=16, layers=1, heads=2)
ENCODER = EncoderShape(chunk_tokens=4, memory_dim=12, stack=SLOTS.encoder, readout="slots")
GOLDEN = {
    "slots": (SLOTS, "autoencode"),
    "mixer": (AutoencoderShape(chunk_tokens=8, memory_dim=16, encoder=MIXER, decoder=MIXER), "autoencode"),
    "causal": (CausalShape(chunk_tokens=8, stack=TRANSFORMER), "causal"),
    "vector": (
        MemoryShape(
            encoder=EncoderShape(chunk_tokens=4, memory_dim=16, stack=MIXER), decoder=TRANSFORMER, reader=VectorReader()
        ),
        "causal",
    ),
    "pointer": (
        MemoryShape(
            encoder=ENCODER, decoder=TRANSFORMER, reader=PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=4)
        ),
        "causal+0.5*blank/2+0.25*copy/4+recall+autoencode",
    ),
    "recurrent": (
        RecurrentShape(encoder=replace(ENCODER, begins=True, readout="last"), decoder=TRANSFORMER),
        "causal+0.5*blank",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_losses(config, tmp_path, name):
    """A change that should not change numbers does not; to change them on purpose, change the file with a reason."""
    model, objective = GOLDEN[name]
    train(replace(config, model=model, objective=objective, steps=20, eval_every=5), tmp_path / "run")
    losses = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    print(f'"{name}": {losses}')  # what to write into the file when a change was meant to change numbers
    golden = json.loads(Path(__file__).with_name("golden_losses.json").read_text())
    assert losses == pytest.approx(golden[name], rel=2e-3)


def test_a_run_holds_all_that_is_needed_to_run_it_again(config, whole, tmp_path):
    assert load_config(whole) == config
    assert read_json(whole / "summary.json")["step"] == config.steps
    environment = read_json(whole / "environment.json")
    assert environment["commit"]
    assert environment["data"]
    train(load_config(whole), tmp_path / "again")
    assert_same_weights(whole, tmp_path / "again")
    assert load_model(whole).chunk_tokens == 8


def test_an_ended_run_is_not_run_twice(config, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert train(config, whole, resume=True) == read_json(whole / "summary.json")
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_another_config_or_no_leave_to_resume_is_refused(config, whole):
    with pytest.raises(UsageError, match="resume"):
        train(config, whole)
    with pytest.raises(UsageError, match=r"another config.*seed"):
        train(replace(config, seed=5), whole, resume=True)


def test_a_checkpoint_knows_where_torchs_draws_were(tmp_path):
    with torch.random.fork_rng():
        save_checkpoint(tmp_path, 1, {}, {}, {}, keep=1)
        drawn = torch.rand(3)
        load_checkpoint(tmp_path / "step-00000001")
        assert torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_serves(config, whole, tmp_path, name):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    content = bytearray((newest / name).read_bytes())
    content[-5] ^= 1
    (newest / name).write_bytes(content)
    with pytest.raises(WorkError, match="damaged"):
        train(config, tmp_path / "run", resume=True)
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert train(config, tmp_path / "run", resume=True)["step"] == config.steps


def test_a_diverging_run_stops_and_names_the_last_good_checkpoint(config, tmp_path):
    wild = replace(config, steps=200, optim=OptimConfig(lr=1e9, warmup=15, clip=0.0))
    with pytest.raises(WorkError, match=r"(diverged|no number).*(checkpoint).*--optim\.lr"):
        train(wild, tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_many_objectives_at_once_are_no_divergence(config):
    """The limit is twice the loss of guessing: of all parts together, each by its weight."""
    three = replace(config, model=MemoryShape(), objective="causal+0.5*copy+blank")
    _check(2 * 2.5 * math.log(300) - 0.1, 300, 20, three, Path("run"))
    with pytest.raises(WorkError, match="diverged"):
        _check(2 * 2.5 * math.log(300) + 0.1, 300, 20, three, Path("run"))


def test_time_can_end_a_run(config, tmp_path):
    summary = train(replace(config, steps=10**6, max_seconds=0.5), tmp_path / "run")
    assert 0.5 <= summary["train_seconds"] < 5
    assert load_model(tmp_path / "run")


def test_configs_survive_json(config):
    causal = replace(config, model=CausalShape(chunk_tokens=4), objective="causal")
    for one in (config, causal):
        assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(one)))) == one
    with pytest.raises(UsageError, match="no field 'stepz'"):
        from_dict(TrainConfig, {"stepz": 1})
    with pytest.raises(UsageError, match="does not fit"):
        replace(config, objective="causal")
