"""What can be measured: a frozen encoder with a name, an origin and an identity, and its untrained twin.

This is the door for models of others: whatever gives `encode(ids [B, T]) -> [B, M]`, a chunk length and a
fingerprint can be measured.
"""

from dataclasses import dataclass
from pathlib import Path

from memlm.memory.encoder import NoEncoder
from memlm.memory.loading import build_model, load_model
from memlm.memory.model import TextMemory
from memlm.memory.shapes import BaseEncoderShape

# What an encoder was trained in, by the kind of model that it was saved with.
TRAINING = {
    "memlm-autoencoder": "autoencoder",
    "memlm-causal": "causal",
    "memlm-memory": "memory-model",
    "memlm-recurrent": "recurrent",
    "memlm-oracle": "oracle",
    "memlm-soft": "soft-autoencoder",
    "memlm-pretrained": "pretrained-memory-model",
}


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder under measurement."""

    name: str
    kind: str  # slots, mixer, transformer, ...
    training: str  # autoencoder, causal, memory-model, ..., untrained
    model: TextMemory

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.model.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.model.memory_dim

    @property
    def forms_memories(self) -> bool:
        """Whether there is an encoder at all: baselines that read no memories have none."""
        return not isinstance(self.model.encoder, NoEncoder)

    @property
    def architecture(self) -> str:
        """What the untrained twin depends on: the stack that encodes and the readout, whatever it is trained for."""
        return str(self.model.config.read_shape().encoder_shape)

    def untrained(self, seed: int) -> "Encoder":
        """The same architecture as it was before any training, from another seed than a run's usual one."""
        shape, vocab_size = self.model.config.read_shape(), self.model.config.vocab_size
        twin = build_model(shape, vocab_size, seed + 1_000_003).eval()
        return Encoder(f"{self.kind}-untrained", self.kind, "untrained", twin)


def open_encoder(path: str) -> Encoder:
    """A run of ours or a saved folder as an encoder.

    Raises:
        UsageError: there is no model of ours.
    """
    model = load_model(path).requires_grad_(False)
    shape = model.config.read_shape().encoder_shape
    kind = shape.readout if isinstance(shape, BaseEncoderShape) or shape.readout == "slots" else shape.stack.kind
    return Encoder(Path(path).name, kind, TRAINING[model.config.model_type], model)
