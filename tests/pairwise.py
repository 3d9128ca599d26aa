"""Pairwise covers: few combinations in which every two options of different axes meet at least once.

A defect of one option, or of two together, shows in such a cover as well as in the whole product, whose size it is a
fraction of; only one of three options together can be missed (Cohen et al., "The AETG System", IEEE TSE 23, 1997).
"""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any


def pairs_of(row: Sequence[int]) -> set[tuple[tuple[int, int], ...]]:
    """The pairs of (axis, option) that a row of option numbers brings together."""
    return set(combinations(enumerate(row), 2))


def pairwise(*axes: Sequence[Any], allowed: Callable[..., bool] = lambda *_: True) -> list[tuple[Any, ...]]:
    """Rows of one option an axis that cover every pair of options which some allowed row holds.

    Greedy and deterministic: again and again the row that covers most of what is left, of equals the first of the
    product. The first row is therefore made of every axis' first option, if that is allowed.
    """
    rows = [row for row in product(*(range(len(axis)) for axis in axes)) if allowed(*_options(axes, row))]
    left, chosen = set().union(*map(pairs_of, rows)), []
    while left:
        best = max(rows, key=lambda row: len(pairs_of(row) & left))
        chosen.append(best)
        left -= pairs_of(best)
    return [_options(axes, row) for row in chosen]


def one_of_each(items: Sequence[Any], key: Callable[[Any], Any]) -> list[Any]:
    """The first item of every value of `key`."""
    found = {}
    for item in items:
        found.setdefault(key(item), item)
    return list(found.values())


def _options(axes: Sequence[Sequence[Any]], row: Sequence[int]) -> tuple[Any, ...]:
    return tuple(axis[i] for axis, i in zip(axes, row, strict=True))
