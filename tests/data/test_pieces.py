from hypothesis import given, settings
from hypothesis import strategies as st

from memlm.tokens.pieces import cut_pieces
from memlm.tokens.tokenizer import train_tokenizer

PROSE = st.lists(st.sampled_from(["word", "It's", " ", "  ", "\n", "\n\n", "12", "?!", "é", "\t", ", "]), max_size=80)


@given(st.lists(st.text(max_size=40)), st.integers(1, 30))
def test_nothing_is_lost_and_no_piece_is_too_large(blocks: list[str], size: int) -> None:
    pieces = list(cut_pieces(blocks, size))
    assert "".join(pieces) == "".join(blocks)
    assert all(0 < len(piece) <= size for piece in pieces)


@settings(deadline=None)
@given(PROSE)
def test_pieces_tokenise_as_the_whole(parts: list[str]) -> None:
    tokenizer = train_tokenizer(["It's a word. " * 9, "word\n\nword  word?! "], 300)
    text = " and ".join("".join(parts[i : i + 3]) for i in range(0, len(parts), 3))
    pieces = list(cut_pieces([text], 60))
    ids = [i for piece in pieces for i in tokenizer.encode(piece).ids]
    assert ids == tokenizer.encode(text).ids


def test_a_line_without_end_is_cut_while_it_streams() -> None:
    drawn = 0

    def blocks():
        nonlocal drawn
        for _ in range(100):
            drawn += 1
            yield "x" * 1000

    pieces = cut_pieces(blocks(), 1000)
    next(pieces)
    assert drawn <= 3
