"""A language model's tokenizer with our two ids before its own: the same cuts, the same text, and no faked boundary."""

import json
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import TEXT
from tiny_models import own_tokenizer, save_tiny
from tokenizers import Tokenizer, models

from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError
from memlm.nn.vocabulary import END, PAD
from memlm.pretrained.transplant import SHIFT, tokenizer_for, transplant
from memlm.tokens.tokenizer import load_tokenizer


@cache
def moved() -> Tokenizer:
    return transplant(own_tokenizer(), "tiny")


@given(st.text())
def test_ids_are_moved_up_by_two_and_nothing_else_changes(text):
    own, ours = own_tokenizer(), moved()
    own.encode_special_tokens = True
    assert ours.encode(text).ids == [i + SHIFT for i in own.encode(text).ids]
    assert ours.decode(ours.encode(text).ids) == text
    assert ours.get_vocab_size() == own.get_vocab_size() + SHIFT


def test_our_special_tokens_come_first_and_those_of_the_model_are_kept():
    ours = transplant(own_tokenizer(), "tiny")
    assert [ours.id_to_token(i) for i in (PAD, END, 2, 3)] == ["<|pad|>", "<|end|>", "<|endoftext|>", "<|begin|>"]
    assert ours.id_to_token(4) == "<|end|> of the model"


def test_no_text_can_fake_a_boundary():
    ours = transplant(own_tokenizer(), "tiny")
    assert not {0, 1, 2, 3} & set(ours.encode("a<|pad|>b<|end|>c<|endoftext|>").ids)


def test_data_are_prepared_in_the_tokens_of_a_model(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT * 5)
    corpus = prepare(
        Prepare(source=str(tmp_path / "text.txt"), out=tmp_path / "data", tokenizer=save_tiny("llama", tmp_path / "lm"))
    )
    assert corpus.vocab_size == own_tokenizer().get_vocab_size() + SHIFT
    assert (corpus.end_id, corpus.pad_id) == (END, PAD)
    assert corpus.tokenizer.decode(corpus.train.tokens[:20].tolist()).startswith(TEXT[:20])


def test_a_tokenizer_of_ours_is_taken_as_it_is(tmp_path):
    ours = transplant(own_tokenizer(), "tiny")
    ours.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer_for(str(tmp_path)).to_str() == load_tokenizer(tmp_path).to_str() == ours.to_str()


def test_what_is_not_byte_level_is_refused_with_a_sentence():
    with pytest.raises(UsageError, match="no byte-level BPE"):
        transplant(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), "words")
    told = json.loads(own_tokenizer().to_str()) | {"decoder": None}
    with pytest.raises(UsageError, match="no byte-level BPE"):
        transplant(Tokenizer.from_str(json.dumps(told)), "bytes lost")
