"""The one loop, the curriculum and the commands do with a language model of others what they do with ours."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from texts import TEXT, write_documents
from tiny_models import save_tiny

from memlm.bank.bank import Bank
from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError
from memlm.loading import build_model, load_model
from memlm.measure.access import measure_access
from memlm.measure.config import AccessConfig, MeasureConfig, ProbeConfig
from memlm.measure.run import measure
from memlm.memory.encoder_shape import EncoderShape
from memlm.nn.config import StackConfig
from memlm.presets import smollm2_curriculum
from memlm.pretrained.shapes import (
    BaseConfig,
    BaseEncoderShape,
    PretrainedShape,
    SoftAutoencoderShape,
    SoftTokens,
)
from memlm.readers.config import VectorReader
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.curriculum import train_curriculum
from memlm.train.loop import train

T = 4
ENCODER = EncoderShape(
    chunk_tokens=T, memory_dim=48, stack=StackConfig(kind="pointwise", width=12, layers=0), readout="slots"
)
SOFT = SoftTokens(width=12, hidden=32)
QUICK = {
    "optim": OptimConfig(lr=1e-2, warmup=2),
    "batch": 8,
    "eval_every": 10,
    "eval_chunks": 4,
    "checkpoint_every": 10,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    save_tiny("llama", folder / "lm")
    source = write_documents(folder / "documents", words=3000)
    prepare(Prepare(source=str(source), out=folder / "data", tokenizer=folder / "lm"))
    return folder


@pytest.fixture(scope="module")
def runs(place: Path) -> Path:
    """The curriculum of the preset, all stages, on a tiny model."""
    stages = {}
    for name, config in smollm2_curriculum().stages.items():
        model = (
            SoftAutoencoderShape(base=str(place / "lm"), encoder=ENCODER, decoder=SOFT, negatives=64)
            if name == "soft"
            else PretrainedShape(
                encoder=ENCODER, chunks=2, reader=SOFT, decoder=BaseConfig(name=str(place / "lm"), lora_rank=2)
            )
        )
        size = {"steps": 150, "batch": 16} if name == "soft" else {"steps": 10}
        stages[name] = replace(config, data=place / "data", model=model, **{**QUICK, **size})
    train_curriculum(replace(smollm2_curriculum(), stages=stages), place / "runs")
    return place / "runs"


def test_soft_tokens_come_near_the_tokens(runs):
    summary = json.loads((runs / "soft" / "summary.json").read_text())
    assert summary["token_accuracy"] > 0.95  # among all tokens, though a step tells but some apart
    model, corpus = load_model(runs / "soft"), Corpus.open(runs.parent / "data")
    ids = torch.from_numpy(corpus.chunks("test", T, limit=16).tokens)
    with torch.inference_mode():
        soft, true = model.soft(model.encode(ids)), model.base.embed(model.base.own(ids))
        between = true.var((0, 1)).sum()
    assert (soft - true).square().sum(-1).mean() < 0.25 * between


def test_a_frozen_encoder_is_taken_from_the_autoencoder_and_stays(runs):
    first, last = load_model(runs / "soft"), load_model(runs / "combined")
    for part in ("encoder", "reader"):
        theirs = first.get_submodule(part).state_dict()
        assert all(torch.equal(t, theirs[name]) for name, t in last.get_submodule(part).state_dict().items())
    assert first.encoder.fingerprint() == last.encoder.fingerprint()


def test_checkpoints_hold_what_is_trained_and_resume_exactly(place, tmp_path):
    model = PretrainedShape(
        encoder=BaseEncoderShape(chunk_tokens=T, memory_dim=16),
        chunks=2,
        reader=VectorReader(),
        decoder=BaseConfig(name=str(place / "lm"), lora_rank=2),
    )
    config = TrainConfig(
        data=place / "data", model=model, objective="causal+blank", steps=8, **{**QUICK, "checkpoint_every": 4}
    )
    train(config, tmp_path / "whole")
    train(replace(config, max_seconds=1e-9), tmp_path / "cut")  # one step
    (tmp_path / "cut" / "summary.json").unlink()
    whole = load_model(tmp_path / "whole").state_dict()
    assert not [name for name in whole if name.startswith("decoder.") and "lora_" not in name]
    begun = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert begun["max_seconds"]
    (tmp_path / "cut" / "config.json").write_text(json.dumps({**begun, "max_seconds": None}))
    train(config, tmp_path / "cut", resume=True)
    again = load_model(tmp_path / "cut").state_dict()
    assert whole.keys() == again.keys()
    assert all(torch.equal(t, again[name]) for name, t in whole.items())


def test_access_is_measured_as_of_every_memory_model(runs):
    corpus = Corpus.open(runs.parent / "data")
    config = AccessConfig(examples=4, free_running=2, device="cpu")
    rows = measure_access(load_model(runs / "combined"), corpus, config, "tiny")
    scored = {(row["task"], row["memory"], row["mode"]) for row in rows if row.get("value") is not None}
    for task in ("causal", "copy"):
        assert {(task, memory, "teacher-forced") for memory in ("own", "none", "other")} <= scored
    assert {("blank", "own", "both"), ("copy", "own", "free-running")} <= scored


def test_measure_tells_retention_access_and_attribution(runs, tmp_path):
    """The whole of memlm measure, as of a model of ours."""
    probe = ProbeConfig(families=("linear",), train_chunks=(64,), seeds=1)
    config = MeasureConfig(probe=probe, chunks=16, access_examples=6, free_running=2, attribution=6, device="cpu")
    told = measure([str(runs / "combined")], runs.parent / "data", tmp_path / "out", config)
    trained = {(row["model"], row["training"]) for row in told["results"]}
    assert {("combined", "shuffled"), ("combined", "random-tokens")} <= trained
    assert {training for _, training in trained} >= {"none", "untrained"}
    access = {(row["task"], row["memory"]) for row in told["access"] if row["value"] is not None}
    assert {(task, memory) for task in ("causal", "copy", "blank") for memory in ("own", "none", "other")} <= access
    for row in told["access"]:
        if row["value"] is not None and row["memory"] == "own" and row["group"] is None:
            assert row["memories_max"] > 0
    moved = {(r["text"], r["metric"]): r["value"] for r in told["attribution"] if r["figure"] == "mean"}
    assert moved["copy", "l1"] > 0
    assert moved["plain", "l1"] > 0
    assert told["samples"]


def test_memories_go_to_disk_and_are_read_by_generate(runs, tmp_path, capsys):
    (tmp_path / "sea.txt").write_text(TEXT)
    model, bank = str(runs / "combined"), tmp_path / "bank"
    assert main(["encode", model, str(tmp_path / "sea.txt"), "--out", str(bank)]) == 0
    assert len(Bank.open(bank)) > 1
    capsys.readouterr()
    said = {}
    for name, more in (("with", ["--memory", str(bank)]), ("without", [])):
        assert main(["generate", model, "--prompt", "the sea", "--max-new-tokens", "6", "--json", *more]) == 0
        said[name] = json.loads(capsys.readouterr().out)
    assert said["with"]["memories"] == len(Bank.open(bank))
    assert said["without"]["memories"] == 0
    assert said["with"]["text"] != said["without"]["text"]


def test_full_fine_tuning_saves_the_base_it_made(place, tmp_path):
    model = PretrainedShape(
        encoder=ENCODER, chunks=2, reader=SOFT, decoder=BaseConfig(name=str(place / "lm"), lora_rank=0, trained=True)
    )
    train(TrainConfig(data=place / "data", model=model, objective="causal+blank", steps=3, **QUICK), tmp_path / "run")
    tuned, fresh = load_model(tmp_path / "run"), build_model(model, load_model(tmp_path / "run").config.vocab_size, 0)
    ids = torch.arange(10, 10 + T)[None]
    assert not torch.equal(tuned(ids).logits, fresh(ids).logits)


def test_a_reader_for_another_language_model_does_not_fit(runs, place, tmp_path):
    save_tiny("llama", tmp_path / "other", seed=3)
    model = PretrainedShape(encoder=ENCODER, chunks=2, reader=SOFT, decoder=BaseConfig(name=str(tmp_path / "other")))
    config = TrainConfig(data=place / "data", model=model, objective="blank", start=runs / "soft", steps=2, **QUICK)
    with pytest.raises(UsageError, match="made for another language model"):
        train(config, tmp_path / "run")
