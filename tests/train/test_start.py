"""What a run begins with, and what stays as it was to the bit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.loading import build_model, load_model, save_model
from memlm.models.shapes import AutoencoderShape, CausalShape, FullContextShape, MemoryShape
from memlm.nn.config import StackConfig
from memlm.readers.config import NoReader, PointerReader, VectorReader
from memlm.train.checkpoint import list_checkpoints
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.loop import train
from memlm.train.start import freeze, start_from

POINTWISE = StackConfig(kind="pointwise", width=16, layers=1)
TRANSFORMER = StackConfig(kind="transformer", width=16, layers=1, heads=2)
AUTOENCODER = AutoencoderShape(
    chunk_tokens=4,
    memory_dim=12,
    encoder=replace(POINTWISE, layers=0),
    decoder=POINTWISE,
    readout="slots",
    bridge="slots",
)
COPIES = PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=4)
MEMORY = MemoryShape(chunks=4, encoder=AUTOENCODER.encoder_shape, reader=COPIES, decoder=TRANSFORMER)
VECTOR = replace(MEMORY, reader=VectorReader())
CAUSAL = CausalShape(chunk_tokens=4, stack=TRANSFORMER)


@pytest.fixture(scope="module")
def corpus(data) -> Corpus:
    return Corpus.open(data)


def save(shape, corpus: Corpus, path: Path, seed: int = 1) -> Path:
    save_model(build_model(shape, corpus.vocab_size, seed), corpus.tokenizer, path)
    return path


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# What is started, what it is started from, and the parts of both that shall be equal ("" is all of it).
TAKEN = [
    (MEMORY, MEMORY, [("", "")]),
    (AUTOENCODER, AUTOENCODER, [("", "")]),
    (replace(MEMORY, chunks=7), MEMORY, [("", "")]),
    (MEMORY, AUTOENCODER, [("encoder", "encoder"), ("reader.text", "decoder")]),
    (
        replace(MEMORY, reader=replace(COPIES, unroll=replace(POINTWISE, layers=2))),
        AUTOENCODER,
        [("encoder", "encoder")],
    ),
    (replace(MEMORY, reader=replace(COPIES, bridge="unroll")), AUTOENCODER, [("encoder", "encoder")]),
    (VECTOR, AUTOENCODER, [("encoder", "encoder")]),
    (VECTOR, MEMORY, [("encoder", "encoder")]),
    (replace(MEMORY, decoder=replace(TRANSFORMER, heads=4)), MEMORY, [("encoder", "encoder"), ("reader.text",) * 2]),
    (replace(VECTOR, encoder=CAUSAL.encoder_shape), CAUSAL, [("encoder", "encoder")]),
]


@pytest.mark.parametrize(("shape", "source", "parts"), TAKEN)
def test_what_fits_is_taken_and_nothing_else(shape, source, parts, corpus, tmp_path):
    theirs = load_model(save(source, corpus, tmp_path / "source"))
    model, fresh = (build_model(shape, corpus.vocab_size, 0) for _ in range(2))
    assert start_from(model, tmp_path / "source", corpus.tokenizer) == theirs.fingerprint()
    taken = tuple(mine for mine, _ in parts)
    for mine, other in parts:
        assert same(model.get_submodule(mine), theirs.get_submodule(other))
    for name, p in model.named_parameters():
        if not name.startswith(taken):
            assert torch.equal(p, fresh.get_parameter(name)), name


def test_the_decoder_s_matrices_are_shrunk_and_perturbed_by_the_share_that_is_asked(corpus, tmp_path):
    theirs = load_model(save(MEMORY, corpus, tmp_path / "source"))
    model, fresh = (build_model(MEMORY, corpus.vocab_size, 0) for _ in range(2))
    start_from(model, tmp_path / "source", corpus.tokenizer, shrink_perturb=0.75)
    for name, p in model.named_parameters():
        share = 0.75 if name.startswith("decoder.blocks.") and p.ndim > 1 else 0
        torch.testing.assert_close(p, share * fresh.get_parameter(name) + (1 - share) * theirs.get_parameter(name))


def test_a_model_without_a_decoder_of_blocks_has_nothing_to_perturb(corpus, tmp_path):
    save(AUTOENCODER, corpus, tmp_path / "source")
    with pytest.raises(UsageError, match="leave shrink_perturb out"):
        start_from(
            build_model(AUTOENCODER, corpus.vocab_size, 0), tmp_path / "source", corpus.tokenizer, shrink_perturb=0.5
        )


WRONG = [
    (MEMORY, replace(AUTOENCODER, memory_dim=8), "nothing of .* fits: in its encoder memory_dim is 8, not 12"),
    (MEMORY, replace(AUTOENCODER, encoder=POINTWISE), r"encoder stack\.layers is 1, not 0"),
    (MEMORY, replace(MEMORY, reader=NoReader()), "it has no encoder"),
    (FullContextShape(chunk_tokens=4, decoder=TRANSFORMER), AUTOENCODER, "the new model has no encoder"),
]


@pytest.mark.parametrize(("shape", "source", "sentence"), WRONG)
def test_where_nothing_fits_it_is_said_what_differs(shape, source, sentence, corpus, tmp_path):
    save(source, corpus, tmp_path / "source")
    with pytest.raises(UsageError, match=sentence):
        start_from(build_model(shape, corpus.vocab_size, 0), tmp_path / "source", corpus.tokenizer)


def test_tokens_with_other_meanings_are_refused(corpus, tmp_path):
    from tokenizers import Tokenizer

    foreign = build_model(AUTOENCODER, 77, 0)
    save_model(foreign, corpus.tokenizer, tmp_path / "foreign")
    with pytest.raises(UsageError, match="knows 77 tokens and the data has"):
        start_from(build_model(MEMORY, corpus.vocab_size, 0), tmp_path / "foreign", corpus.tokenizer)
    swapped = json.loads(corpus.tokenizer.to_str())
    vocab = swapped["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    model = build_model(AUTOENCODER, corpus.vocab_size, 0)
    save_model(model, Tokenizer.from_str(json.dumps(swapped)), tmp_path / "swapped")
    with pytest.raises(UsageError, match="another tokenizer"):
        start_from(model, tmp_path / "swapped", corpus.tokenizer)


@pytest.fixture
def config(data, corpus, tmp_path) -> TrainConfig:
    save(AUTOENCODER, corpus, tmp_path / "autoencoder")
    return TrainConfig(
        data=data,
        model=MEMORY,
        objective="causal+0.5*blank",
        start=Path("autoencoder"),  # the run beside
        frozen=("encoder", "reader.text"),
        steps=6,
        batch=4,
        eval_every=6,
        eval_chunks=4,
        checkpoint_every=3,
        optim=OptimConfig(kind="muon", warmup=6),  # a finder that has learnt nothing is beyond guessing at first
        device="cpu",
    )


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_what_is_frozen_stays_and_all_else_learns(config, corpus, tmp_path, kind):
    train(replace(config, optim=replace(config.optim, kind=kind)), tmp_path / "run")
    start, model = load_model(tmp_path / "autoencoder"), load_model(tmp_path / "run")
    fresh = build_model(MEMORY, corpus.vocab_size, config.seed)
    assert same(model.encoder, start.encoder)
    assert same(model.get_submodule("reader.text"), start.get_submodule("decoder"))
    for name, p in model.named_parameters():
        if not name.startswith(config.frozen):
            assert not torch.equal(p, fresh.get_parameter(name)), name
    moments = load_file(list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "optimizer.safetensors")
    learnt = sum(not name.startswith(config.frozen) for name, _ in model.named_parameters())
    assert len({name.rsplit(".", 1)[0] for name in moments if name != "rng"}) == learnt
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["start"] == start.fingerprint()


def test_fresh_word_embeddings_learn_though_the_encoder_is_frozen(config, corpus, tmp_path):
    config = replace(config, model=VECTOR, frozen=("encoder",), fresh_embedding=True)
    train(config, tmp_path / "run")
    start, model = load_model(tmp_path / "autoencoder"), load_model(tmp_path / "run")
    fresh = build_model(VECTOR, corpus.vocab_size, config.seed)
    for name, p in model.encoder.named_parameters():
        assert torch.equal(p, start.encoder.get_parameter(name)) == (name != "embed.weight")
    moved = (model.encoder.embed.weight - fresh.encoder.embed.weight).norm()
    assert 0 < moved < (model.encoder.embed.weight - start.encoder.embed.weight).norm()  # it began at the fresh ones


def test_a_frozen_encoder_runs_without_a_graph(corpus):
    model = build_model(MEMORY, corpus.vocab_size, 0)
    ids = torch.randint(2, 50, (2, 16))
    assert model(ids).memories.requires_grad
    freeze(model, ("encoder",), fresh_embedding=False)
    assert not model(ids).memories.requires_grad
    assert model(ids, labels=ids).loss.requires_grad


@pytest.mark.parametrize("alone", ["head.weight", "reader.gate.weight"])  # AdamW's and Muon's
def test_one_matrix_alone_can_be_trained(config, corpus, tmp_path, alone):
    names = tuple(name for name, _ in build_model(MEMORY, corpus.vocab_size, 0).named_parameters())
    assert alone in names
    train(replace(config, frozen=tuple(name for name in names if name != alone)), tmp_path / "run")
    start, model = build_model(MEMORY, corpus.vocab_size, config.seed), load_model(tmp_path / "run")
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, start.get_parameter(n))}
    assert {name for name in moved if not name.startswith(("encoder", "reader.text"))} == {alone}


def test_a_resumed_run_does_not_need_what_it_started_from(config, tmp_path):
    train(config, tmp_path / "whole")
    train(config, tmp_path / "cut")
    shutil.rmtree(list_checkpoints(tmp_path / "cut" / "checkpoints")[-1])
    (tmp_path / "cut" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "autoencoder")
    train(config, tmp_path / "cut", resume=True)
    assert same(load_model(tmp_path / "whole"), load_model(tmp_path / "cut"))
    one, two = (json.loads((tmp_path / run / "environment.json").read_text())["start"] for run in ("whole", "cut"))
    assert one == two


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"frozen": ("encoder", "reeder")}, "no part 'reeder' to freeze; its parts are .*reader"),
        ({"frozen": ("enc",)}, "no part 'enc'"),
        ({"frozen": ("encoder", "reader", "embed", "start", "place", "decoder", "head")}, "nothing is left to train"),
        ({"start": Path("nowhere")}, "nowhere is not there"),
        (
            {"start": None, "frozen": (), "fresh_embedding": True, "model": replace(MEMORY, reader=NoReader())},
            "no word emb",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence_and_leaves_nothing(config, tmp_path, change, sentence):
    with pytest.raises(UsageError, match=sentence):
        train(replace(config, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_embedding_cannot_be_frozen_and_fresh():
    with pytest.raises(UsageError, match=r"encoder\.embed cannot be frozen"):
        TrainConfig(frozen=("encoder.embed",), fresh_embedding=True)
