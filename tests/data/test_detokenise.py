from banks import tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memlm.tokens.detokenise import TextStream


@settings(deadline=None)
@given(st.text(), st.integers(1, 5))
@example("<|end|> Bären 東京 \U0001f30a \x00", 1)
def test_text_comes_back_wherever_its_ids_are_cut(text: str, step: int) -> None:
    ids = tokenizer().encode(text, add_special_tokens=False).ids
    stream = TextStream(tokenizer())
    parts = [stream.feed(ids[i : i + step]) for i in range(0, len(ids), step)]
    assert "".join(parts) + stream.feed([], last=True) == text


def test_what_is_no_text_and_what_is_no_character() -> None:
    ids = tokenizer().encode("東x", add_special_tokens=False).ids
    stream = TextStream(tokenizer())
    assert stream.feed([0, 1, 10_000]) == ""  # special tokens, and an id that there is not
    assert stream.feed([ids[0], ids[-1]]).endswith("x")
    assert "\ufffd" in TextStream(tokenizer()).feed(ids[:1], last=True)


def test_texts_that_share_a_stream_do_not_touch() -> None:
    ids = tokenizer().encode("東", add_special_tokens=False).ids
    stream = TextStream(tokenizer())
    assert stream.feed(ids[:1], last=True) == "\ufffd"  # a character that was cut does not reach into the next text
    assert stream.feed(ids, last=True) == "東"


def test_every_byte_is_a_token() -> None:
    spelt = TextStream(tokenizer())._spelt
    assert {bytes([byte]) for byte in range(256)} <= set(spelt.values())
    assert all(text.decode(errors="replace") == tokenizer().decode([i]) for i, text in spelt.items())
