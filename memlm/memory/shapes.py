"""What a model is, as data: frozen dataclasses that go into run configs and saved models alike.

No torch here: a command line that only prints its options imports this file.
"""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.nn.config import StackConfig

ReadoutKind = Literal["last", "mean", "slots"]
BridgeKind = Literal["repeat", "unroll", "slots"]


@dataclass(frozen=True, kw_only=True)
class AutoencoderShape:
    """An autoencoder: `chunk_tokens` tokens through one vector of `memory_dim` numbers and back.

    A `memory_dim` below a stack's width is the paper's bottleneck: a linear map down after the readout and
    one up before the bridge.
    """

    chunk_tokens: int = 64  # T
    memory_dim: int = 256  # M, the numbers that are stored
    memory_norm: bool = True  # LayerNorm on the memory
    encoder: StackConfig = field(default_factory=StackConfig)
    readout: ReadoutKind = "last"
    bridge: BridgeKind = "repeat"
    decoder: StackConfig = field(default_factory=StackConfig)

    def __post_init__(self) -> None:
        _check_chunk(self.chunk_tokens)
        if self.memory_dim < 1:
            raise UsageError(f"a memory needs at least one number, not {self.memory_dim}.")


@dataclass(frozen=True, kw_only=True)
class CausalShape:
    """A causal language model whose hidden state after `chunk_tokens` tokens is looked at as a memory."""

    chunk_tokens: int = 64  # T; it reads a beginning-of-text token before them
    stack: StackConfig = field(default_factory=StackConfig)
    readout: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        _check_chunk(self.chunk_tokens)
        if not self.stack.causal:
            raise UsageError("a causal language model needs a causal stack: leave causal at true.")

    @property
    def memory_dim(self) -> int:
        """The width of the hidden state that is read out."""
        return self.stack.width


ModelShape = AutoencoderShape | CausalShape


def _check_chunk(tokens: int) -> None:
    if tokens < 1:
        raise UsageError(f"a chunk needs at least one token, not {tokens}.")
