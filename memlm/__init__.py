"""memlm: measure what an embedding holds, train near-perfect memories, build models that read them.

The public interface; each name is loaded on first use, so that `import memlm` and `memlm --help` cost nothing:

    load(name)               a model, ours or of others: .encode(texts), .decode(memories), .generate(prompt)
    measure(encoder, ...)    how much of its input an encoder's vectors still hold: a model, any function, a file
    Memories                 what encode returns: vectors that know their text, chunk and encoder
    Bank                     memories of documents on disk: Bank.open(path)
    Model                    what load returns
    MeasureConfig, ProbeConfig          what a measurement scores, and the budget of its probes
    MemlmError, UsageError, WorkError   what is raised: one sentence that says what to do

    >>> m = memlm.load("runs/demo/slots")  # doctest: +SKIP
    >>> m.decode(m.encode(["a text"]))  # doctest: +SKIP
    ['a text']
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memlm.api.face import Model
    from memlm.api.load import load
    from memlm.bank.bank import Bank
    from memlm.bank.memories import Memories
    from memlm.errors import MemlmError, UsageError, WorkError
    from memlm.measure.config import MeasureConfig, ProbeConfig
    from memlm.measure.public import measure

__version__ = "0.2.0"

_EXPORTS = {
    "Bank": "memlm.bank.bank",
    "MeasureConfig": "memlm.measure.config",
    "MemlmError": "memlm.errors",
    "Memories": "memlm.bank.memories",
    "Model": "memlm.api.face",
    "ProbeConfig": "memlm.measure.config",
    "UsageError": "memlm.errors",
    "WorkError": "memlm.errors",
    "load": "memlm.api.load",
}

__all__ = [
    "Bank",
    "MeasureConfig",
    "MemlmError",
    "Memories",
    "Model",
    "ProbeConfig",
    "UsageError",
    "WorkError",
    "__version__",
    "load",
    "measure",
]


def __getattr__(name: str) -> object:
    if name == "measure":  # the room itself, which can be called: importing it puts it under this name in any case
        return import_module("memlm.measure")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'memlm' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
