"""Attribution: nothing where no memory is read, all of it where a hand-made model copies, each memory exactly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade_models import C, T, carrier, ordinary, recurrent_shape, shape, verbatim
from memory_models import READING, build, ident, ids

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.loading import build_model, save_model
from memlm.measure.attribution import _TOLD, PLACES, TEXTS, auc, measure_attribution, most_important
from memlm.measure.config import AttributionConfig, MeasureConfig
from memlm.measure.occlusion import METRICS, attribute
from memlm.measure.run import measure
from memlm.models.shapes import AutoencoderShape
from memlm.readers.placing import hiding

QUICK = AttributionConfig(texts=30)
CPU = torch.device("cpu")
V = 300


@pytest.fixture(scope="module")
def corpus(data):
    return Corpus.open(data)


def texts(name, rows=6, chunks=C):
    make, needed = TEXTS[name]
    window = torch.randint(2, V, (rows, needed(chunks) * T), generator=torch.Generator().manual_seed(1))
    return make(window, T, V, 0)


def value(found, text, places, figure, metric, against=None):
    wanted = {"text": text, "places": places, "figure": figure, "metric": metric, "against": against}
    (row,) = [r for r in found["results"] if all(r[key] == item for key, item in wanted.items())]
    return row["value"]


# Hiding one memory


@pytest.mark.parametrize("shape_", READING, ids=ident)
@pytest.mark.parametrize("form", ["packed", "folded"])
def test_a_hidden_memory_is_as_if_it_were_not_there(shape_, form):
    """Changing its content changes nothing, and nothing before its chunk's end knows that it is hidden."""
    model, x = build(shape_), ids(2, 4 * shape_.chunk_tokens)
    model.form = form
    other, T_ = x.clone(), shape_.chunk_tokens
    other[:, T_ : 2 * T_] = ids(2, T_, seed=9)
    own, foreign = (model.encode_chunks(z.unflatten(1, (4, T_))[:, :-1]) for z in (x, other))
    before, after = model(x).logits.split([2 * T_, 2 * T_], 1)
    with hiding(model, 1):
        hidden = model(x, own_memories=own).logits
        torch.testing.assert_close(model(x, own_memories=foreign).logits, hidden, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden[:, : 2 * T_], before, rtol=1e-5, atol=1e-5)
    assert (hidden[:, 2 * T_ :] - after).abs().amax(1).min() > 0
    assert torch.equal(model(x).logits[:, 2 * T_ :], after)  # it is back
    with hiding(model, 0):  # of two chunks it is the only one
        short = model(x[:, : 2 * T_]).logits
    torch.testing.assert_close(short, model(x[:, : 2 * T_], read=False).logits, rtol=1e-5, atol=1e-5)


# What is attributed


@pytest.mark.parametrize("name", TEXTS)
def test_what_cannot_see_memories_owes_them_exactly_nothing(name):
    some = texts(name)
    for model in (ordinary(shape("none"), V), verbatim("copies", V)):
        marks = some.marks_BC if not model.reads_earlier else None  # unmarked, it copies nothing
        found = attribute(model, some.ids_BN, marks, CPU)
        for metric in METRICS:
            assert (found.all[metric] == 0).all()
        assert (found.entropy_BN == found.entropy_none_BN).all()
    assert not attribute(ordinary(shape("none"), V), some.ids_BN, some.marks_BC, CPU).each


@pytest.mark.parametrize("make", [lambda v: verbatim("copies", v), carrier])
def test_a_copier_owes_its_copies_to_memory_and_nothing_else(make, corpus):
    model = make(corpus.vocab_size)
    found = measure_attribution(model, corpus, QUICK, "it")
    for metric in METRICS:
        assert value(found, "copy", "plain", "mean", metric) == 0
        assert value(found, "copy", "copied", "auc", metric, "plain") > 0.97
    assert value(found, "plain", "plain", "mean", "l1") == 0
    assert value(found, "copy", "copied", "mean", "l1") == pytest.approx(40, abs=2)
    assert value(found, "noisy copy", "copied", "mean", "loss") > 15
    if make is not carrier:
        # Memory says the copied token at a noisy place too: the prediction moves as far, and away from the truth.
        assert value(found, "noisy copy", "copied", "auc", "l1", "noise") == pytest.approx(0.5, abs=0.05)
        assert value(found, "noisy copy", "copied", "auc", "loss", "noise") > 0.95


def test_the_memory_that_told_a_token_is_named(corpus):
    found = measure_attribution(verbatim("copies", corpus.vocab_size), corpus, QUICK, "it")
    for text in ("copy", "noisy copy"):
        assert value(found, text, "copied", "source", "l1") > 0.95
    (row,) = [r for r in found["results"] if (r["text"], r["figure"], r["metric"]) == ("copy", "source", "l1")]
    assert row["chance"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    (sample,) = [s for s in found["samples"] if s["text"] == "copy"]
    told = np.array(sample["told_by"]).reshape(C, T)
    assert (told[: C // 2] == -1).all()
    assert set(told[2].tolist()) <= {0, -1}
    assert set(told[3].tolist()) <= {1, -1}


def test_a_reader_that_chooses_tells_what_it_opened_and_how_much_is_copied_from_it():
    (shape_,) = [one for one in READING if getattr(one.reader, "kind", "") == "pointer"][:1]
    model, T_ = build(shape_), shape_.chunk_tokens
    with torch.no_grad():
        model.get_submodule("reader.gate").bias[0] = -12.0  # it copies, whatever the model says
    x = ids(3, 4 * T_)
    found = attribute(model, x, None, CPU)
    assert found.opened is not None
    number, share = found.opened
    assert number.shape == share.shape == (3, 4 * T_, number.shape[-1])
    assert (share[:, :T_] == 0).all()  # no memory is seen
    assert share[:, -T_:].sum(-1) == pytest.approx(np.ones((3, T_)), abs=0.01)
    before = np.arange(4 * T_) // T_
    assert (number < before[:, None])[share > 0].all()  # none of its own or of later chunks


@pytest.mark.parametrize("any_shape", [shape(), shape("several"), shape("none"), shape("full"), recurrent_shape()])
def test_the_batch_never_changes_a_result(any_shape, monkeypatch):
    model, some = ordinary(any_shape, V), texts("noisy copy")
    together = attribute(model, some.ids_BN, some.marks_BC, CPU)
    monkeypatch.setattr("memlm.measure.occlusion.LOGITS", 1)
    alone = attribute(model, some.ids_BN, some.marks_BC, CPU)
    assert together.each.keys() == alone.each.keys()
    for metric in METRICS:
        np.testing.assert_allclose(together.all[metric], alone.all[metric], rtol=1e-4, atol=1e-4)
        if together.each:
            assert together.each[metric].shape == (6, C - 1, C * T)
            np.testing.assert_allclose(together.each[metric], alone.each[metric], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(together.entropy_BN, alone.entropy_BN, rtol=1e-4, atol=1e-4)


def test_entropy_and_loss_are_those_of_the_logits():
    model, some = ordinary(shape("several"), V), texts("copy", rows=2)
    found = attribute(model, some.ids_BN, some.marks_BC, CPU)
    out, none = (model(some.ids_BN, marks=some.marks_BC, read=read).logits for read in (True, False))
    predicted = [torch.distributions.Categorical(logits=z) for z in (out, none)]
    np.testing.assert_allclose(found.entropy_BN, predicted[0].entropy().detach(), rtol=1e-4)
    np.testing.assert_allclose(found.entropy_none_BN, predicted[1].entropy().detach(), rtol=1e-4)
    gain = predicted[0].log_prob(some.ids_BN) - predicted[1].log_prob(some.ids_BN)
    np.testing.assert_allclose(found.all["loss"], gain.detach(), rtol=1e-3, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(out, none, dim=-1)
    np.testing.assert_allclose(found.all["cosine"], 1 - cosine.detach(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.all["l1"], (out - none).abs().sum(-1).detach(), rtol=1e-4, atol=1e-4)


# Texts and figures


def test_half_of_a_noisy_copy_is_noise_and_the_rest_is_a_copy():
    some = texts("noisy copy", rows=20)
    half = C // 2 * T
    place_BN, noise = some.place_BN[:, half:], PLACES.index("noise")
    assert ((place_BN == noise).sum(1) == half // 2).all()
    copied = place_BN == PLACES.index("copied")
    assert torch.equal(some.ids_BN[:, half:][copied], some.ids_BN[:, :half][copied])
    assert (some.ids_BN[:, half:] != some.ids_BN[:, :half])[place_BN == noise].float().mean() > 0.9
    assert (some.place_BN[:, :half] == 0).all()
    assert len(torch.unique(place_BN, dim=0)) > 1  # other places in every text


def test_auc_and_the_most_important_memory():
    assert auc(np.array([3, 2]), np.array([1, 0])) == 1
    assert auc(np.array([0, 0]), np.array([0])) == 0.5
    assert auc(np.array([1, 3]), np.array([2])) == 0.5
    each = np.array([[[0.0, 1.0, 0.0], [0.5, 2.0, 0.0]]])
    assert most_important(each).tolist() == [[1, 1, -1]]


def test_rows_say_where_they_come_from(corpus):
    model = ordinary(shape("several"), corpus.vocab_size).train()
    found = measure_attribution(model, corpus, QUICK, "it")
    assert model.training
    origin = {"model", "kind", "reader", "chunk_tokens", "seed", "data", "vocab_size", "device", "machine", "commit"}
    origin |= {"trained_chunks", "example_chunks", "protocol", "part"}
    for row in found["results"]:
        assert row.keys() == origin | {"text"} | set(_TOLD)
        assert row["value_ci"][0] <= row["value"] <= row["value_ci"][1]
        assert row["memories_min"] >= 1
    json.dumps(found, allow_nan=False)
    assert found == measure_attribution(model, corpus, QUICK, "it")
    few = measure_attribution(model, corpus, replace(QUICK, chunks=2), "it")
    assert {r["text"]: r["chunks"] for r in few["results"]} == {"plain": 2, "copy": 2, "noisy copy": 2}


def test_what_cannot_be_attributed_is_told_in_a_sentence(corpus):
    alone = measure_attribution(ordinary(shape("none", chunks=1), corpus.vocab_size), corpus, QUICK, "it")
    assert [row["value"] for row in alone["results"]] == [None] * 3
    assert "no earlier one" in alone["results"][0]["note"]
    with pytest.raises(UsageError, match="reads no chunks"):
        measure_attribution(build_model(AutoencoderShape(), corpus.vocab_size, 0), corpus, QUICK, "it")
    with pytest.raises(UsageError, match="one has no interval"):
        MeasureConfig(attribution=1)


def test_measure_writes_it_beside_access(data, corpus, tmp_path):
    save_model(build_model(shape("none"), corpus.vocab_size, 0), corpus.tokenizer, tmp_path / "baseline")
    config = MeasureConfig(access_examples=10, free_running=0, attribution=5)
    first = measure([str(tmp_path / "baseline")], data, tmp_path / "out", config)
    kept = json.loads((tmp_path / "out" / "attribution.json").read_text())
    assert kept["results"] == first["attribution"]
    assert [s["text"] for s in kept["samples"]] == list(TEXTS)
    assert measure([str(tmp_path / "baseline")], data, tmp_path / "out", config) == first
    none = measure([str(tmp_path / "baseline")], data, tmp_path / "without", replace(config, attribution=0))
    assert none["attribution"] == []
    assert not (tmp_path / "without" / "attribution.json").exists()
