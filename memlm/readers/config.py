"""Readers as data: what each can be told, and where it is. No torch here.

A new reader is a `Reader` in a file of its own (readers/reader.py tells what it may do) and a `ReaderConfig` here that
names it.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from memlm.errors import UsageError
from memlm.memory.encoder_shape import BRIDGES
from memlm.named import check_named
from memlm.nn.config import StackConfig
from memlm.records import Kinds

PositionScheme = Literal["original", "variable", "fixed"]


@dataclass(frozen=True, kw_only=True)
class ReaderConfig(Kinds):
    """How a decoder reads memories.

    Attributes:
        module: "module:class" of the reader.
        reads: whether it reads any.
        recalls: whether it tells which tokens a memory holds.
    """

    kinds: ClassVar = {}
    module: ClassVar[str]
    reads: ClassVar[bool] = True
    recalls: ClassVar[bool] = False

    def parts(self, chunk_tokens: int, memory_dim: int) -> dict[str, tuple[str, object]]:
        """What it has in common with other models: a name -> (its submodule, what must be equal)."""
        return {}


@dataclass(frozen=True, kw_only=True)
class NoReader(ReaderConfig):
    """Reads no memory: the baseline of each chunk by itself."""

    kind: ClassVar[str] = "none"
    module: ClassVar[str] = "memlm.readers.none:NoMemories"
    reads: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class VectorReader(ReaderConfig):
    """A memory is one entry of the decoder, or a few (paper)."""

    kind: ClassVar[str] = "vector"
    module: ClassVar[str] = "memlm.readers.vector:Vector"

    vectors: int = 1  # S

    def __post_init__(self) -> None:
        if self.vectors < 1:
            raise UsageError(f"a memory needs at least one vector, not {self.vectors}.")


def _pointwise() -> StackConfig:
    return StackConfig(kind="pointwise", width=64, layers=1)


@dataclass(frozen=True, kw_only=True)
class Recalling(ReaderConfig):
    """Reads the tokens that a memory holds."""

    recalls: ClassVar[bool] = True

    bridge: str = "slots"  # one of BRIDGES: what unrolls a memory, as in its autoencoder ...
    unroll: StackConfig = field(default_factory=_pointwise)  # ... and what makes tokens of it

    def __post_init__(self) -> None:
        check_named("bridge", self.bridge, BRIDGES)

    def parts(self, chunk_tokens: int, memory_dim: int) -> dict[str, tuple[str, object]]:
        """Its decoder of chunks, an autoencoder's."""
        return {"text": ("text", (chunk_tokens, memory_dim, self.bridge, self.unroll))}


@dataclass(frozen=True, kw_only=True)
class SoftReader(Recalling):
    """A memory is T entries: the decoder's own word embeddings of the tokens that it holds."""

    kind: ClassVar[str] = "soft"
    module: ClassVar[str] = "memlm.readers.soft:Soft"

    shift: bool = True  # each soft token is read beside the one before it


@dataclass(frozen=True, kw_only=True)
class PointerReader(Recalling):
    """Memories are found by the words before a place, and what followed is copied; the newest few are read in full."""

    kind: ClassVar[str] = "pointer"
    module: ClassVar[str] = "memlm.readers.pointer:Pointer"

    word_dim: int = 64  # numbers of a word before it becomes part of a key
    key_dim: int = 64  # d
    window: int = 3  # newest memories whose words the decoder reads before the tokens of a chunk
    top: int = 16  # memories opened by finding; the newest two are open always
    heads: int = 2  # ways of sharing among opened places
    gate: int = 64  # width of the network that chooses between the language model and what is found

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("word_dim", "key_dim", "heads", "gate"):
            if getattr(self, name) < 1:
                raise UsageError(f"the reader's {name} must be at least 1, not {getattr(self, name)}.")
        if self.window < 0:
            raise UsageError(f"window is a number of memories, 0 or more, not {self.window}.")
        if self.top < 4:
            raise UsageError(f"a pointer opens at least 4 memories, not {self.top}: each of its looks needs some.")
