"""Two processes train what one trains: DDP and FSDP2; what they agree on; what becomes of one when the other ends."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from banks import autoencoder, memory_model
from safetensors.torch import load_file
from texts import write_documents
from tiny_models import save_tiny
from torch.testing import assert_close
from two_processes import codes, command, cut, jobs, start

from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError
from memlm.files import write_json
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import AutoencoderShape, CausalShape, MemoryShape, RecurrentShape
from memlm.nn.config import StackConfig
from memlm.pretrained.shapes import SoftAutoencoderShape, SoftTokens
from memlm.readers.config import PointerReader, VectorReader
from memlm.records import to_dict
from memlm.train.checkpoint import list_checkpoints
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.loop import train
from memlm.train.parallel import refuse_single_numbers
from memlm.train.tracking import read_metrics

POINTWISE = StackConfig(kind="pointwise", width=16, layers=1)
TRANSFORMER = StackConfig(kind="transformer", width=16, layers=2, heads=2)
ENCODER = EncoderShape(chunk_tokens=8, memory_dim=12, stack=POINTWISE, readout="slots")
SLOTS = AutoencoderShape(
    chunk_tokens=8, memory_dim=12, encoder=POINTWISE, decoder=POINTWISE, readout="slots", bridge="slots-noise"
)
MEMORY = MemoryShape(encoder=ENCODER, decoder=TRANSFORMER, reader=VectorReader(vectors=4))
POINTER = replace(MEMORY, reader=PointerReader(unroll=POINTWISE))
RECURRENT = RecurrentShape(encoder=replace(ENCODER, begins=True, readout="last"), decoder=TRANSFORMER)
FROZEN = {"frozen": ("encoder",), "cache_memories": "on"}
ADAMW = OptimConfig(warmup=2, weight_decay=0.1)
CASES = {
    "noise": {"model": SLOTS, "objective": "autoencode+0.25*noise"},
    "parts": {"model": POINTER, "objective": "causal+0.5*blank/2+0.25*copy/4+recall+autoencode/8"},  # 8 + 4 + 2 + 8 + 1
    "facts": {"model": POINTER, "objective": "facts+quote/8", "context": 6, "accumulate": 2, "optim": OptimConfig()},
    "recurrent": {"model": RECURRENT, "objective": "causal", "optim": ADAMW, "accumulate": 2},
    "read": {"model": MEMORY, "objective": "causal+blank/4", **FROZEN},
    "shares": {"model": MEMORY, "objective": "causal+0.5*blank/2+copy/8", "parallel": "fsdp", "accumulate": 2},
    "shares of causal": {"model": CausalShape(chunk_tokens=8, stack=TRANSFORMER), "objective": "causal"}
    | {"parallel": "fsdp", "optim": ADAMW},
    "words": {"model": POINTER, "objective": "causal+0.4*facts", "context": 6, "optim": OptimConfig()}
    | {"frozen": ("encoder", "reader.text"), "cache_memories": "on"},
    "shares, frozen": {"model": MEMORY, "objective": "causal+0.4*facts", "parallel": "fsdp", **FROZEN},
}


TOKENS = EncoderShape(chunk_tokens=8, memory_dim=24, stack=replace(POINTWISE, width=12, layers=0), readout="slots")


def of_tokens(base: Path) -> dict:
    """An autoencoder of another model's token vectors, which tells the tokens of a whole batch apart."""
    soft = SoftTokens(width=12, hidden=32)
    shape = SoftAutoencoderShape(base=str(base), encoder=TOKENS, decoder=soft, negatives=64)
    return {"model": shape, "objective": "autoencode", "parallel": "fsdp"}


def config_of(data: Path, **changes) -> TrainConfig:
    common = {"steps": 6, "batch": 8, "eval_every": 2, "eval_chunks": 5, "checkpoint_every": 3, "device": "cpu"}
    return TrainConfig(data=data, **common | {"optim": OptimConfig(kind="muon", warmup=2)} | changes)


@pytest.fixture(scope="module")
def place(data, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("processes")
    for side in ("one", "two"):  # of the data as links, so that memories are kept by each side for itself
        (place / side / "data").mkdir(parents=True)
        for file in data.iterdir():
            if file.is_file():
                (place / side / "data" / file.name).symlink_to(file)
    save_tiny("llama", place / "lm")
    source = write_documents(place / "documents", words=1000)
    prepare(Prepare(source=str(source), out=place / "tokens", tokenizer=place / "lm"))
    return place


@pytest.fixture(scope="module")
def ended(place) -> list[int | None]:
    """How two processes ended; all that they do for this file is done here, in one go."""
    data, out = place / "two" / "data", place / "two"
    wanted = [{"config": config_of(data, **case), "out": out / name} for name, case in CASES.items()]
    noise = config_of(data, **CASES["noise"])
    wanted += [
        {"config": config_of(place / "tokens", **of_tokens(place / "lm")), "out": out / "tokens"},
        {"config": config_of(data, **CASES["shares"]), "out": out / "again", "cut": out / "shares"},
        {"config": config_of(data, **CASES["noise"]), "out": out / "noise again", "cut": out / "noise"},
        {"config": replace(noise, batch=7), "out": out / "odd"},
        {"config": noise, "out": out / "noise", "told": out / "there already"},
        {"config": noise, "out": out / "locked", "locked": True},
        {"config": replace(noise, objective="autoencode", data=place / "none"), "out": out / "no data"},
        {"config": replace(noise, steps=60, optim=OptimConfig(lr=1e9, warmup=1, clip=0.0)), "out": out / "wild"},
        {"config": replace(noise, steps=10**6, eval_every=10**6, max_seconds=0.3), "out": out / "late"},
        {"config": replace(noise, steps=10**6), "out": out / "stopped", "stop": True},  # the first one alone
    ]
    told = [{k: to_dict(v) if k == "config" else str(v) for k, v in job.items()} for job in wanted]
    write_json(place / "jobs.json", told)
    return codes(start(jobs, place / "jobs.json", place / "logs"))


def ends_of(place: Path, name: str) -> list[dict]:
    return [json.loads((place / "two" / f"{name}.{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", [*CASES, "tokens"])
def test_two_processes_train_what_one_trains(ended, place, name):
    if name == "tokens":
        config = config_of(place / "tokens", **of_tokens(place / "lm"))
    else:
        config = config_of(place / "one" / "data", **CASES[name])
    train(config, place / "one" / name)
    one, two = (read_metrics(place / side / name / "metrics.jsonl") for side in ("one", "two"))
    assert len(one) == len(two) == 3
    for row, other in zip(one, two, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-5)
        assert other["cross_entropy"] == pytest.approx(row["cross_entropy"], rel=1e-5)
        assert {k: row[k] for k in ("step", "tokens", "chunks")} == {k: other[k] for k in ("step", "tokens", "chunks")}
    assert ends_of(place, name)[0] == ends_of(place, name)[1]


def test_what_is_frozen_is_encoded_by_shares(ended, place):
    """The same numbers to the bit, wherever a process's share of them begins."""
    train(config_of(place / "one" / "data", **CASES["read"]), place / "one" / "read", resume=True)
    one, two = (sorted((place / side / "data" / "memories").iterdir()) for side in ("one", "two"))
    assert [folder.name for folder in one] == [folder.name for folder in two]
    assert (one[0] / "memories.npy").read_bytes() == (two[0] / "memories.npy").read_bytes()


@pytest.mark.parametrize(("name", "again"), [("shares", "again"), ("noise", "noise again")])
def test_what_two_have_saved_two_and_one_go_on_with(ended, place, name, again):
    cut(place / "two" / name, place / f"one of {name}")
    assert len(list_checkpoints(place / f"one of {name}" / "checkpoints")) == 1
    train(config_of(place / "two" / "data", **CASES[name]), place / f"one of {name}", resume=True)
    whole, *rest = (
        load_file(run / "model" / "model.safetensors")
        for run in (place / "two" / name, place / "two" / again, place / f"one of {name}")
    )
    for other in rest:
        for key, tensor in whole.items():
            assert_close(other[key], tensor, rtol=1e-3, atol=1e-5)


def test_refusals_reach_all_and_are_said_once(ended, place):
    sentences = {
        "there already": ("UsageError", "exists already"),
        "locked": ("UsageError", "is being written by process"),
        "odd": ("UsageError", "a batch of 7 cannot be divided among 2 processes"),
        "no data": ("UsageError", "not a prepared data set"),
        "wild": ("WorkError", "the loss"),
    }
    for name, (kind, words) in sentences.items():
        told = ends_of(place, name)
        assert [one["error"] for one in told] == [kind, kind], name
        assert all(words in one["sentence"] for one in told)
        if name != "odd":  # which each sees before they meet
            assert sorted(one["told"] for one in told) == [False, True], name


def test_time_ends_both_at_one_step(ended, place):
    first, second = ends_of(place, "late")
    assert first == second
    assert 0 < first["step"] < 10**6


def test_stopping_one_stops_both(ended, place):
    assert [one["error"] for one in ends_of(place, "stopped")] == ["KeyboardInterrupt"] * 2
    assert ended == [0, 0]


def test_a_killed_process_ends_the_other_with_a_sentence(data, tmp_path):
    config = config_of(data, **CASES["noise"])
    write_json(tmp_path / "config.json", to_dict(replace(config, steps=10**6, eval_every=10, checkpoint_every=10**6)))
    call = ["train", "--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "run")]
    processes = start(command, call, tmp_path / "logs")
    while not (tmp_path / "run" / "metrics.jsonl").exists() or not read_metrics(tmp_path / "run" / "metrics.jsonl"):
        assert all(process.is_alive() for process in processes), (tmp_path / "logs" / "0").read_text()
        time.sleep(0.1)
    processes[1].kill()
    killed = time.monotonic()
    assert codes(processes, 40) == [1, -signal.SIGKILL]
    assert time.monotonic() - killed < 30
    said = (tmp_path / "logs" / "0").read_text()
    assert "of this run has ended without a word" in said
    assert "Traceback" not in said


def test_what_is_not_supported_is_refused_when_the_run_begins(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UsageError, match="asks for DeepSpeed"):
        train(config_of(data, **CASES["noise"]), tmp_path / "run")


def test_a_model_that_fsdp_cannot_divide_is_refused():
    with pytest.raises(UsageError, match=r"cannot divide reader\..*scale.*: train it with --parallel ddp"):
        refuse_single_numbers(memory_model(autoencoder(), "pointer"))
    refuse_single_numbers(memory_model(autoencoder(), "vector"))
