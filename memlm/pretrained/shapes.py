"""What a model over a language model of others is, as data. No torch here."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from memlm.errors import UsageError
from memlm.memory.encoder_shape import EncoderConfig, EncoderShape
from memlm.models.kind import ModelShape, OfChunks, OfEncoder, Part
from memlm.nn.config import StackConfig
from memlm.ranges import Checked, Count, Natural, Whole
from memlm.readers.config import PointerReader, ReaderConfig


@dataclass(frozen=True, kw_only=True)
class BaseEncoderShape(EncoderConfig):
    """A language model that forms memories itself: one of its hidden states after a chunk, LoRA off."""

    kind: ClassVar[str] = "base"

    memory_dim: Count = 576  # M, the numbers that are stored; another width than the model's is a linear map
    memory_norm: bool = True  # LayerNorm on the memory
    layer: Whole = -1  # whose hidden states: 0 are the embeddings, -1 the last
    readout: Literal["last", "mean"] = "last"
    begins: bool = True  # reads <|end|> before the chunk

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.readout


def _slots_encoder() -> EncoderShape:
    return EncoderShape(
        chunk_tokens=16, memory_dim=2048, stack=StackConfig(kind="pointwise", width=128, layers=0), readout="slots"
    )


@dataclass(frozen=True, kw_only=True)
class SoftTokens(ReaderConfig):
    """A memory is T soft tokens, each close to the language model's own vector of the token that it stands for."""

    kind: ClassVar[str] = "soft-tokens"
    module: ClassVar[str] = "memlm.pretrained.soft:SoftSlots"

    width: Count = 128  # of what a memory is unrolled into, for each token ...
    hidden: Count = 1024  # ... and of the layer that makes a soft token of it

    def parts(self, chunk_tokens: int, memory_dim: int) -> dict[str, tuple[str, object]]:
        """All of it."""
        return {"soft": ("", (chunk_tokens, memory_dim, self))}


@dataclass(frozen=True, kw_only=True)
class BaseConfig(Checked):
    """A causal language model of others as a decoder."""

    name: str = "smollm2"  # a known name, a folder, a GGUF file, or one of the hub
    lora_rank: Natural = 8  # of the adapter; 0: none
    lora_targets: tuple[str, ...] = ()  # ends of the names of layers that get some; none: all linear ones
    trained: bool = False  # full fine-tuning

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora_rank and self.trained:
            raise UsageError("an adapter and full fine-tuning are two ways: set lora_rank 0, or leave trained out.")


@dataclass(frozen=True, kw_only=True)
class SoftAutoencoderShape(OfEncoder):
    """An autoencoder of a language model's own embeddings: a chunk -> one vector -> T vectors close to its tokens'.

    What comes out are soft tokens that the language model can read in the place of the text (pretrained/soft.py).
    """

    kind: ClassVar[str] = "soft"
    model: ClassVar[str] = "memlm.pretrained.autoencoder:SoftAutoencoder"
    trained_as: ClassVar[str] = "soft-autoencoder"
    meets: ClassVar[frozenset[str]] = frozenset({"itself"})

    base: str = "smollm2"  # the language model: a known name, a folder, a GGUF file, or one of the hub
    encoder: EncoderShape = field(default_factory=_slots_encoder)
    decoder: SoftTokens = field(default_factory=SoftTokens)
    negatives: Count = 2048  # tokens that a step tells apart beside its own; held-out figures tell all apart

    @property
    def parts(self) -> dict[str, Part]:
        """Both halves."""
        return super().parts | _parts(self.decoder, self.encoder)


@dataclass(frozen=True, kw_only=True)
class PretrainedShape(OfEncoder, OfChunks):
    """A memory model whose decoder is a causal language model of others, frozen but for LoRA, or trained whole."""

    kind: ClassVar[str] = "pretrained"
    model: ClassVar[str] = "memlm.pretrained.memory:PretrainedMemory"
    trained_as: ClassVar[str] = "pretrained-memory-model"
    meets: ClassVar[frozenset[str]] = frozenset({"past", "chunks"})
    on_grid: ClassVar[bool] = True

    encoder: EncoderConfig = field(default_factory=_slots_encoder)  # ours, or the model itself
    reader: ReaderConfig = field(default_factory=SoftTokens)
    positions: Literal["original", "variable"] = "original"
    decoder: BaseConfig = field(default_factory=BaseConfig)

    @property
    def base(self) -> str:
        """The name of the language model."""
        return self.decoder.name

    @property
    def parts(self) -> dict[str, Part]:
        """Its encoder, and what its reader makes soft tokens with."""
        return super().parts | _parts(self.reader, self.encoder)


def _copy_reader() -> PointerReader:
    return PointerReader(window=0)


@dataclass(frozen=True, kw_only=True)
class CopyingShape(ModelShape):
    """A causal language model of others, frozen, that finds passages of remembered text, reads some and copies.

    It reads what memories of any encoder recall, tokenised again by its own tokenizer (bank/passages.py).
    """

    kind: ClassVar[str] = "copying"
    model: ClassVar[str] = "memlm.pretrained.copying:Copying"
    trained_as: ClassVar[str] = "copy-head"
    meets: ClassVar[frozenset[str]] = frozenset()

    base: str = "smollm2"  # the language model: a known name, a folder, a GGUF file, or one of the hub
    passage: Count = 32  # T, of its tokens that are found together
    opened: Natural = 4  # passages whose words are read before the text, each with the one after it; 0: none
    segment: Count = 64  # tokens after which passages are chosen anew, and the last tokens that they are chosen by
    lora_rank: Natural = 0  # of an adapter that works only where words are opened; 0: none
    lora_layers: Count = 12  # the upper layers that get it, so that the way back through the model is short
    reader: PointerReader = field(default_factory=_copy_reader)  # what finds and copies; of no window of its own

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of a passage."""
        return self.passage


def _parts(reader: ReaderConfig, encoder: EncoderConfig) -> dict[str, Part]:
    told = reader.parts(encoder.chunk_tokens, encoder.memory_dim)
    return {name: Part(f"reader.{module}".rstrip("."), same) for name, (module, same) in told.items()}
