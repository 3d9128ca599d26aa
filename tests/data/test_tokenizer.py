import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError
from memlm.tokens.tokenizer import Sample, load_tokenizer, token_bytes, tokenise_pieces, train_tokenizer

TEXT = "It's the first of many words, isn't it?  We'll see\n\nwhat 1984 brings — naïve café 東京.\t" * 20


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], 400)


@cache
def foreign() -> Tokenizer:
    """Another family's pre-tokeniser, which `tokenise_pieces` leaves to the library."""
    other = Tokenizer.from_str(tokenizer().to_str())
    other.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    other.encode_special_tokens = True
    return other


@settings(deadline=None, max_examples=300)
@given(st.text())
@example("<|end|> is text here, and so is <|pad|>")
@example("'S it'Ss 'lll a_b ²½ ٣\x1c\x85\u00a0\u3000 x\v\f y   ")
@example("\r\n\r\n  \n x'\u017f")
def test_every_text_comes_back_and_words_are_the_librarys(text: str) -> None:
    ids = tokenizer().encode(text, add_special_tokens=False).ids
    assert tokenizer().decode(ids) == text
    assert token_bytes(tokenizer())[ids].sum() == len(text.encode())
    for one in (tokenizer(), foreign()):
        (ours,) = tokenise_pieces(one, [text])
        assert ours.tolist() == one.encode(text, add_special_tokens=False).ids


def test_a_stream_gives_one_array_for_every_piece() -> None:
    pieces = ["", "a", TEXT, "b " * 5000] * 50
    for one in (tokenizer(), foreign()):
        arrays = list(tokenise_pieces(one, pieces))
        assert [len(array) for array in arrays] == [len(one.encode(piece).ids) for piece in pieces[:4]] * 50
        assert {array.dtype for array in arrays} == {np.dtype(np.uint16)}


def test_training_is_deterministic_and_special_tokens_come_first() -> None:
    again = train_tokenizer([TEXT], 400)
    assert again.to_str() == tokenizer().to_str()
    assert [again.id_to_token(i) for i in (0, 1)] == ["<|pad|>", "<|end|>"]
    assert token_bytes(again)[:2].tolist() == [0, 0]
    assert token_bytes(again)[2:].min() == 1


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="258"):
        train_tokenizer([TEXT], 257)


def test_loading_takes_a_file_or_a_folder_and_refuses_the_rest(tmp_path: Path) -> None:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = load_tokenizer(path)
        assert loaded.encode("<|end|>").ids == tokenizer().encode("<|end|>").ids
    with pytest.raises(UsageError, match="not there"):
        load_tokenizer(tmp_path / "elsewhere")
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UsageError, match="no tokenizer"):
        load_tokenizer(tmp_path / "broken.json")
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "words.json"))
    with pytest.raises(UsageError, match="byte-level"):
        load_tokenizer(tmp_path / "words.json")


@given(st.lists(st.text(max_size=30), max_size=40), st.integers(1, 200))
def test_a_sample_keeps_to_its_limit_and_holds_everything_that_fits(pieces: list[str], limit: int) -> None:
    sample = Sample(limit, slice_size=10)
    for piece in pieces:
        sample.offer(piece)
    size = sum(len(text.encode()) for text in sample.texts())
    assert size <= max(limit, 40)
    if len("".join(pieces).encode()) <= limit:
        text = "".join(pieces)
        assert "".join(sample.texts()) == text
        half = len(text) // 2
        assert text.startswith("".join(sample.texts(without=[(half, len(text))])))
        assert not text or sample.texts(without=[(0, len(text))]) == []


def test_a_sample_is_spread_over_the_whole() -> None:
    sample = Sample(10_000, slice_size=100)
    for i in range(1000):
        sample.offer(f"{i:04d}" * 25)
    numbers = np.array([int(text[:4]) for text in sample.texts()])
    assert len(numbers) >= 50
    assert np.ptp(np.diff(numbers)) == 0
    assert numbers[-1] > 900


NFD = "Tie\u0302\u0301ng Vie\u0323\u0302t co\u0301 da\u0302\u0301u. " * 40
CHANGING = {
    "NFC": (normalizers.NFC(), NFD, "Tieng"),
    "lowercase": (normalizers.Lowercase(), "The Sea was calm. " * 40, "50.3%"),
    "strip": (normalizers.Strip(), "  the sea  " * 40, "white space"),
    "a space before": (None, "the sea " * 40, "white space"),
}


@pytest.mark.parametrize("name", CHANGING)
def test_a_tokenizer_that_changes_the_text_is_refused_with_the_share(name, tmp_path) -> None:
    normalizer, text, said = CHANGING[name]
    tokenizer = train_tokenizer([text], 300)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    call = Prepare(source=str(tmp_path / "a.txt"), out=tmp_path / "data", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(UsageError, match="changes the text before it reads it") as refusal:
        prepare(call)
    assert said in str(refusal.value) or name == "NFC"
    assert not (tmp_path / "data").exists()
    if name == "NFC":  # what its normaliser leaves alone comes back, and its bytes are those of the text
        composed = unicodedata.normalize("NFC", text)
        (tmp_path / "a.txt").write_text(composed, encoding="utf-8")
        corpus = prepare(call)
        sides = [corpus.meta[side] for side in ("train", "tune", "test")]
        assert sum(side["bytes"] for side in sides) == len(composed.encode())
        spelt = [corpus.token_bytes[stream.tokens].sum() for stream in (corpus.train, corpus.tune, corpus.test)]
        assert spelt == [side["bytes"] for side in sides]
