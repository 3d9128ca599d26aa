"""Chunks become memories by a language model's own vectors, and memories become soft tokens: vectors that it can read.

| | from | to |
|---|---|---|
| `EmbeddingEncoder` | the vectors of a chunk's tokens, frozen | a memory, by a stack and a readout of ours |
| `BaseEncoder` | one of the model's own hidden states of a chunk | a memory |
| `SoftSlots` | a memory | T soft tokens, each close to the vector of the token it stands for |

The reader `vector` serves a language model as it serves our decoder: S soft tokens, by one linear map. A soft token
that is close enough is to the language model as good as the token: it copies from it untrained (LOG.md).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.errors import UsageError
from memlm.memory.bridge import SlotsBridge
from memlm.memory.encoder import StateEncoder
from memlm.memory.encoder_shape import EncoderConfig, EncoderShape
from memlm.nn.stack import build_stack
from memlm.pretrained.base import Base, Tokens
from memlm.pretrained.shapes import BaseEncoderShape, SoftTokens
from memlm.readers.reader import Reader, Sizes
from memlm.readers.vector import begin_as_tokens


class OverTokens(StateEncoder):
    """An encoder that reads a language model's vectors of tokens, which are not its own parts (so in a tuple)."""

    def __init__(self, shape: EncoderShape | BaseEncoderShape, base: Base, embed: Tokens):
        super().__init__(shape)
        self._over = base, embed

    def identity(self) -> dict[str, Any]:
        """As of `StateEncoder`, with the language model's own."""
        return {**super().identity(), "base": self._over[0].fingerprint}

    def is_frozen(self) -> bool:
        """As of `StateEncoder`; if the language model is trained, so are its vectors."""
        return super().is_frozen() and not any(p.requires_grad for p in self._over[0].embed.parameters())


class EmbeddingEncoder(OverTokens):
    """A stack and a readout of ours over a language model's token vectors."""

    def __init__(self, shape: EncoderShape, base: Base, embed: Tokens):
        super().__init__(shape, base, embed)
        self.down = nn.Linear(base.width, shape.stack.width)
        self.stack = build_stack(shape.stack, shape.chunk_tokens + shape.begins)
        self.read_out(shape.stack.width)

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """As of `StateEncoder`."""
        return self.stack(self.down(self._over[1].known(ids_BT)))


class BaseEncoder(OverTokens):
    """The language model itself, without its adapter: a hidden state of one layer, read out."""

    def __init__(self, shape: BaseEncoderShape, base: Base, embed: Tokens, decoder: Any):
        super().__init__(shape, base, embed)
        if not -decoder.layers - 1 <= shape.layer <= decoder.layers:
            raise UsageError(f"{base.name} has layers 0 (embeddings) to {decoder.layers}, not {shape.layer}.")
        inner = base.lm.config.get_text_config().hidden_size
        if inner != base.width and shape.layer not in (-1, decoder.layers):  # OPT-350m: narrower at both ends
            raise UsageError(f"inner layers of {base.name} have {inner} numbers, tokens {base.width}: set layer -1.")
        self._decoder = (decoder,)
        self.read_out(base.width)

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """As of `StateEncoder`."""
        x_BTW, (decoder,) = self._over[1].known(ids_BT), self._decoder
        if not len(ids_BT):  # a text of one chunk: not every language model takes an empty batch
            return x_BTW
        with torch.set_grad_enabled(torch.is_grad_enabled() and decoder.trained):
            return decoder.states(x_BTW)[self.shape.layer]


def build_encoder(shape: EncoderConfig, base: Base, embed: Tokens, decoder: Any) -> OverTokens:
    """The encoder that `shape` describes: ours over the model's vectors, or the model itself."""
    if isinstance(shape, BaseEncoderShape):
        return BaseEncoder(shape, base, embed, decoder)
    assert isinstance(shape, EncoderShape)
    return EmbeddingEncoder(shape, base, embed)


class SoftSlots(Reader):
    """A memory is T soft tokens: unrolled by a linear map, then each by itself through a linear map and a small MLP."""

    def __init__(self, config: SoftTokens, sizes: Sizes):
        super().__init__(config, sizes)
        self.vectors = sizes.chunk_tokens
        self.bridge = SlotsBridge(sizes.chunk_tokens, sizes.memory_dim, config.width)
        self.project = nn.Linear(config.width, sizes.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, sizes.width, bias=False)
        nn.init.zeros_(self.down.weight)

    def entries(self, memory_BKM: Tensor) -> Tensor:
        """[B, K, M] -> [B, K, T, W]."""
        z_BKTd = self.bridge(memory_BKM.flatten(0, 1)).unflatten(0, memory_BKM.shape[:2])
        return self.project(z_BKTd) + self.down(F.gelu(self.up(z_BKTd)))

    def begin_as(self, vectors_VW: Tensor) -> None:
        """Outputs of the mean and about the spread of token vectors."""
        begin_as_tokens(self.project, vectors_VW)
