"""What turns a chunk of tokens into one vector, as data."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from memlm.errors import UsageError
from memlm.nn.config import StackConfig
from memlm.records import Kinds

ReadoutKind = Literal["last", "mean", "slots"]
BridgeKind = Literal["repeat", "unroll", "slots"]  # of what takes a memory apart again


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Kinds):
    """What all encoders tell of themselves."""

    kinds: ClassVar = {}

    chunk_tokens: int = 64  # T
    memory_dim: int = 256  # M, the numbers that are stored

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1 or self.memory_dim < 1:
            raise UsageError(
                f"a memory is at least one number of at least one token, not {self.memory_dim} of {self.chunk_tokens}."
            )


@dataclass(frozen=True, kw_only=True)
class EncoderShape(EncoderConfig):
    """An encoder of ours: word embeddings, a stack, a readout."""

    kind: ClassVar[str] = "stack"

    memory_norm: bool = True  # LayerNorm on the memory
    stack: StackConfig = field(default_factory=StackConfig)
    readout: ReadoutKind = "last"
    begins: bool = False  # reads <|end|> before the chunk, as a causal language model does

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.readout if self.readout == "slots" else self.stack.kind
