"""What is near is found: exactly as a sorted list of all has it, by the index, by the words before an end."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from banks import TEXTS, autoencoder, memory_model, tokenizer

from memlm.api.own import OwnModel
from memlm.bank import search, writing
from memlm.bank.bank import Bank
from memlm.bank.encode import encode_documents
from memlm.bank.rows import Label
from memlm.bank.search import nearest
from memlm.bank.writing import compact_bank, making, remove_documents
from memlm.errors import UsageError


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def large(request, made, tmp_path_factory) -> Bank:
    """A thousand memories of other numbers than an encoder's, in documents of ten, with an empty one between them."""
    place, rng = tmp_path_factory.mktemp("large") / "bank", np.random.default_rng(0)
    meta = replace(Bank.open(made).meta, dtype=request.param, memory_dim=16)
    with making(place, meta) as writer:
        for number in range(100):
            last = (80, 80, "0" * 64)
            writer.add(rng.normal(size=(10, 16)), [Label(f"d{number}", n, 8, *last[: 3 * (n == 9)]) for n in range(10)])
            if number == 50:
                writer.add(rng.normal(size=(1, 16)), [Label("empty", 0, 0, 0, 0, "0" * 64)])
    return Bank.open(place)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_the_nearest_are_those_of_all(large, metric, monkeypatch):
    monkeypatch.setattr(search, "_BLOCK", 64)
    memory_KM, query_QM = large.memories().numpy(), np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    score_KQ = memory_KM @ query_QM.T
    if metric == "cosine":
        score_KQ /= np.linalg.norm(memory_KM, axis=1)[:, None] * np.linalg.norm(query_QM, axis=1)
    best = score_KQ.max(1).argsort()[::-1]
    for k in (1, 7, 2000):
        hits = nearest(large, query_QM, k, metric=metric)
        assert [(hit.document, hit.chunk) for hit in hits] == [large.place(number) for number in best[:k]]
        np.testing.assert_allclose([hit.score for hit in hits], score_KQ.max(1)[best[:k]], rtol=1e-4)
        np.testing.assert_array_equal([hit.memory for hit in hits], memory_KM[best[:k]])
    with pytest.raises(UsageError, match="of 16 numbers, not 5"):
        nearest(large, query_QM[:, :5])
    with pytest.raises(UsageError, match="k must be at least 1"):
        nearest(large, query_QM, 0)


def test_beyond_a_million_an_index_is_asked(large, tmp_path, monkeypatch):
    for module in (writing, search):
        monkeypatch.setattr(module, "SCANNED", 900)
    bank = compact_bank(shutil.copytree(large.path, tmp_path / "bank"))
    assert bank.table.indexed == (large.meta.dtype != "int8")  # which Lance does not file
    query_QM = bank.memories(slice(0, 1000, 1)).numpy()[::100] + 0.01
    hits = [hit[:3] for hit in nearest(bank, query_QM, 10)]
    assert hits == [hit[:3] for hit in nearest(bank, query_QM, 10, exact=True)]
    assert ("d0", 0, 8) in hits
    bank = remove_documents(bank.path, ["d0"])  # the index knows what is gone
    assert ("d0", 0, 8) not in [hit[:3] for hit in nearest(bank, query_QM, 10)]
    assert len(nearest(bank, query_QM[0], 5, metric="dot")) == 5  # of which there is no index


def test_a_text_finds_its_own_memory(made):
    model, bank = OwnModel("auto", autoencoder(), tokenizer()), Bank.open(made)
    for name in ("brief", "bären"):
        best = model.search(TEXTS[name], bank, 1)[0]
        assert (best.document, round(best.score, 5)) == (name, 1)
    with pytest.raises(UsageError, match="no text"):
        model.search("", bank)
    with pytest.raises(UsageError, match="another encoder"):
        OwnModel("other", autoencoder(1), tokenizer()).search("a", bank)
    with pytest.raises(UsageError, match="no keys of words"):
        model.search("a", bank, by="keys")


def test_keys_find_the_words_before_an_end(tmp_path):
    reader = OwnModel("reads", memory_model(autoencoder(), "pointer"), tokenizer())
    texts = {"sea": "the sea was calm and the old man slept", "wind": "a cold wind came from the north", "no": "zzzz"}
    bank = encode_documents(reader.model, tokenizer(), texts.items(), tmp_path / "bank")
    hits = reader.search("and then a cold wind came", bank, 3, by="keys")
    assert hits[0].document == "wind"
    assert "no" not in [hit.document for hit in hits]
    assert hits == sorted(hits, key=lambda hit: -hit.score)
    assert reader.search("QX", bank, by="keys") == []
    assert (tmp_path / "bank" / "index").is_dir()
    remove_documents(tmp_path / "bank", ["wind"])
    assert not (tmp_path / "bank" / "index").exists()
    assert "wind" not in [hit.document for hit in reader.search("a cold wind came", Bank.open(bank.path), by="keys")]
