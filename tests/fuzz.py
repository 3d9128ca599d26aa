"""Damaged files by generation: a good file, a seed -> what a bad disk, a half download or a hand made of it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memlm.errors import MemlmError

VALUES = [
    *(None, True, False, 0, -1, 1, 2**63, -(2**70), 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "x", "None"),
    *("\ud800", "../../..", "a" * 3000, "\x00", [], {}, [[]], [None], [1, "a"], {"kind": "x"}, {"": None}, [{}] * 3),
]
WHOLE = [
    *(b"", b"\x00", b"\n", b"{", b"[]", b"{}", b"null", b"3", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"PK\x03\x04"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b'{"a": ' + b"9" * 5000 + b"}", b"\x80\x02}q\x00."),
    b"version https://git-lfs.github.com/spec/v1\n",
]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content, differently: another JSON value somewhere, bytes that are lost, changed or added, or all of it."""
    if rng.random() < 0.1:
        return rng.choice(WHOLE)
    if rng.random() < 0.75:
        try:
            told = json.loads(content)
        except ValueError:
            if (lines := content.splitlines(keepends=True)) and content[:1] == b"{":
                number = rng.randrange(len(lines))
                return b"".join([*lines[:number], damaged(lines[number].rstrip(), rng), b"\n", *lines[number + 1 :]])
            return _bytes(content, rng)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            told = _value(told, rng)
        return json.dumps(told, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
    return _bytes(content, rng)


def _value(told: Any, rng: random.Random) -> Any:
    """A JSON value with one of its parts, at any depth, changed, gone, or another one added."""
    if not isinstance(told, dict | list) or not told or rng.random() < 0.15:
        return rng.choice(VALUES)
    key = rng.choice(list(told)) if isinstance(told, dict) else rng.randrange(len(told))
    new: Any = dict(told) if isinstance(told, dict) else list(told)
    how = rng.random()
    if how < 0.15:
        del new[key]
    elif how < 0.2 and isinstance(new, dict):
        new[rng.choice(["x", "", "kind", "shape", "auto_map"])] = rng.choice(VALUES)
    else:
        new[key] = _value(new[key], rng)
    return new


def _bytes(content: bytes, rng: random.Random) -> bytes:
    new = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        near = min(len(new), 200) if rng.random() < 0.6 else len(new)  # headers stand at the beginning
        at = rng.randrange(near + 1)
        how = rng.randrange(4)
        if how == 0:
            del new[at:]
        elif how == 1:
            del new[at : at + rng.randrange(1, 9)]
        elif how == 2:
            new[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif at < len(new):
            new[at] = rng.choice((0, 0xFF, ord("-"), ord('"'), rng.randrange(256)))
    return bytes(new)


def tried(file: Path, read: Callable[[], Any], seed: int) -> str:
    """Read a damaged copy of a file in its place: `whole` where it was read, else what was said; put back in the end.

    Any exception but a `MemlmError` of one sentence goes on.
    """
    content = file.read_bytes()
    try:
        file.write_bytes(damaged(content, random.Random(seed)))
        read()
    except MemlmError as error:
        said = str(error)
        if not said.strip() or "\n" in said:
            raise AssertionError(f"no sentence: {said!r}") from error
        return "refused"
    finally:
        file.write_bytes(content)
    return "whole"
