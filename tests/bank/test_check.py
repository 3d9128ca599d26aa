"""Recall that checks itself: what agrees was in the memory, wrong tokens are found again, and doubt is calibrated."""

import numpy as np
import pytest
import torch
from banks import TEXTS, T, autoencoder, memory_model, tokenizer

from memlm.bank.check import tell
from memlm.bank.confidence import Calibration, calibrate, confidence
from memlm.bank.encode import encode_texts
from memlm.bank.kept import Keeping
from memlm.bank.memories import Kept
from memlm.bank.recall import Checked, decode_texts
from memlm.errors import UsageError
from memlm.nn.compiled import Encoding
from memlm.records import from_dict

TEXT = [TEXTS["sea"], TEXTS["bären"]]


@pytest.fixture(scope="module")
def noisy():
    """An autoencoder whose decoder takes every fifth token for the next one, and is unsure of these."""
    model = autoencoder()
    with torch.no_grad():
        vectors_VD = model.decoder.head.weight.clone()
        model.decoder.head.weight[1::5] += 1.05 * vectors_VD[::5]
        model.decoder.head.weight.mul_(12)
    return model


@pytest.fixture(scope="module")
def chunks():
    return np.random.default_rng(0).integers(2, 300, (400, T))


@pytest.mark.parametrize("keeping", [{}, {"dtype": "int8"}, {"dtype": "int4"}, {"fill": "pad"}])
def test_what_was_told_wrong_is_found_by_encoding_it_again(noisy, keeping):
    memories = encode_texts(noisy, tokenizer(), TEXT, keeping=Keeping(**keeping))
    plain, check = decode_texts(memories, noisy, tokenizer()), Checked()
    assert plain != TEXT
    assert decode_texts(memories, noisy, tokenizer(), check=check) == TEXT
    assert check.agrees == [True] * len(memories)


@pytest.mark.parametrize("dtype", ["fp32", "int4"])
def test_only_what_is_right_agrees(noisy, chunks, dtype):
    from memlm.bank.kept import rounded

    vectors, steps = rounded(Encoding(noisy).memories(chunks), dtype)
    kept = Kept(dtype, "repeat", np.full(len(chunks), T * 32, np.int32), steps)
    told = tell(noisy, vectors, np.full(len(chunks), T), kept)
    right = (told.ids == chunks).all(1)
    assert 0.05 < right.mean() < 0.95
    assert told.agrees.tolist() == right.tolist()


def test_a_memory_of_no_text_is_not_said_to_agree(noisy):
    memories = encode_texts(noisy, tokenizer(), TEXT)
    memories.vectors[:3] = np.random.default_rng(0).normal(size=(3, T * 32)).astype(np.float32)
    check = Checked()
    decode_texts(memories, noisy, tokenizer(), check=check)
    assert check.agrees == [False] * 3 + [True] * (len(memories) - 3)


def test_probabilities_are_shares_of_what_is_right(noisy, chunks):
    from memlm.bank.kept import rounded
    from memlm.bank.memories import Memories, Origin

    noisy.config.confidence = calibrate(noisy, chunks[:200])
    known = from_dict(Calibration, noisy.config.confidence | {"memory": list(noisy.config.confidence["memory"])})
    assert known.chunks == 200
    tested, K = chunks[200:], len(chunks) - 200
    vectors, steps = rounded(Encoding(noisy).memories(tested), "int8")
    rows = np.stack([np.zeros(K), np.arange(K), np.full(K, T)], 1).astype(np.int32)
    kept = Kept("int8", "repeat", np.full(K, T * 32, np.int32), steps)
    found = confidence(noisy, Memories(vectors, rows, (None,), Origin("", "", T, T * 32), kept))
    right = found.ids == tested
    assert found.tokens.mean() == pytest.approx(right.mean(), abs=0.03)
    assert found.memories.mean() == pytest.approx(right.all(1).mean(), abs=0.03)
    assert found.tokens[right].mean() > found.tokens[~right].mean() + 0.2
    assert found.memories[right.all(1)].min() > found.memories[~right.all(1)].max()


def test_a_last_chunk_is_asked_for_its_own_tokens_alone(noisy, chunks):
    noisy.config.confidence = calibrate(noisy, chunks[:100])
    ids = tokenizer().encode(TEXTS["sea"], add_special_tokens=False).ids
    text = tokenizer().decode(ids[: T + 3])
    found = confidence(noisy, encode_texts(noisy, tokenizer(), [text]), search=True)
    assert np.isnan(found.tokens).sum(1).tolist() == [0, T - 3]
    assert found.agrees.all()


def test_who_cannot_tell_says_so():
    model = autoencoder()
    memories = encode_texts(model, tokenizer(), TEXT)
    with pytest.raises(UsageError, match="does not tell how far its decoder can be trusted"):
        confidence(model, memories)
    reader = memory_model(model, chunks=4)
    with pytest.raises(UsageError, match="no decoder of single memories"):
        decode_texts(memories, reader, tokenizer(), check=Checked())


def test_what_the_decoder_itself_gives_up_is_not_searched(chunks, monkeypatch):
    from memlm.memory.searching import Search

    model = autoencoder()
    with torch.no_grad():
        model.decoder.head.weight.mul_(0.01)  # it tells all tokens, and is sure of none
        model.decoder.head.weight[:150] = 0
    vectors, held = Encoding(model).memories(chunks), np.full(len(chunks), T)
    kept = Kept("fp32", "repeat", np.full(len(chunks), T * 32, np.int32))
    plain = tell(model, vectors, held, kept)
    assert not plain.agrees.all()
    assert not plain.searchable.any()
    monkeypatch.setattr(Search, "improve", None)
    assert tell(model, vectors, held, kept, search=True).ids.tolist() == plain.ids.tolist()
