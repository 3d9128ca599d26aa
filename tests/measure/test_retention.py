"""The whole measurement on a small corpus: an encoder that keeps everything, one that keeps nothing, the controls."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.loading import build_model, save_model
from memlm.measure import retention
from memlm.measure.config import DECODERS, MeasureConfig, ProbeConfig
from memlm.measure.embeddings import embed
from memlm.measure.encoders import open_encoder
from memlm.measure.run import measure
from memlm.measure.table import curves_table, retention_table
from memlm.models.shapes import AutoencoderShape, CausalShape, MemoryShape
from memlm.nn.config import StackConfig
from memlm.protocol import PROTOCOL
from memlm.train.config import TrainConfig
from memlm.train.loop import train

T, CPU = 4, torch.device("cpu")
POINTWISE = StackConfig(kind="pointwise", width=24, layers=1)
SLOTS = AutoencoderShape(
    chunk_tokens=T,
    memory_dim=64,
    encoder=replace(POINTWISE, layers=0),
    decoder=POINTWISE,
    readout="slots",
    bridge="slots",
)
QUICK = MeasureConfig(
    chunks=200,
    probe=ProbeConfig(families=("linear", "linear+slots"), train_chunks=(250, 1000), seeds=2, steps=80, batch=64),
)
BRIEF = replace(QUICK, probe=ProbeConfig(families=("linear",), train_chunks=(100,), seeds=1))
FIGURES = (
    "cross_entropy",
    "entropy_ratio",
    "token_accuracy",
    "exact_match",
    "first_error",
    "bits_per_byte",
    "usable_bits_per_token",
    "usable_bits_per_embedding",
    "usable_bits_per_dimension",
)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A trained slots autoencoder."""
    out = tmp_path_factory.mktemp("runs") / "slots"
    train(TrainConfig(data=data, model=SLOTS, steps=200, batch=64, optim=DECODERS["slots"].optim, device="cpu"), out)
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("measured") / "out"


@pytest.fixture(scope="module")
def report(run, data, out):
    return measure([str(run)], data, out, QUICK)


def row(report, training, decoder="fresh"):
    (found,) = [r for r in report["results"] if (r["training"], r["decoder"]) == (training, decoder)]
    return found


def test_every_row_carries_its_figures_intervals_and_origin(report):
    kinds = {(r["training"], r["decoder"]) for r in report["results"]}
    assert kinds == {
        ("none", "fresh"),
        ("autoencoder", "own"),
        ("shuffled", "own"),
        ("random-tokens", "own"),
        ("autoencoder", "fresh"),
        ("shuffled", "fresh"),
        ("random-tokens", "fresh"),
        ("untrained", "fresh"),
    }
    for r in report["results"]:
        for name in FIGURES:
            low, high = r[f"{name}_ci"]
            assert low <= r[name] <= high
        assert {"model", "encoder", "chunk_tokens", "chunk_chars", "memory_dim", "seed", "data", "commit"} <= r.keys()
        assert len(r["accuracy_by_position"]) == T


def test_a_trained_memory_holds_the_text_and_controls_do_not(report):
    assert row(report, "autoencoder", "own")["token_accuracy"] > 0.95
    assert row(report, "autoencoder")["token_accuracy"] > 0.9
    assert row(report, "none")["usable_bits_per_token"] == 0
    assert row(report, "none")["token_accuracy"] < 0.3
    assert row(report, "shuffled", "own")["usable_bits_per_token"] < 0
    assert row(report, "autoencoder")["usable_bits_per_token"] > 2


def test_recalled_passages_are_kept(report):
    samples = {(s["training"], s["decoder"]) for s in report["samples"]}
    assert ("autoencoder", "own") in samples
    assert ("none", "fresh") in samples
    for sample in report["samples"]:
        for passage in sample["passages"]:
            assert len(passage["original"]) == len(passage["recalled"]) == len(passage["right"]) == T


def test_asked_twice_is_done_once(report, run, data, out, monkeypatch):
    monkeypatch.setattr("memlm.measure.run.Measurement", None)  # would fail if anything were measured again
    assert measure([str(run)], data, out, QUICK) == report
    with pytest.raises(UsageError, match="another measurement"):
        measure([str(run)], data, out, replace(QUICK, seed=1))


def test_a_frozen_encoder_runs_once(run, data, tmp_path, monkeypatch):
    encoder, corpus = open_encoder(str(run), CPU), Corpus.open(data)
    tokens = corpus.chunks("test", T, limit=50).tokens
    first = np.array(embed(encoder, tokens, tmp_path))
    torch.testing.assert_close(torch.from_numpy(first), encoder.model.encode(torch.from_numpy(tokens)))
    monkeypatch.setattr(type(encoder.model.encoder), "forward", None)
    np.testing.assert_array_equal(embed(encoder, tokens, tmp_path), first)
    with pytest.raises(TypeError):  # other tokens are not found in the cache
        embed(encoder, tokens[::-1], tmp_path)
    twin = encoder.twin(0)
    with pytest.raises(TypeError):  # nor another encoder's memories
        embed(twin, tokens, tmp_path)


def test_models_that_share_an_encoder_share_its_probe(run, data, tmp_path, monkeypatch):
    source, corpus = open_encoder(str(run), CPU).model, Corpus.open(data)
    shape = MemoryShape(chunks=2, encoder=source.config.read_shape().encoder_shape)
    model = build_model(shape, corpus.vocab_size, 0)
    model.encoder.load_state_dict(source.encoder.state_dict())
    save_model(model, corpus.tokenizer, tmp_path / "sharing")
    trained = []
    fit = retention.fit_families
    monkeypatch.setattr(retention, "fit_families", lambda *args: trained.append(args[4]) or fit(*args))
    quick = replace(BRIEF, controls=False, access=False)
    rows = measure([str(run), str(tmp_path / "sharing")], data, tmp_path / "out", quick)["results"]
    assert trained == [run.name]
    fresh = {row["model"]: row["cross_entropy"] for row in rows if row["decoder"] == "fresh"}
    assert fresh[run.name] == fresh["sharing"]


def test_a_causal_model_is_measured_too(data, tmp_path):
    shape = CausalShape(chunk_tokens=T, stack=StackConfig(kind="mixer", width=16, layers=1))
    corpus = Corpus.open(data)
    save_model(build_model(shape, corpus.vocab_size, 0), corpus.tokenizer, tmp_path / "causal")
    quick = BRIEF
    report = measure([str(tmp_path / "causal")], data, tmp_path / "out", quick)
    assert {(r["training"], r["decoder"]) for r in report["results"]} >= {("causal", "fresh"), ("untrained", "fresh")}
    assert ("causal", "own") not in {(r["training"], r["decoder"]) for r in report["results"]}


def test_what_does_not_fit_is_refused_with_a_sentence(run, data, tmp_path):
    corpus = Corpus.open(data)
    foreign = build_model(SLOTS, 77, 0)
    save_model(foreign, corpus.tokenizer, tmp_path / "foreign")
    quick = replace(BRIEF, controls=False)
    with pytest.raises(UsageError, match="77 tokens"):
        measure([str(tmp_path / "foreign")], data, tmp_path / "out2", quick)
    with pytest.raises(UsageError, match="two of the models"):
        measure([str(run), str(run)], data, tmp_path / "twice", MeasureConfig())
    with pytest.raises(UsageError, match="at least one model"):
        measure([], data, tmp_path / "out3", quick)
    with pytest.raises(UsageError, match="not there"):
        measure([str(tmp_path / "absent")], data, tmp_path / "out4", quick)
    assert not any((tmp_path / name / "results.json").exists() for name in ("out2", "out3", "out4"))


def test_models_of_two_chunk_lengths_are_measured_each_at_its_own(run, data, tmp_path):
    corpus = Corpus.open(data)
    longer = build_model(replace(SLOTS, chunk_tokens=8), corpus.vocab_size, 0)
    save_model(longer, corpus.tokenizer, tmp_path / "longer")
    quick = replace(BRIEF, controls=False)
    rows = measure([str(tmp_path / "longer"), str(run)], data, tmp_path / "out", quick)["results"]
    assert [(r["model"], r["decoder"], r["chunk_tokens"]) for r in rows] == [
        ("no memory", "fresh", 4),
        ("slots", "own", 4),
        ("slots", "fresh", 4),
        ("no memory", "fresh", 8),
        ("longer", "own", 8),
        ("longer", "fresh", 8),
    ]


def test_encoders_say_what_they_are(run):
    encoder = open_encoder(str(run), CPU)
    assert (encoder.kind, encoder.training, encoder.memory_dim) == ("slots", "autoencoder", 64)
    assert encoder.twin(0).model.fingerprint() == encoder.twin(0).model.fingerprint()
    assert encoder.twin(0).model.fingerprint() != encoder.model.fingerprint()


def test_curves_and_headlines_tell_families_budgets_and_growth(report):
    curves = [c for c in report["curves"] if c["training"] == "autoencoder"]
    assert [(c["family"], c["train_chunks"], c["probe_seeds"]) for c in curves] == [
        ("linear", 250, 1),
        ("linear+slots", 250, 1),
        ("linear", 1000, 2),
        ("linear+slots", 1000, 2),
    ]
    fresh = row(report, "autoencoder")
    last = {c["family"]: c for c in curves if c["train_chunks"] == 1000}
    assert fresh["family"] == min(last, key=lambda family: last[family]["kept_cross_entropy"])
    assert fresh["usable_bits_per_token"] == last[fresh["family"]]["usable_bits_per_token"]
    assert fresh["families"].keys() == last.keys()
    assert {(c["protocol"], c["part"]) for c in curves} == {(PROTOCOL, "test")}
    before = next(c for c in curves if (c["family"], c["train_chunks"]) == (fresh["family"], 250))
    gain = fresh["usable_bits_per_token"] - before["usable_bits_per_token"]
    assert fresh["last_doubling"] == pytest.approx(gain / 2 / fresh["usable_bits_per_token"])


def test_the_table_says_what_is_still_growing_and_what_was_not_learnt(report):
    fresh = row(report, "autoencoder")
    growing, flat = (str(retention_table([fresh | {"last_doubling": share}])) for share in (0.11, 0.09))
    assert "still growing (+11% by the last doubling)" in growing
    assert "growing" not in flat
    assert "not learnt at this budget" in retention_table([fresh | {"learnt": False}])
    table = curves_table(report["curves"]).splitlines()
    assert [table[0].split()[-4::2], len(table)] == [["250", "1,000"], 2 + len(report["curves"]) // 2]
    last = [row for row in report["curves"] if (row["training"], row["family"]) == ("autoencoder", "linear+slots")]
    assert next(line.split()[-2:] for line in table if " linear+slots " in line) == [
        f"{row['usable_bits_per_token']:.2f}" for row in last
    ]


def test_another_protocol_s_measurement_is_not_handed_out(report, run, data, out):
    kept = (out / "results.json").read_text()
    told = json.loads(kept)
    told["config"]["protocol"] = 1
    (out / "results.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=f"by protocol 1, and this is protocol {PROTOCOL}"):
        measure([str(run)], data, out, QUICK)
    (out / "results.json").write_text(kept)
