"""What a vector adds to what a language model would guess: nothing twice, nothing of nothing, no token from itself."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.loading import build_model, save_model
from memlm.measure.config import DECODERS, MeasureConfig, ProbeConfig
from memlm.measure.prior import PriorProbe, _read
from memlm.measure.probe import lesson
from memlm.measure.run import measure
from memlm.measure.scores import score_chunks
from memlm.measure.trained_probe import fit_trained
from memlm.models.shapes import AutoencoderShape, CausalShape
from memlm.nn.config import StackConfig
from memlm.train.config import TrainConfig
from memlm.train.loop import train

V, T, CPU = 16, 4, torch.device("cpu")
STACK = StackConfig(kind="transformer", width=32, layers=1, heads=2)
POINTWISE = StackConfig(kind="pointwise", width=24, layers=1)
SLOTS = AutoencoderShape(
    chunk_tokens=T, memory_dim=64, encoder=replace(POINTWISE, layers=0), decoder=POINTWISE, readout="slots"
)
SHAPE = CausalShape(chunk_tokens=T, stack=STACK)
BRIEF = MeasureConfig(chunks=200, probe=ProbeConfig(families=("linear+slots",), train_chunks=(500,), seeds=2, steps=80))


def text(count: int, seed: int) -> np.ndarray:
    """Chunks of two tokens, each said twice."""
    return np.random.default_rng(seed).integers(2, V, (count, 2)).repeat(2, 1)


def telling(tokens_NT: np.ndarray) -> np.ndarray:
    """Vectors that hold their chunk."""
    return np.eye(V, dtype=np.float32)[tokens_NT].reshape(len(tokens_NT), -1)


def silent(tokens_NT: np.ndarray) -> np.ndarray:
    """Vectors that hold nothing."""
    return np.random.default_rng(len(tokens_NT)).normal(size=(len(tokens_NT), 64)).astype(np.float32)


@pytest.fixture(scope="module")
def prior():
    return build_model(SHAPE, V, 0).eval().requires_grad_(False)


def fitted(prior, floor, vectors):
    """A probe, and the bits of a chunk that it needs after the tokens before."""
    tokens_NT, held_NT = text(3000, 0), text(400, 1)
    one, config = lesson(tokens_NT, np.arange(3000) // 10, V, 0), ProbeConfig(steps=300, batch=64)
    learnt_NX, held_NX = (_read(vectors and vectors(of), of) for of in (tokens_NT, held_NT))
    make = partial(PriorProbe, prior, floor)
    probe = fit_trained(learnt_NX, one, CPU, DECODERS["slots"], config, "it", make)
    return probe, score_chunks(probe, held_NX, held_NT, CPU).nats_N.mean() / np.log(2)


def test_what_the_text_itself_says_is_not_counted_again(prior):
    (floor, bits), once = fitted(prior, None, None), 2 * np.log2(V - 2)
    assert bits == pytest.approx(once, rel=0.05)  # what is said again is told by what was said
    assert bits - fitted(prior, floor, telling)[1] == pytest.approx(once, rel=0.05)
    assert bits - fitted(prior, floor, silent)[1] == pytest.approx(0, abs=0.05)


def test_no_token_is_told_from_itself_or_a_later_one(prior):
    ids_NT = text(8, 2)
    probe = PriorProbe(prior, None, DECODERS["slots"], _read(silent(ids_NT), ids_NT), torch.zeros(T, V))
    torch.nn.init.normal_(probe.head.weight)
    other_NT = ids_NT.copy()
    other_NT[:, 2:] = (other_NT[:, 2:] + 3) % V
    logits_NTV, changed_NTV = (probe(torch.from_numpy(_read(silent(ids_NT), of))) for of in (ids_NT, other_NT))
    torch.testing.assert_close(logits_NTV[:, :3], changed_NTV[:, :3])
    assert not torch.allclose(logits_NTV[:, 3], changed_NTV[:, 3])
    assert not [name for name, _ in probe.named_parameters() if "prior" in name]


def test_all_encoders_are_measured_beside_a_prior(data, tmp_path):
    quick = {"data": data, "steps": 150, "batch": 64, "optim": DECODERS["slots"].optim, "device": "cpu"}
    train(TrainConfig(model=SLOTS, **quick), tmp_path / "slots")
    train(TrainConfig(model=SHAPE, objective="causal", **quick), tmp_path / "causal")
    runs = [str(tmp_path / name) for name in ("slots", "causal")]
    report = measure(runs, data, tmp_path / "out", BRIEF, prior=runs[1])
    rows = {(row["model"], row["training"]): row for row in report["given"]}
    assert list(rows) == [
        ("no memory", "none"),
        ("slots", "autoencoder"),
        ("slots", "shuffled"),
        ("slots-untrained", "untrained"),
        ("causal", "causal"),
        ("causal", "shuffled"),
        ("transformer-untrained", "untrained"),
    ]
    told = {who: row["usable_bits_per_embedding"] for who, row in rows.items()}
    marginal = next(row for row in report["results"] if row["decoder"] == "own")["usable_bits_per_embedding"]
    assert told["no memory", "none"] == 0
    assert told["causal", "causal"] < told["slots", "autoencoder"] < marginal
    assert told["slots", "shuffled"] < 0
    assert "given the text before by" in str(report)
    low, high = rows["slots", "autoencoder"]["usable_bits_per_embedding_ci"]
    assert low < told["slots", "autoencoder"] < high
    for name in ("prior", "prior_cross_entropy", "protocol", "part", "commit", "probe_seeds"):
        assert all(row[name] is not None for row in rows.values()), name
    assert measure(runs, data, tmp_path / "out", BRIEF, prior=runs[1])["given"] == report["given"]
    with pytest.raises(UsageError, match="holds another measurement"):
        measure(runs, data, tmp_path / "out", BRIEF)
    with pytest.raises(UsageError, match="leave out --prior or --no-retention"):
        measure(runs, data, None, replace(BRIEF, retention=False), prior=runs[1])
    with pytest.raises(UsageError, match="is of the kind autoencoder: a prior is a causal run"):
        measure(runs, data, None, BRIEF, prior=runs[0])


def test_a_prior_that_does_not_fit_is_refused(data, tmp_path):
    for name, shape, vocab_size in (("short", SHAPE, 300), ("other", replace(SHAPE, chunk_tokens=8), 400)):
        save_model(build_model(shape, vocab_size, 0), Corpus.open(data).tokenizer, tmp_path / name)
    save_model(build_model(replace(SLOTS, chunk_tokens=8), 300, 0), Corpus.open(data).tokenizer, tmp_path / "slots")
    with pytest.raises(UsageError, match="reads 5 tokens and chunks have 8"):
        measure([str(tmp_path / "slots")], data, None, BRIEF, prior=tmp_path / "short")
    with pytest.raises(UsageError, match="knows 400 tokens, the data has 300"):
        measure([str(tmp_path / "slots")], data, None, BRIEF, prior=tmp_path / "other")
