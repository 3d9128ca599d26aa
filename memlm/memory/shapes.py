"""What a model is, as data: frozen dataclasses that go into run configs and saved models alike.

No torch here: a command line that only prints its options imports this file.
"""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.nn.config import StackConfig

ReadoutKind = Literal["last", "mean", "slots"]
BridgeKind = Literal["repeat", "unroll", "slots"]
ReaderKind = Literal["vector", "slots", "select", "none", "full"]
PositionScheme = Literal["original", "variable", "fixed"]
OracleKind = Literal["token", "embedding", "sum"]


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
        _check_chunk(self.chunk_tokens)
        if self.memory_dim < 1:
            raise UsageError(f"a memory needs at least one number, not {self.memory_dim}.")


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
class _ReadsMemories:
    """What the shapes of decoders that read memories share: the encoder that forms them."""

    encoder: EncoderShape = field(default_factory=EncoderShape)
    decoder: StackConfig = field(default_factory=lambda: StackConfig(kind="transformer", heads=4))

    def __post_init__(self) -> None:
        if not self.decoder.causal:
            raise UsageError("what predicts tokens needs a causal decoder: leave causal at true.")

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.encoder.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.encoder.memory_dim

    @property
    def encoder_shape(self) -> EncoderShape:
        """What forms memories."""
        return self.encoder


@dataclass(frozen=True, kw_only=True)
class MemoryShape(_ReadsMemories):
    """A memory model: a decoder that reads memories of earlier chunks and the tokens of its own.

    `reader` says how it reads them (memory/reader.py). Two of them are baselines on the same stacks: `none` reads no
    memory at all, `full` reads all earlier tokens, as a plain transformer does.
    """

    chunks: int = 4  # C of a training example; with fixed positions no more memories can be read than these
    reader: ReaderKind = "vector"
    vectors: int = 1  # S of the reader `vector`: into how many vectors it makes a memory
    bridge: BridgeKind = "slots"  # of `slots` and `select`: what unrolls a memory, as in its autoencoder ...
    bridge_width: int = 64  # ... and into what width
    shift: bool = True  # of the reader `slots`: each slot is read beside the one before it
    select: int = 2  # of the reader `select`: how many memories a token unrolls in each layer; 0: all
    key_width: int = 128  # of the reader `select`: numbers of a memory's key in each layer, by which it is found
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

    @property
    def window_tokens(self) -> int:
        """N, tokens of one training example."""
        return self.chunks * self.chunk_tokens


@dataclass(frozen=True, kw_only=True)
class RecurrentShape(_ReadsMemories):
    """A recurrent memory model: one vector is carried from chunk to chunk, and the decoder reads it alone."""

    chunks: int = 4  # C of a training example

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunks < 1:
            raise UsageError("a recurrent memory model needs at least one chunk.")
        if not self.encoder.begins:
            raise UsageError("a recurrent encoder reads the carried memory first: set --model.encoder.begins.")

    @property
    def window_tokens(self) -> int:
        """N, tokens of one training example."""
        return self.chunks * self.chunk_tokens


@dataclass(frozen=True, kw_only=True)
class OracleShape(_ReadsMemories):
    """An oracle: the encoder has seen the whole chunk, the future too, and the decoder predicts it token by token."""

    given: OracleKind = "token"  # an extra position, beside every token's embedding, or added to it

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example."""
        return self.chunk_tokens


@dataclass(frozen=True, kw_only=True)
class BaseEncoderShape:
    """A language model that forms memories itself: one of its hidden states after a chunk, LoRA off."""

    chunk_tokens: int = 64  # T
    memory_dim: int = 576  # M, the numbers that are stored; another width than the model's is a linear map
    memory_norm: bool = True  # LayerNorm on the memory
    layer: int = -1  # whose hidden states: 0 are the embeddings, -1 the last
    readout: Literal["last", "mean"] = "last"
    begins: bool = True  # reads <|end|> before the chunk

    def __post_init__(self) -> None:
        _check_chunk(self.chunk_tokens)


def _slots_encoder() -> EncoderShape:
    return EncoderShape(
        chunk_tokens=16,
        memory_dim=2048,
        stack=StackConfig(kind="pointwise", width=128, layers=0),
        readout="slots",
    )


@dataclass(frozen=True, kw_only=True)
class SoftConfig:
    """What makes soft tokens of a memory, one for each token that it holds."""

    width: int = 128  # of what a memory is unrolled into, for each token ...
    hidden: int = 1024  # ... and of the layer that makes a soft token of it


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """A causal language model of others as a decoder."""

    name: str = "smollm2"  # a known name, a folder, a GGUF file, or one of the hub
    lora_rank: int = 8  # of the adapter; 0: none
    lora_targets: tuple[str, ...] = ()  # ends of the names of layers that get some; none: all linear ones
    trained: bool = False  # full fine-tuning

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise UsageError(f"an adapter cannot be of rank {self.lora_rank}: 0 is none.")
        if self.lora_rank and self.trained:
            raise UsageError("an adapter and full fine-tuning are two ways: set lora_rank 0, or leave trained out.")


@dataclass(frozen=True, kw_only=True)
class SoftAutoencoderShape:
    """An autoencoder of a language model's own embeddings: a chunk -> one vector -> T vectors close to its tokens'.

    What comes out are soft tokens that the language model can read in the place of the text (pretrained/soft.py).
    """

    base: str = "smollm2"  # the language model: a known name, a folder, a GGUF file, or one of the hub
    encoder: EncoderShape = field(default_factory=_slots_encoder)
    decoder: SoftConfig = field(default_factory=SoftConfig)
    negatives: int = 2048  # tokens that a step tells apart beside its own; held-out figures tell all apart

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.encoder.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.encoder.memory_dim

    @property
    def encoder_shape(self) -> EncoderShape:
        """What forms memories."""
        return self.encoder

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example."""
        return self.chunk_tokens


@dataclass(frozen=True, kw_only=True)
class PretrainedShape:
    """A memory model whose decoder is a causal language model of others, frozen but for LoRA, or trained whole."""

    encoder: EncoderShape | BaseEncoderShape = field(default_factory=_slots_encoder)  # ours, or the model itself
    chunks: int = 4  # C of a training example
    reader: Literal["vector", "slots"] = "slots"
    vectors: int = 1  # S of the reader `vector`: into how many soft tokens it makes a memory
    soft: SoftConfig = field(default_factory=SoftConfig)  # of the reader `slots`, as in its autoencoder
    positions: Literal["original", "variable"] = "original"
    decoder: BaseConfig = field(default_factory=BaseConfig)

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.vectors < 1:
            raise UsageError("a memory model needs at least one chunk, and one vector for a memory.")

    @property
    def base(self) -> str:
        """The name of the language model."""
        return self.decoder.name

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.encoder.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.encoder.memory_dim

    @property
    def encoder_shape(self) -> EncoderShape | BaseEncoderShape:
        """What forms memories."""
        return self.encoder

    @property
    def window_tokens(self) -> int:
        """N, tokens of one training example."""
        return self.chunks * self.chunk_tokens


ModelShape = (
    AutoencoderShape | CausalShape | MemoryShape | RecurrentShape | OracleShape | SoftAutoencoderShape | PretrainedShape
)


def _check_chunk(tokens: int) -> None:
    if tokens < 1:
        raise UsageError(f"a chunk needs at least one token, not {tokens}.")
