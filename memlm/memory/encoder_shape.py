"""The shape of what turns a chunk of tokens into one vector, and what all shapes with such a part share."""

from dataclasses import dataclass, field
from typing import Any, Literal

from memlm.errors import UsageError
from memlm.nn.config import StackConfig

ReadoutKind = Literal["last", "mean", "slots"]


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """What turns a chunk of tokens into one vector."""

    chunk_tokens: int = 64  # T
    memory_dim: int = 256  # M, the numbers that are stored
    memory_norm: bool = True  # LayerNorm on the memory
    stack: StackConfig = field(default_factory=StackConfig)
    readout: ReadoutKind = "last"
    begins: bool = False  # reads <|end|> before the chunk, as a causal language model does

    def __post_init__(self) -> None:
        check_chunk(self.chunk_tokens)
        if self.memory_dim < 1:
            raise UsageError(f"a memory needs at least one number, not {self.memory_dim}.")


class OfEncoder:
    """A shape whose part `encoder` forms memories."""

    encoder: Any

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.encoder.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.encoder.memory_dim


class OfChunks(OfEncoder):
    """A shape whose training examples are `chunks` chunks."""

    chunks: int

    @property
    def window_tokens(self) -> int:
        """N, tokens of one training example."""
        return self.chunks * self.chunk_tokens


def check_chunk(tokens: int) -> None:
    """Refuse a chunk of no tokens."""
    if tokens < 1:
        raise UsageError(f"a chunk needs at least one token, not {tokens}.")
