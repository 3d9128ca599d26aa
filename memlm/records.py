"""Frozen dataclasses to JSON and back, strictly: an unknown or missing name is a sentence, not a surprise."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from memlm.errors import UsageError

T = TypeVar("T")


def to_dict(value: Any) -> Any:
    """A dataclass as plain JSON values (paths as text, tuples as lists), nested ones too."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(cls: type[T], value: Any, where: str = "config") -> T:
    """Make a dataclass from plain JSON values; what is left out takes its default.

    Raises:
        UsageError: a name that `cls` does not have, or a value it refuses.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be an object, not {value!r}.")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(value.keys() - known):
        raise UsageError(f"{where} has no field {unknown[0]!r}; there are {', '.join(sorted(known))}.")
    try:
        return cls(**{name: _convert(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    except TypeError as error:
        raise UsageError(f"{where} cannot be read: {error}.") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    records = [option for option in options if is_dataclass(option)]
    if len(records) == len(options) and not isinstance(value, dict):
        raise UsageError(f"{where} must be an object, not {value!r}.")
    if records and isinstance(value, dict):
        # Of several possible records, the one with exactly these names, or the first that knows them all.
        names = [{f.name for f in fields(r)} for r in records]  # pyright: ignore[reportArgumentType]
        exact = [r for r, known in zip(records, names, strict=True) if value.keys() == known]
        fitting = [r for r, known in zip(records, names, strict=True) if value.keys() <= known]
        return from_dict((exact or fitting or records)[0], value, where)  # pyright: ignore[reportArgumentType]
    if Path in options and isinstance(value, str):
        return Path(value)
    for option in options:
        inside = get_args(option)
        if get_origin(option) is tuple and isinstance(value, list):
            kinds = inside[:1] * len(value) if inside[1:] == (Ellipsis,) else inside
            if len(kinds) != len(value):
                raise UsageError(f"{where} needs {len(kinds)} values, not {len(value)}.")
            named = enumerate(zip(kinds, value, strict=True))
            return tuple(_convert(kind, item, f"{where}[{i}]") for i, (kind, item) in named)
        if get_origin(option) is dict and isinstance(value, dict):
            return {key: _convert(inside[1], item, f"{where}.{key}") for key, item in value.items()}
    return value
