"""Readers as data: what each can be told, and where it is. No torch here.

A new reader is a `Reader` in a file of its own (readers/reader.py tells what it may do) and a `ReaderConfig` here that
names it.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from memlm.errors import UsageError
from memlm.memory.encoder_shape import BRIDGES
from memlm.named import check_named
from memlm.nn.config import StackConfig
from memlm.ranges import Count, Natural, Range
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

    vectors: Count = 1  # S


def _pointwise() -> StackConfig:
    return StackConfig(kind="pointwise", width=64, layers=1)


@dataclass(frozen=True, kw_only=True)
class PointerReader(ReaderConfig):
    """Memories are found by the words before a place, and what followed is copied; the newest few are read in full."""

    kind: ClassVar[str] = "pointer"
    module: ClassVar[str] = "memlm.readers.pointer:Pointer"
    recalls: ClassVar[bool] = True

    bridge: str = "slots"  # one of BRIDGES: what unrolls a memory, as in its autoencoder ...
    unroll: StackConfig = field(default_factory=_pointwise)  # ... and what makes tokens of it
    word_dim: Count = 64  # numbers of a word before it becomes part of a key
    key_dim: Count = 64  # d
    window: Natural = 3  # newest memories whose words the decoder reads before the tokens of a chunk
    top: Annotated[int, Range(4)] = 16  # memories opened by finding, of which looks of earlier words get 4
    near: Natural = 0  # of these, found among the newest 256 memories
    heads: Count = 2  # ways of sharing among opened places
    gate: Count = 64  # width of the network that chooses between the language model and what is found
    surprise: Natural = 0  # numbers of a word in tables of how unexpected words are where they stand; 0: no tables

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named("bridge", self.bridge, BRIDGES)
        if self.near > self.top - 4:
            raise UsageError(
                f"of {self.top} memories that are opened at most {self.top - 4} can be near: not {self.near}."
            )
        if self.key_dim % 2:
            raise UsageError(f"keys are kept two numbers a byte: key_dim must be even, not {self.key_dim}.")

    def parts(self, chunk_tokens: int, memory_dim: int) -> dict[str, tuple[str, object]]:
        """Its decoder of chunks, an autoencoder's."""
        return {"text": ("text", (chunk_tokens, memory_dim, self.bridge, self.unroll))}
