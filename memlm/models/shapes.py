"""What a model is, as data: frozen dataclasses that go into run configs and saved models alike.

No torch here: a command line that only prints its options imports this file.
"""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.memory.encoder_shape import EncoderShape, OfChunks, OfEncoder, ReadoutKind
from memlm.nn.config import StackConfig
from memlm.pretrained.shapes import PretrainedShape, SoftAutoencoderShape

BridgeKind = Literal["repeat", "unroll", "slots"]
ReaderKind = Literal["vector", "slots", "soft", "select", "none", "full"]
PositionScheme = Literal["original", "variable", "fixed"]
OracleKind = Literal["token", "embedding", "sum"]


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
        self.encoder_shape  # noqa: B018  refuses what is impossible

    @property
    def encoder_shape(self) -> EncoderShape:
        """The half that forms memories."""
        return EncoderShape(
            chunk_tokens=self.chunk_tokens,
            memory_dim=self.memory_dim,
            memory_norm=self.memory_norm,
            stack=self.encoder,
            readout=self.readout,
        )

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example."""
        return self.chunk_tokens


@dataclass(frozen=True, kw_only=True)
class CausalShape:
    """A causal language model whose hidden state after `chunk_tokens` tokens is looked at as a memory."""

    chunk_tokens: int = 64  # T; it reads a beginning-of-text token before them
    stack: StackConfig = field(default_factory=StackConfig)
    readout: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        if not self.stack.causal:
            raise UsageError("a causal language model needs a causal stack: leave causal at true.")
        self.encoder_shape  # noqa: B018  refuses what is impossible

    @property
    def memory_dim(self) -> int:
        """The width of the hidden state that is read out."""
        return self.stack.width

    @property
    def encoder_shape(self) -> EncoderShape:
        """The model without its head: what forms memories."""
        return EncoderShape(
            chunk_tokens=self.chunk_tokens,
            memory_dim=self.memory_dim,
            memory_norm=False,
            stack=self.stack,
            readout=self.readout,
            begins=True,
        )

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example: one more than a chunk, so that the state after it is trained as well."""
        return self.chunk_tokens + 1


@dataclass(frozen=True, kw_only=True)
class _ReadsMemories(OfEncoder):
    """What the shapes of decoders that read memories share: the encoder that forms them."""

    encoder: EncoderShape = field(default_factory=EncoderShape)
    decoder: StackConfig = field(default_factory=lambda: StackConfig(kind="transformer", heads=4))

    def __post_init__(self) -> None:
        if not self.decoder.causal:
            raise UsageError("what predicts tokens needs a causal decoder: leave causal at true.")

    @property
    def encoder_shape(self) -> EncoderShape:
        """What forms memories."""
        return self.encoder


def _pointwise() -> StackConfig:
    return StackConfig(kind="pointwise", width=64, layers=1)


@dataclass(frozen=True, kw_only=True)
class MemoryShape(OfChunks, _ReadsMemories):
    """A memory model: a decoder that reads memories of earlier chunks and the tokens of its own.

    `reader` says how it reads them (memory/reader.py). Two of them are baselines on the same stacks: `none` reads no
    memory at all, `full` reads all earlier tokens, as a plain transformer does.
    """

    chunks: int = 4  # C of a training example; with fixed positions no more memories can be read than these
    reader: ReaderKind = "vector"
    vectors: int = 1  # S of the reader `vector`: into how many vectors it makes a memory
    bridge: BridgeKind = "slots"  # of `slots`, `soft`, `select`: what unrolls a memory, as in its autoencoder ...
    bridge_width: int = 64  # ... into what width, of `slots` and `select` ...
    unroll: StackConfig = field(default_factory=_pointwise)  # ... and what makes tokens of it, of `soft`
    shift: bool = True  # each slot or soft token is read beside the one before it
    select: int = 2  # of the reader `select`: how many memories a token unrolls in each layer; 0: all
    key_width: int = 64  # of the reader `select`: numbers of a memory's key in each layer that tell of it as a whole
    positions: PositionScheme = "original"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunks < 1 or self.vectors < 1:
            raise UsageError("a memory model needs at least one chunk, and one vector for a memory.")
        if self.select < 0 or self.key_width < 2 or self.key_width % 2:
            raise UsageError("select counts memories, 0 for all, and key_width must be even, for rotary positions.")
        if self.reader == "select" and self.decoder.width // self.decoder.heads % 2:
            raise UsageError("the reader select needs an even head width, for rotary positions.")
        if self.decoder.kind == "mixer" and self.positions != "fixed":
            raise UsageError("a mixer's weights belong to positions: choose --model.positions fixed.")
        if self.decoder.kind == "mixer" and self.reader == "full":
            raise UsageError("the reader full needs a transformer decoder.")


@dataclass(frozen=True, kw_only=True)
class RecurrentShape(OfChunks, _ReadsMemories):
    """A recurrent memory model: one vector is carried from chunk to chunk, and the decoder reads it alone."""

    chunks: int = 4  # C of a training example

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunks < 1:
            raise UsageError("a recurrent memory model needs at least one chunk.")
        if not self.encoder.begins:
            raise UsageError("a recurrent encoder reads the carried memory first: set --model.encoder.begins.")


@dataclass(frozen=True, kw_only=True)
class OracleShape(_ReadsMemories):
    """An oracle: the encoder has seen the whole chunk, the future too, and the decoder predicts it token by token."""

    given: OracleKind = "token"  # an extra position, beside every token's embedding, or added to it

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example."""
        return self.chunk_tokens


ModelShape = (
    AutoencoderShape | CausalShape | MemoryShape | RecurrentShape | OracleShape | SoftAutoencoderShape | PretrainedShape
)
