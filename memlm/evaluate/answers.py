"""A model's answers on disk, batch by batch, as soon as they are there: an interrupted evaluation goes on where it was.

FILE has one JSON object a line, `{"asked": SHA-256, "answer": ...}`. An answer is found by all that it depends on: the
model's fingerprint, the condition, the seed, every text of the call (they decide how batches are cut, and what random
vectors are like), the number of the batch, versions, commit and device. So what is answered again is the very same
question, and the report of an evaluation that was interrupted is that of one that was not, to the bit.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from memlm.files import sha256_json, told
from memlm.provenance import environment, machine

A = TypeVar("A")


class Answers:
    """Answers by what was asked.

    Args:
        file: where they are kept; None: nowhere.
        model: whose they are, a fingerprint.
        device: that it runs on.
    """

    def __init__(self, file: Path | None = None, model: str = "", device: str = "cpu"):
        self.file = file
        env = environment(device)
        self._origin = [model, env["commit"], env["packages"], machine(device)]
        self._known = _read(file) if file is not None else {}

    def asked(self, *what: Any) -> str:
        """The name of a question: a hash of JSON values, the model and what it runs on."""
        return sha256_json([self._origin, what])

    def of(self, asked: str, ask: Callable[[], A]) -> A:
        """What is known to be the answer, or what `ask` gives (JSON values), which is known from then on."""
        if self.file is None:
            return ask()
        if asked not in self._known:
            self._known[asked] = ask()
            line = json.dumps({"asked": asked, "answer": self._known[asked]}) + "\n"
            with told(self.file, every=True):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
        return self._known[asked]


def _read(file: Path) -> dict[str, Any]:
    """What is there; a line that a kill cut short is none, and the next one begins on a line of its own."""
    known: dict[str, Any] = {}
    content = file.read_bytes() if file.is_file() else b""
    for line in content.splitlines():
        try:
            row = json.loads(line)
            known[row["asked"]] = row["answer"]
        except (ValueError, RecursionError, KeyError, TypeError):
            continue
    if content and not content.endswith(b"\n"):
        with told(file, every=True), file.open("ab") as end:
            end.write(b"\n")
    return known
