"""Autoencoder: a chunk of tokens -> one vector -> the same tokens, all of them in one pass.

What is unusual:
- the tokens come out side by side; none is fed back, so free running and teacher forcing are the same thing;
- the memory is the only way from encoder to decoder: what comes out was in it;
- readout and bridge `slots` are ours: one full-rank linear map in each direction (see memory/readout.py).
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from memlm.huggingface import ModelOutput, register
from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.memory.encoder import ChunkEncoder
from memlm.models.model import ShapeConfig, TextMemory
from memlm.models.shapes import AutoencoderShape
from memlm.nn.loss import token_loss


class AutoencoderConfig(ShapeConfig[AutoencoderShape]):
    """The Hugging Face config of an `Autoencoder`."""

    model_type = "memlm-autoencoder"
    shape_class = AutoencoderShape


@dataclass
class AutoencoderOutput(ModelOutput):
    """What a forward pass gives: `loss` (nats per scored token), `logits` [B, T, V], `memory` [B, M]."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    memory: Tensor | None = None


class Autoencoder(TextMemory):
    """tokens -> encoder -> readout -> memory -> bridge -> decoder -> head (paper, Autoencoder)."""

    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig):
        super().__init__(config)
        shape = cast(AutoencoderShape, config.read_shape())
        self.chunk_tokens, self.memory_dim = shape.chunk_tokens, shape.memory_dim
        T, M = shape.chunk_tokens, shape.memory_dim
        self.encoder = ChunkEncoder(shape.encoder_shape, config.vocab_size)
        self.decoder = ChunkDecoder(T, M, shape.bridge, shape.decoder, config.vocab_size)
        self.post_init()

    def decode(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] for all the chunk's positions."""
        return self.decoder(memory_BM)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        own: Tensor | None = None,
    ) -> AutoencoderOutput:
        """Encode and decode.

        Args:
            input_ids: token ids [B, T], T <= chunk_tokens, padded at the end with id 0.
            labels: token ids [B, T] to score, -100 where nothing is scored; unshifted.
            weights: what a label counts [B, T]; the mean over the scored ones by default.
            own: which rows are told from their own memory [B]; here all are, whatever it says.
        """
        memory_BM = self.encode(input_ids)
        logits_BTV = self.decode(memory_BM)[:, : input_ids.shape[1]]
        loss = None if labels is None else token_loss(logits_BTV, labels, weights)
        return AutoencoderOutput(loss=loss, logits=logits_BTV, memory=memory_BM)


register(AutoencoderConfig, Autoencoder)
