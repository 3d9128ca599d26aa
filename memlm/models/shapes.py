"""Our kinds of models, as data: frozen dataclasses that go into run configs and saved models alike.

No torch here: a command line that only prints its options imports this file.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from memlm.errors import UsageError
from memlm.memory.encoder_shape import BRIDGES, EncoderShape
from memlm.models.kind import ModelShape, OfChunks, OfEncoder, Part
from memlm.named import check_named
from memlm.nn.config import StackConfig
from memlm.ranges import Count
from memlm.readers.config import PositionScheme, ReaderConfig, VectorReader

OracleKind = Literal["token", "embedding", "sum"]


@dataclass(frozen=True, kw_only=True)
class AutoencoderShape(ModelShape):
    """An autoencoder: `chunk_tokens` tokens through one vector of `memory_dim` numbers and back.

    A `memory_dim` below a stack's width is the paper's bottleneck: a linear map down after the readout and
    one up before the bridge.
    """

    kind: ClassVar[str] = "autoencoder"
    model: ClassVar[str] = "memlm.models.autoencoder:Autoencoder"
    trained_as: ClassVar[str] = "autoencoder"
    meets: ClassVar[frozenset[str]] = frozenset({"itself"})
    calibrated: ClassVar[bool] = True

    chunk_tokens: Count = 64  # pyright: ignore[reportIncompatibleMethodOverride]  T
    memory_dim: Count = 256  # pyright: ignore[reportIncompatibleMethodOverride]  M, the numbers that are stored
    memory_norm: bool = True  # LayerNorm on the memory
    encoder: StackConfig = field(default_factory=StackConfig)
    readout: str = "last"  # one of READOUTS
    bridge: str = "repeat"  # one of BRIDGES
    decoder: StackConfig = field(default_factory=StackConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoder_shape  # noqa: B018  refuses what is impossible
        check_named("bridge", self.bridge, BRIDGES)

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
    def parts(self) -> dict[str, Part]:
        """Both halves."""
        same = (self.chunk_tokens, self.memory_dim, self.bridge, self.decoder)
        return super().parts | {"text": Part("decoder", same)}


@dataclass(frozen=True, kw_only=True)
class CausalShape(ModelShape):
    """A causal language model whose hidden state after `chunk_tokens` tokens is looked at as a memory."""

    kind: ClassVar[str] = "causal"
    model: ClassVar[str] = "memlm.models.causal:CausalLM"
    trained_as: ClassVar[str] = "causal"
    meets: ClassVar[frozenset[str]] = frozenset({"past"})

    chunk_tokens: Count = 64  # pyright: ignore[reportIncompatibleMethodOverride]  T; it reads a beginning-of-text token before them
    stack: StackConfig = field(default_factory=StackConfig)
    readout: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_causal(self.stack)
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


def _reading() -> StackConfig:
    return StackConfig(kind="transformer", heads=4)


@dataclass(frozen=True, kw_only=True)
class MemoryShape(OfEncoder, OfChunks):
    """A memory model: a decoder that reads memories of earlier chunks and the tokens of its own.

    `reader` says how it reads them; one of `none` is the baseline of each chunk by itself, on the same stacks.
    """

    kind: ClassVar[str] = "memory"
    model: ClassVar[str] = "memlm.models.memory_model:MemoryModel"
    trained_as: ClassVar[str] = "memory-model"
    on_grid: ClassVar[bool] = True

    chunks: Count = 4  # C of a training example; with fixed positions no more memories can be read than these
    encoder: EncoderShape = field(default_factory=EncoderShape)
    reader: ReaderConfig = field(default_factory=VectorReader)
    decoder: StackConfig = field(default_factory=_reading)
    positions: PositionScheme = "original"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_causal(self.decoder)
        if self.decoder.kind == "mixer" and self.positions != "fixed":
            raise UsageError("a mixer's weights belong to positions: choose --model.positions fixed.")

    @property
    def meets(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is asked of many chunks; of each by itself too, where the reader knows what tokens a memory holds."""
        return frozenset({"past", "chunks", *(["itself"] if self.reader.recalls else [])})

    @property
    def encoder_shape(self) -> EncoderShape | None:
        """What forms memories, if any are read."""
        return self.encoder if self.reader.reads else None

    @property
    def parts(self) -> dict[str, Part]:
        """Its encoder, and what its reader takes memories apart with."""
        told = self.reader.parts(self.chunk_tokens, self.memory_dim)
        return super().parts | {name: Part(f"reader.{module}", same) for name, (module, same) in told.items()}

    def of_any_length(self) -> Self:
        """Only fixed positions depend on how many chunks there are."""
        return self if self.positions == "fixed" else super().of_any_length()


@dataclass(frozen=True, kw_only=True)
class FullContextShape(OfChunks):
    """The baseline that reads all earlier tokens, as a plain transformer does, on a memory model's decoder."""

    kind: ClassVar[str] = "full"
    model: ClassVar[str] = "memlm.models.full_context:FullContext"
    trained_as: ClassVar[str] = "memory-model"
    meets: ClassVar[frozenset[str]] = frozenset({"past", "chunks"})
    on_grid: ClassVar[bool] = True

    chunk_tokens: Count = 64  # pyright: ignore[reportIncompatibleMethodOverride]  T: a chunk begins with a start slot, as a memory model's does
    decoder: StackConfig = field(default_factory=_reading)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_causal(self.decoder)
        if self.decoder.kind == "mixer":
            raise UsageError("a model that reads all tokens needs a transformer decoder.")


@dataclass(frozen=True, kw_only=True)
class RecurrentShape(OfEncoder, OfChunks):
    """A recurrent memory model: one vector is carried from chunk to chunk, and the decoder reads it alone."""

    kind: ClassVar[str] = "recurrent"
    model: ClassVar[str] = "memlm.models.recurrent:RecurrentMemory"
    trained_as: ClassVar[str] = "recurrent"
    meets: ClassVar[frozenset[str]] = frozenset({"past", "chunks"})
    on_grid: ClassVar[bool] = True

    encoder: EncoderShape = field(default_factory=lambda: EncoderShape(begins=True))
    decoder: StackConfig = field(default_factory=_reading)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_causal(self.decoder)
        if not self.encoder.begins:
            raise UsageError("a recurrent encoder reads the carried memory first: set --model.encoder.begins.")


@dataclass(frozen=True, kw_only=True)
class OracleShape(OfEncoder):
    """An oracle: the encoder has seen the whole chunk, the future too, and the decoder predicts it token by token."""

    kind: ClassVar[str] = "oracle"
    model: ClassVar[str] = "memlm.models.oracle:Oracle"
    trained_as: ClassVar[str] = "oracle"
    meets: ClassVar[frozenset[str]] = frozenset({"past"})

    encoder: EncoderShape = field(default_factory=EncoderShape)
    decoder: StackConfig = field(default_factory=_reading)
    given: OracleKind = "token"  # an extra position, beside every token's embedding, or added to it

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_causal(self.decoder)


def _check_causal(decoder: StackConfig) -> None:
    if not decoder.causal:
        raise UsageError("what predicts tokens needs a causal stack: leave causal at true.")
