import pytest

from memlm.report.templating import prose, visible
from memlm.results.text import figure_of, number, share, span, told


@pytest.mark.parametrize(
    ("value", "shown"), [(1, "100.00"), (0.99999, "99.99"), (0.5, "50.00"), (0.00001, "<0.01"), (0, "0.00")]
)
def test_shares_are_never_flattered(value, shown):
    assert share(value) == shown


def test_numbers_have_separators_and_a_true_minus():
    assert number(1234567.891, 1) == "1,234,567.9"
    assert number(-2.5, 1) == "−2.5"
    assert number(-0.0001, 2) == "0.00"
    assert span((-1.0, 2.0), number) == "−1…2"
    assert span((1.0, 2.0), number) == "1–2"


def test_what_is_no_number_is_missing():
    row = {"a": float("nan"), "b": None, "c": True, "d": "1", "e": 1, "e_ci": [1, float("inf")]}
    assert [figure_of(row, key) for key in "abcdef"] == [None, None, None, None, 1.0, None]
    assert told(row, "e").interval is None


def test_pieces_of_text_are_escaped_and_white_space_is_shown():
    assert prose("a<\nb") == 'a&lt;<i class="line"></i> b'
    assert [visible(piece) for piece in (" ", "\n", "", "a b")] == ["␣", "↵", "∅", "a b"]
