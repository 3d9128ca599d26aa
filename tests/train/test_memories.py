"""Memories of a frozen encoder, read from disk: the same training as with the encoder in the loop."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from memlm.data.corpus import Corpus
from memlm.errors import UsageError, WorkError
from memlm.loading import build_model, load_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.memory_model import MemoryModel
from memlm.models.shapes import AutoencoderShape, MemoryShape, RecurrentShape
from memlm.nn.config import StackConfig
from memlm.objectives.recall import Recall
from memlm.objectives.registry import build_objective
from memlm.readers.config import NoReader, PointerReader
from memlm.train.checkpoint import list_checkpoints
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.loop import train
from memlm.train.memories import StreamMemories, keep_memories
from memlm.train.tracking import read_metrics

T = 4
TRANSFORMER = StackConfig(kind="transformer", width=16, layers=1, heads=2)
MEMORY = MemoryShape(
    chunks=4,
    encoder=EncoderShape(chunk_tokens=T, memory_dim=12, stack=StackConfig(kind="mixer", width=12, layers=1)),
    decoder=TRANSFORMER,
)


@pytest.fixture
def config(data, tmp_path) -> TrainConfig:
    own = tmp_path / "data"  # a folder of links, so that what is kept beside the data is this test's alone
    own.mkdir()
    for file in data.iterdir():
        if file.is_file():
            (own / file.name).symlink_to(file)
    return TrainConfig(
        data=own,
        model=MEMORY,
        objective="causal+0.5*blank",
        frozen=("encoder",),
        steps=8,
        batch=4,
        eval_every=4,
        eval_chunks=4,
        checkpoint_every=4,
        optim=OptimConfig(kind="muon", warmup=2),
        device="cpu",
    )


def entries(config: TrainConfig) -> list[Path]:
    return sorted((config.data / "memories").glob("*")) if (config.data / "memories").exists() else []


@pytest.fixture
def no_encoding(monkeypatch):
    """Training must not form memories of its chunks; evaluating may."""
    real = MemoryModel.encode_chunks

    def encode_chunks(model, ids_BCT):
        assert not model.training, "chunks were encoded"
        return real(model, ids_BCT)

    return lambda: monkeypatch.setattr(MemoryModel, "encode_chunks", encode_chunks)


@pytest.mark.parametrize("objective", ["causal", "copy", "blank", "causal+0.5*blank", "causal+0.5*copy+blank"])
def test_reading_memories_is_training_with_the_frozen_encoder(config, tmp_path, no_encoding, objective):
    config = replace(config, objective=objective, accumulate=2)
    train(replace(config, cache_memories="off"), tmp_path / "formed")
    assert not entries(config)
    no_encoding()
    train(replace(config, cache_memories="on"), tmp_path / "read")
    assert len(entries(config)) == 1
    rows = [read_metrics(tmp_path / run / "metrics.jsonl") for run in ("formed", "read")]
    for formed, read in zip(*rows, strict=True):
        assert read["loss"] == pytest.approx(formed["loss"], rel=1e-5)
        assert read["cross_entropy"] == pytest.approx(formed["cross_entropy"], rel=1e-4)
    formed, read = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("formed", "read"))
    for name in formed:
        torch.testing.assert_close(read[name], formed[name], rtol=1e-3, atol=1e-4)


POINTER = MemoryShape(
    chunks=4,
    encoder=replace(MEMORY.encoder, chunk_tokens=8),
    reader=PointerReader(unroll=StackConfig(kind="pointwise", width=6, layers=1), window=1),
    decoder=TRANSFORMER,
)


@pytest.mark.parametrize("objective", ["causal", "causal+0.4*facts+0.1*quote/2"])
def test_reading_words_is_training_with_the_frozen_autoencoder(config, tmp_path, no_encoding, objective):
    """Chunks that are made up are encoded as they come; all others are two bytes a token on disk."""
    config = replace(config, model=POINTER, objective=objective, context=4, frozen=("encoder", "reader.text"))
    config = replace(config, optim=replace(config.optim, warmup=10))
    train(replace(config, cache_memories="off"), tmp_path / "formed")
    no_encoding()
    train(replace(config, cache_memories="on"), tmp_path / "read")
    [entry] = entries(config)
    words_NT = np.load(entry / "memories.npy")
    assert words_NT.dtype == np.uint16
    assert words_NT.shape == (len(Corpus.open(config.data).train) // 8, 8)
    formed, read = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("formed", "read"))
    for name in formed:
        torch.testing.assert_close(read[name], formed[name], rtol=1e-3, atol=1e-4)


def test_every_memory_read_is_what_the_encoder_gives(config):
    """Windows anywhere in the stream, all objectives with sources: what is read equals what would be formed."""
    corpus = Corpus.open(config.data)
    model = build_model(MEMORY, corpus.vocab_size, 0).eval()
    count = len(corpus.train) // T
    chunks_NT = corpus.train.tokens[: count * T].reshape(count, T)
    origin, cpu = {"for": "test"}, torch.device("cpu")
    memory_NM = keep_memories(model.encoder, chunks_NT, 12, config.data / "memories", origin, cpu, "it", batch=37)
    for name in ("causal", "copy", "blank", "causal+0.5*blank"):
        objective = build_objective(name, corpus.vocab_size)
        window = objective.window(MEMORY.window_tokens)
        starts_B = np.array([0, T, (count - window // T) * T])
        batch = objective(torch.from_numpy(corpus.train.tokens[starts_B[:, None] + np.arange(window)].astype(int)), T)
        with torch.no_grad():
            read = StreamMemories(memory_NM, model.encode, T, window // T).of(starts_B, batch)
            formed = model(batch.input_ids).memories
        torch.testing.assert_close(read, formed, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_reads_on_and_runs_share_what_is_kept(config, tmp_path, monkeypatch):
    config = replace(config, cache_memories="on")
    train(config, tmp_path / "whole")
    train(config, tmp_path / "cut")
    newest = list_checkpoints(tmp_path / "cut" / "checkpoints")[-1]
    (newest / "state.json").unlink()
    (tmp_path / "cut" / "summary.json").unlink()
    monkeypatch.setattr("memlm.train.memories.atomic_folder", None)  # would fail if anything were computed again
    train(config, tmp_path / "cut", resume=True)
    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    train(replace(config, objective="copy", steps=1), tmp_path / "other")


def test_auto_reads_where_more_would_be_encoded_than_there_is(config, tmp_path):
    train(replace(config, steps=1), tmp_path / "short")
    assert not entries(config)
    chunks = len(Corpus.open(config.data).train) // T
    batch = chunks // 6 + 1  # six chunks a window: three of the text, three of the blank copy
    train(replace(config, steps=1, batch=batch), tmp_path / "long")
    assert len(entries(config)) == 1
    assert load_model(tmp_path / "long")


CANNOT = {
    "trained": ({"frozen": ()}, "the encoder is trained"),
    "partly trained": ({"fresh_embedding": True}, "the encoder is trained"),
    "unknown": ({"objective": "causal+recall"}, "makes up chunks"),
    "no memories": ({"model": replace(MEMORY, reader=NoReader()), "frozen": ()}, "does not read memories"),
    "carried": (
        {"model": RecurrentShape(encoder=replace(MEMORY.encoder, begins=True), decoder=TRANSFORMER), "frozen": ()},
        "does not read memories of single chunks",
    ),
    "autoencoder": (
        {"model": AutoencoderShape(chunk_tokens=T), "objective": "autoencode"},
        "does not read memories",
    ),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_read_is_encoded_or_refused_with_a_reason(config, tmp_path, name, monkeypatch):
    change, sentence = CANNOT[name]
    if name == "unknown":  # an objective that does not tell where its chunks come from
        told = Recall.make
        monkeypatch.setattr(Recall, "make", lambda *given: replace(told(*given), sources=None))
    with pytest.raises(UsageError, match=f"cannot be read from disk, since .*{sentence}"):
        train(replace(config, **change, cache_memories="on"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(replace(config, **change, steps=1), tmp_path / "run")
    assert not entries(config)


def test_damaged_memories_are_refused(config, tmp_path):
    config = replace(config, cache_memories="on", steps=1)
    train(config, tmp_path / "run")
    file = entries(config)[0] / "memories.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UsageError, match=r"memories in .* are damaged: remove that folder"):
        train(config, tmp_path / "again")
    file.unlink()
    with pytest.raises(UsageError, match="damaged"):
        train(config, tmp_path / "again")
    entries(config)[0].joinpath("meta.json").unlink()  # as if it had never been finished: made anew
    train(config, tmp_path / "again")


def test_a_full_disk_is_a_sentence_and_leaves_nothing(config, tmp_path, monkeypatch):
    config = replace(config, cache_memories="on")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("memlm.memory.encoder.ChunkEncoder.forward", full)
        with pytest.raises(WorkError, match=r"disk is full .*try again, or train with --cache-memories off\."):
            train(config, tmp_path / "run")
    assert not entries(config)
    with monkeypatch.context() as patch:
        patch.setattr("memlm.train.memories.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
        with pytest.raises(WorkError, match=r"memories need .* MB .* or train with --cache-memories off\."):
            train(config, tmp_path / "run")
    assert not (config.data / "memories").exists() or not list((config.data / "memories").iterdir())
    assert not (tmp_path / "run").exists()
