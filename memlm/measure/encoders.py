"""What can be measured: a frozen encoder with a name, an origin and an identity, and its untrained twin.

This is the door for models of others: whatever gives `encode(ids [B, T]) -> [B, M]`, a chunk length and a
fingerprint can be measured.
"""

from dataclasses import dataclass
from pathlib import Path

from memlm.memory.loading import build_model, load_model
from memlm.memory.model import TextMemory
from memlm.memory.shapes import AutoencoderShape


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder under measurement."""

    name: str
    kind: str  # slots, mixer, transformer, ...
    training: str  # autoencoder, causal, untrained
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
    def architecture(self) -> str:
        """What the untrained twin depends on: the stack that encodes and the readout, whatever it is trained for."""
        shape = self.model.config.read_shape()
        stack = shape.encoder if isinstance(shape, AutoencoderShape) else shape.stack
        return f"{stack} {shape.readout} {shape.memory_dim}"

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
    shape = model.config.read_shape()
    if isinstance(shape, AutoencoderShape):
        kind = "slots" if shape.readout == "slots" else shape.encoder.kind
        return Encoder(Path(path).name, kind, "autoencoder", model)
    return Encoder(Path(path).name, shape.stack.kind, "causal", model)
