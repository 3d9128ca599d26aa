"""What turns a chunk of tokens into one vector, as data."""

from dataclasses import dataclass, field
from typing import ClassVar

from memlm.named import check_named
from memlm.nn.config import StackConfig
from memlm.ranges import Count
from memlm.records import Kinds

READOUTS = {
    "last": "memlm.memory.readout:Last",
    "mean": "memlm.memory.readout:Mean",
    "slots": "memlm.memory.readout:SlotsReadout",
}
BRIDGES = {  # which take a memory apart again
    "repeat": "memlm.memory.bridge:Repeat",
    "unroll": "memlm.memory.bridge:Unroll",
    "slots": "memlm.memory.bridge:SlotsBridge",
    "slots-noise": "memlm.memory.bridge:NoisySlotsBridge",
    "slots-nested": "memlm.memory.bridge:NestedSlotsBridge",
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Kinds):
    """What all encoders tell of themselves."""

    kinds: ClassVar = {}

    chunk_tokens: Count = 64  # T
    memory_dim: Count = 256  # M, the numbers that are stored


@dataclass(frozen=True, kw_only=True)
class EncoderShape(EncoderConfig):
    """An encoder of ours: word embeddings, a stack, a readout."""

    kind: ClassVar[str] = "stack"

    memory_norm: bool = True  # LayerNorm on the memory
    stack: StackConfig = field(default_factory=StackConfig)
    readout: str = "last"  # one of READOUTS
    begins: bool = False  # reads <|end|> before the chunk, as a causal language model does

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named("readout", self.readout, READOUTS)

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.readout if self.readout == "slots" else self.stack.kind
