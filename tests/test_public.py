"""The public interface: five lines that a notebook needs, and every wrong call a sentence."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from banks import TEXTS, T, autoencoder, memory_model, tokenizer
from foreign_models import WIDTH, save_foreign

import memlm
from memlm.loading import save_model
from memlm.models.shapes import CausalShape
from memlm.nn.config import StackConfig
from memlm.nn.vocabulary import END, PAD
from memlm.precision import restored


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Saved models: an autoencoder that is perfect by construction, readers of its memories, and others."""
    place = tmp_path_factory.mktemp("models")
    model = autoencoder()
    save_model(model, tokenizer(), place / "auto")
    save_model(memory_model(model, "pointer"), tokenizer(), place / "reads")
    save_model(memory_model(model, "vector"), tokenizer(), place / "copies")
    save_model(memory_model(model, "none"), tokenizer(), place / "alone")
    save_model(autoencoder(1), tokenizer(), place / "other")
    save_model(model, tokenizer(299), place / "foreign")
    from memlm.loading import build_model

    stack = StackConfig(kind="mixer", width=8, layers=1)
    save_model(build_model(CausalShape(chunk_tokens=T, stack=stack), 300, 0), tokenizer(), place / "causal")
    save_foreign("sentence", place / "sentence")
    save_foreign("causal", place / "theirs")
    return place


@pytest.fixture(scope="module")
def auto(place) -> memlm.Model:
    return memlm.load(place / "auto", device="cpu")


def test_all_that_is_public_is_there_and_told():
    for name in memlm.__all__:
        assert getattr(memlm, name) is not None
    assert {*re.findall(r"^    (\w+)[(, ]", memlm.__doc__ or "", re.MULTILINE)} <= {*memlm.__all__}
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        memlm.lode  # noqa: B018


def test_texts_come_back_from_their_memories(auto):
    texts = list(TEXTS.values())
    memories = auto.encode(texts, batch=3)
    assert auto.decode(memories) == auto.decode(memories, batch=2) == texts
    assert memories.vectors.shape == (len(memories), auto.memory_dim)
    assert memories.vectors.dtype == np.float32
    assert memories.texts == tuple(texts)
    for number, text in enumerate(texts):
        ids = tokenizer().encode(text, add_special_tokens=False).ids
        one = memories.of(number)
        assert one.chunks.tolist() == [[0, n, min(T, len(ids) - n * T)] for n in range(-(-len(ids) // T))]
        np.testing.assert_array_equal(one.vectors, memories.vectors[memories.span(number)])
        assert auto.decode(one) == [text]


def test_a_string_is_a_list_of_one(auto):
    np.testing.assert_array_equal(auto.encode("the sea").vectors, auto.encode(["the sea"]).vectors)
    assert auto.decode(auto.encode("")) == [""]


def test_a_text_gets_the_same_memories_in_any_company(auto):
    alone, among = auto.encode(TEXTS["sea"]), auto.encode(["a", TEXTS["sea"], ""]).of(1)
    np.testing.assert_allclose(among.vectors, alone.vectors, atol=1e-6)


def test_no_text_can_fake_a_boundary(auto):
    """`<|end|>` written out in a text is text: nothing of it becomes the special token."""
    text = "a<|end|>b<|pad|>c"
    assert not {PAD, END} & {*auto.tokenizer.encode(text, add_special_tokens=False).ids}
    assert auto.decode(auto.encode(text)) == [text]


def test_a_memory_model_decodes_and_reads_what_its_encoder_made_elsewhere(place, auto):
    memories = auto.encode([TEXTS["whole"], TEXTS["brief"]])
    reader = memlm.load(place / "reads", device="cpu")
    assert reader.decode(memories) == [TEXTS["whole"], TEXTS["brief"]]
    told: list[str] = []
    text = reader.generate("the sea", memories=memories, max_new_tokens=5, stream=told.append)
    assert "".join(told) == f"the sea{text}"
    assert reader.generate("the sea", memories=memories, max_new_tokens=5) == text
    drawn = [
        reader.generate("", memories=m, max_new_tokens=9, do_sample=True, temperature=2.0, seed=0)
        for m in (memories, memories, memories.of(0), None)
    ]
    assert drawn[0] == drawn[1]
    assert len({*drawn}) == 3  # memories count


def test_a_memory_model_that_copies_decodes_each_text_by_itself(place, auto):
    reader = memlm.load(place / "copies", device="cpu")
    memories = auto.encode([TEXTS["whole"], TEXTS["sea"], "", TEXTS["brief"]])
    assert reader.decode(memories) == [reader.decode(memories.of(i))[0] for i in range(4)]


def test_a_bank_is_read_as_memories_are(place, auto, tmp_path):
    bank = auto.encode_documents(TEXTS.items(), tmp_path / "bank")
    assert auto.decode(bank) == list(TEXTS.values())
    assert auto.decode(memlm.Bank.open(tmp_path / "bank")["sea"]) == [TEXTS["sea"]]
    np.testing.assert_array_equal(bank.read().vectors, auto.encode(list(TEXTS.values())).vectors)
    reader = memlm.load(place / "reads", device="cpu")
    given = [reader.generate("a", memories=m, max_new_tokens=4) for m in (bank, bank.read())]
    assert given[0] == given[1]


def test_a_model_of_others_encodes_texts_of_any_length(place):
    for name in ("sentence", "theirs"):
        model = memlm.load(place / name, device="cpu")
        texts = ["a bright cold day " * 60, "a brief one", ""]
        memories = model.encode(texts, batch=2)
        held = {number: memories.of(number) for number in range(3)}
        assert len(held[2]) == 0
        assert len(held[1]) == 1
        assert memories.vectors.shape == (len(memories), WIDTH)
        np.testing.assert_allclose(held[1].vectors, model.encode(texts[1]).vectors, atol=1e-5)
        if model.chunk_tokens < 1000:
            assert len(held[0]) > 1
            assert held[0].chunks[:, 1].tolist() == list(range(len(held[0])))
        with pytest.raises(memlm.UsageError, match="a model of others"):
            model.decode(memories)
        if name == "theirs":
            assert model.generate("a", max_new_tokens=2) == model.generate("a", max_new_tokens=2)
            continue
        with pytest.raises(memlm.UsageError, match="no causal language model"):
            model.generate("a")


def settings() -> tuple:
    return torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cuda"), torch.is_autocast_cache_enabled()


def test_a_callers_process_is_left_as_it_was():
    """On a GPU commands compute in bf16 throughout; a notebook's own products stay what they were."""
    before = settings()
    with restored():
        torch.set_float32_matmul_precision("medium")
        torch.set_autocast_enabled("cuda", not before[1])
        torch.set_autocast_cache_enabled(not before[2])
        assert settings()[1:] != before[1:]
    assert settings() == before


def test_wrong_texts_are_refused_with_a_sentence(auto):
    for texts, expected in (
        ([], "there is no text"),
        (["a", 3], "text 1 is int"),
        (None, "text 0 is NoneType"),
        ([b"bytes"], "text 0 is bytes"),
        (["\ud800"], "not valid Unicode"),
    ):
        with pytest.raises(memlm.UsageError, match=expected):
            auto.encode(texts)


def test_memories_of_another_encoder_are_refused(place, auto):
    memories = auto.encode("the sea was calm")
    for name, expected in (
        ("other", "another encoder"),
        ("causal", "take a model with the encoder"),
        ("foreign", "another tokenizer"),
    ):
        with pytest.raises(memlm.UsageError, match=expected):
            memlm.load(place / name, device="cpu").decode(memories)
    reader = memlm.load(place / "reads", device="cpu")
    theirs = memlm.load(place / "sentence", device="cpu").encode("the sea was calm")
    for wrong in (memlm.load(place / "other", device="cpu").encode("the sea"), theirs, memories.vectors, "the sea"):
        with pytest.raises(memlm.UsageError, match=r"encoder"):
            reader.generate("a", memories=wrong)
        with pytest.raises(memlm.UsageError, match=r"encoder"):
            auto.decode(wrong)


def test_memories_know_weights_that_were_written_to_after_loading(place):
    model = memlm.load(place / "auto")
    before = model.encode("the sea")
    assert before.encoder == model.model.encoder.fingerprint()
    with torch.no_grad():
        model.model.encoder.embed.weight.mul_(2)
    assert model.encode("the sea").encoder == model.model.encoder.fingerprint() != before.encoder
    with pytest.raises(memlm.UsageError, match="made by another encoder"):
        model.decode(before)


def test_what_a_model_cannot_do_it_says(place, auto):
    load = memlm.load
    for refused, expected in (
        (lambda: auto.generate("a"), "does not predict text"),
        (lambda: load(place / "alone", device="cpu").encode("a"), "forms no memories"),
        (lambda: load(place / "alone", device="cpu").generate("a", memories=auto.encode("a")), "reads no memories"),
        (lambda: load(place / "causal", device="cpu").decode(load(place / "causal").encode("a")), "no decoder"),
        (lambda: load(place / "nowhere"), "is not there"),
        (lambda: load(place / "auto", layer=3), "leave layer and readout out"),
        (lambda: load(place / "sentence", layer=99), "not 99"),
        (lambda: load(place / "reads", device="cpu").generate("a", max_new_tokens=0), "at least 1"),
    ):
        with pytest.raises(memlm.UsageError, match=expected):
            refused()
