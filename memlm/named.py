"""Tables of names: what stands in them is imported when it is asked for, so that options can be told without torch."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from memlm.errors import UsageError


def named(path: str) -> Any:
    """What "module:name" names."""
    module, name = path.split(":")
    return getattr(import_module(module), name)


def check_named(what: str, name: str, table: Mapping[str, Any]) -> None:
    """Refuse a name that is not in the table."""
    if name not in table:
        raise UsageError(f"there is no {what} {name!r}; there are {', '.join(table)}.")
