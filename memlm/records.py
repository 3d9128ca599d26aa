"""Frozen dataclasses to JSON and back, strictly: what is missing, unknown or of another type is a sentence.

A family of dataclasses of which any may stand in a field is a `Kinds`: saved with its `kind`, and read by it.
"""

from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from memlm.errors import UsageError
from memlm.ranges import Checked

T = TypeVar("T")


class Kinds(Checked):
    """The root of a family gives it an empty `kinds`; every dataclass below it that names its `kind` is a row there."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        if "kind" in cls.__dict__:
            cls.kinds[cls.kind] = cls


def to_dict(value: Any) -> Any:
    """A dataclass as plain JSON values (paths as text, tuples as lists), nested ones too."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if isinstance(value, Kinds) else {}
        return {**kind, **{f.name: to_dict(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, dict):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(cls: type[T], value: Any, where: str = "config") -> T:
    """Make a dataclass from plain JSON values.

    Args:
        cls: the dataclass, or the root of a family.
        value: what `to_dict` gave.
        where: what the value is called in a refusal.

    Raises:
        UsageError: a field that is missing, unknown or of another type, or a value that `cls` refuses.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be an object, not {value!r}.")
    if issubclass(cls, Kinds):
        value = dict(value)
        kind = value.pop("kind", None)
        if not isinstance(kind, str) or kind not in cls.kinds or not issubclass(cls.kinds[kind], cls):
            known = [name for name, one in cls.kinds.items() if issubclass(one, cls)]
            raise UsageError(f"{where}.kind must be one of {', '.join(known)}, not {kind!r}.")
        cls = cls.kinds[kind]
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # pyright: ignore[reportArgumentType]
    if unknown := sorted(value.keys() - set(known)):
        raise UsageError(f"{where} has no field {unknown[0]!r}; there are {', '.join(known)}.")
    made = {name: _convert(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    if missing := [name for name in known if name not in value]:
        raise UsageError(f"{where} lacks the field {missing[0]!r}.")
    return cls(**made)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as what the type hint says."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inside:
            return None
        options = [option for option in inside if option is not NoneType]
        if len(options) > 1:
            raise TypeError(f"{where}: of several types only a family of Kinds can be read")
        return _convert(options[0], value, where)
    if origin is Literal:
        return _of(value in inside, value, where, f"one of {', '.join(map(str, inside))}")
    if origin is tuple:
        _of(isinstance(value, list), value, where, "a list")
        kinds = inside[:1] * len(value) if inside[1:] == (Ellipsis,) else inside
        if len(kinds) != len(value):
            raise UsageError(f"{where} needs {len(kinds)} values, not {len(value)}.")
        return tuple(
            _convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict:
        _of(isinstance(value, dict), value, where, "an object")
        return {key: _convert(inside[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(hint) or issubclass(hint, Kinds):
        return from_dict(hint, value, where)  # pyright: ignore[reportArgumentType]
    if hint is Path:
        return Path(_of(isinstance(value, str), value, where, "a path"))
    if hint is float:
        return float(_of(isinstance(value, (int, float)) and not isinstance(value, bool), value, where, "a number"))
    name = {int: "a whole number", str: "text", bool: "true or false"}[hint]
    return _of(type(value) is hint, value, where, name)


def _of(right: bool, value: Any, where: str, what: str) -> Any:
    if not right:
        raise UsageError(f"{where} must be {what}, not {value!r}.")
    return value
