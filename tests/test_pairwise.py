"""The covers that the tests of memory models take their shapes from."""

from itertools import combinations, product

import pytest
from memory_models import DECODERS, ENCODERS, READERS, READING
from pairwise import one_of_each, pairwise


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5, 4), (3, 3, 3, 3), (2, 3, 4, 2, 2), (1, 4, 1)])
def test_every_two_options_meet_in_few_rows(sizes):
    axes = [[f"{axis}{option}" for option in range(size)] for axis, size in zip("abcde", sizes, strict=False)]
    rows = pairwise(*axes)
    for one, other in combinations(range(len(axes)), 2):
        assert {(row[one], row[other]) for row in rows} == set(product(axes[one], axes[other]))
    least = sorted(sizes)[-1] * sorted(sizes)[-2]
    assert least <= len(rows) == len(set(rows)) <= 1.5 * least
    assert rows[0] == tuple(axis[0] for axis in axes)


def test_what_is_not_allowed_is_never_taken_and_all_else_is_covered():
    rows = pairwise("abc", [1, 2, 3], "xy", allowed=lambda a, b, _: a != "a" or b == 1)
    assert all(row[0] != "a" or row[1] == 1 for row in rows)
    assert {row[:2] for row in rows} == {("a", 1), *product("bc", [1, 2, 3])}
    assert {(row[0], row[2]) for row in rows} == set(product("abc", "xy"))


def test_one_of_each_is_the_first():
    assert one_of_each(["ax", "bx", "ay"], lambda word: word[0]) == ["ax", "bx"]


def test_memory_models_of_every_two_options_are_gone_through():
    stacks = set(DECODERS)
    assert {(s.encoder, (s.decoder, s.positions)) for s in READING} == set(product(ENCODERS, stacks))
    assert {(s.reader, (s.decoder, s.positions)) for s in READING} == set(product(READERS, stacks))
    assert {(s.reader, s.encoder) for s in READING} == set(product(READERS, ENCODERS))
    assert len(READING) <= 30  # as many as readers x decoders
