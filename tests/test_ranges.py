"""Every number that can be set declares its range, and the range is what is refused."""

from dataclasses import fields, is_dataclass
from importlib import import_module
from math import inf, nan
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from memlm.cli import COMMANDS
from memlm.errors import UsageError
from memlm.measure.config import MeasureConfig
from memlm.ranges import Checked, Range, ranges_of
from memlm.records import Kinds
from memlm.train.config import OptimConfig, TrainConfig


def configs(hint: Any, seen: set[type]) -> set[type]:
    """Every dataclass that can stand in a value of a type, all members of a family among them."""
    found = [*hint.kinds.values()] if isinstance(hint, type) and issubclass(hint, Kinds) else [hint]
    for one in found:
        if isinstance(one, type) and is_dataclass(one) and one not in seen:
            seen.add(one)
            for inner in get_type_hints(one).values():
                configs(inner, seen)
        for inner in get_args(one):
            configs(inner, seen)
    return seen


def numbers(hint: Any) -> bool:
    return hint in (int, float) or any(numbers(inner) for inner in get_args(hint))


def test_every_number_of_every_command_declares_its_range():
    calls = [getattr(import_module(f"memlm.cli.{name}"), "Call", None) for name in COMMANDS]
    seen: set[type] = set()
    for call in [*calls, import_module("memlm.cli.train").CurriculumCall]:
        configs(call, seen)
    assert TrainConfig in seen
    assert len(seen) > 20
    for cls in seen:
        told = get_type_hints(cls, include_extras=True)
        bare = [f.name for f in fields(cls) if numbers(told[f.name]) and not ranges_of(told[f.name])]
        assert not bare, (cls, bare)
        assert issubclass(cls, Checked) or not any(map(ranges_of, told.values())), cls


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", nan), ("lr", inf), ("lr", 0.0), ("beta1", 1.5), ("beta2", 1.0), ("weight_decay", -1.0), ("clip", -1.0),
     ("clip", nan), ("final", 1.1), ("warmup", 2**63)],
)  # fmt: skip
def test_a_number_out_of_its_range_is_named(field, value):
    with pytest.raises(UsageError, match=f"^{field} must be .*, not"):
        OptimConfig(**{field: value})


@pytest.mark.parametrize("field", ["chunks", "access_examples", "cram", "invert", "attribution"])
def test_one_has_no_interval(field):
    with pytest.raises(UsageError, match="one has no interval"):
        MeasureConfig(**{field: 1})


def test_members_of_a_tuple_are_in_the_range():
    with pytest.raises(UsageError, match="chunk_tokens must be at least 1, not 0"):
        MeasureConfig(chunk_tokens=(16, 0))
    assert MeasureConfig(layers=(-3, 2)).layers == (-3, 2)


def test_nothing_that_is_no_number_is_in_a_range():
    assert not any(value in Range(-inf, inf) for value in (nan, inf, -inf))
    assert ranges_of(Annotated[int, Range(3)] | None) == [Range(3)]
