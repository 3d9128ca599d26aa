"""What a model over a language model of others is, as data (pretrained/)."""

from dataclasses import dataclass, field
from typing import Literal

from memlm.errors import UsageError
from memlm.memory.encoder_shape import EncoderShape, OfChunks, OfEncoder, check_chunk
from memlm.nn.config import StackConfig


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
        check_chunk(self.chunk_tokens)


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
class SoftAutoencoderShape(OfEncoder):
    """An autoencoder of a language model's own embeddings: a chunk -> one vector -> T vectors close to its tokens'.

    What comes out are soft tokens that the language model can read in the place of the text (pretrained/soft.py).
    """

    base: str = "smollm2"  # the language model: a known name, a folder, a GGUF file, or one of the hub
    encoder: EncoderShape = field(default_factory=_slots_encoder)
    decoder: SoftConfig = field(default_factory=SoftConfig)
    negatives: int = 2048  # tokens that a step tells apart beside its own; held-out figures tell all apart

    @property
    def encoder_shape(self) -> EncoderShape:
        """What forms memories."""
        return self.encoder

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example."""
        return self.chunk_tokens


@dataclass(frozen=True, kw_only=True)
class PretrainedShape(OfChunks):
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
    def encoder_shape(self) -> EncoderShape | BaseEncoderShape:
        """What forms memories."""
        return self.encoder
