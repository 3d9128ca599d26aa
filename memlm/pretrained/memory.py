"""A memory model whose decoder is a causal language model of others (paper, Published numbers: Llama as decoder).

What is unusual beside our own memory model, all of whose ways of training, measuring and generating it has:
- the decoder's weights are frozen but for LoRA, or all trained, and are never saved here if they are frozen;
- memories enter as soft tokens of the decoder's width, at positions before the text's own, under the same masks;
- LoRA works only where memories are read: without any, the base model's outputs are unchanged to the bit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.errors import UsageError
from memlm.models.memory_model import ReadsMemories
from memlm.models.model import Given, Predicted
from memlm.pretrained.adapter import Adapter
from memlm.pretrained.base import Head, Nowhere, Starts, Tokens
from memlm.pretrained.over import OverBase
from memlm.pretrained.shapes import PretrainedShape
from memlm.pretrained.soft import build_encoder
from memlm.pretrained.stack import PretrainedStack
from memlm.readers.placing import Placing


class PretrainedMemory(OverBase, ReadsMemories, shape=PretrainedShape):  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """chunks -> memories -> soft tokens before a chunk -> the language model -> logits over our ids."""

    base_part = "decoder"

    def build(self, shape: PretrainedShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        super().build(shape, vocab_size)
        T, self.base_trained = shape.chunk_tokens, shape.decoder.trained
        self.has_base = not self.base_trained  # which is not there any more
        lm = self.base.lm.requires_grad_(shape.decoder.trained)
        self.embed = Tokens(self.base)
        self.start = Starts(self.base)
        self.go_on = nn.Parameter(torch.zeros(self.base.width))  # added to the start of a chunk that reads memories
        self.place = Nowhere(T)
        self.head = Head(self.base)
        rank, targets = shape.decoder.lora_rank, shape.decoder.lora_targets
        self.adapter = Adapter(lm, rank, targets) if rank else None
        self.decoder = PretrainedStack(lm, T, self.adapter, shape.decoder.trained)
        self.read_soft(shape.reader, self.decoder.layers)
        self.encoder = build_encoder(shape.encoder, self.base, self.embed, self.decoder)
        self.placing = Placing(T, self.reader.vectors, shape.positions, shape.chunks)
        # Learned positions end somewhere; rotary ones only become strange there, but are not asked to either.
        self.base_positions = self.base.most_tokens
        if self.base_positions is not None and shape.window_tokens > self.base_positions:
            raise UsageError(
                f"{shape.base} has {self.base_positions} positions, too few for {shape.chunks} chunks of {T} tokens: "
                "choose fewer or shorter chunks."
            )

    @property
    def start_of_reading(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As of `ChunkModel`."""
        return self.go_on

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`; a text of one chunk that reads nothing is not even padded: sizes decide bits."""
        ids_BN, marks_BC = given.ids_BN, given.marks_BC
        reads = given.read and given.memory_BKM is not None and given.memory_BKM.shape[1] > 0
        if reads or not 0 < ids_BN.shape[1] <= self.chunk_tokens:
            return super().predict(given)
        logits_BNV = self.base_logits(ids_BN, None if marks_BC is None else marks_BC[:, :1])
        return Predicted(logits_BNV, logits_BNV.new_zeros(len(ids_BN), 0, self.memory_dim))

    def base_logits(self, ids_BN: Tensor, marks_B1: Tensor | None = None) -> Tensor:
        """Logits [B, N, V] of the base by itself, each at the place of the token it predicts: as a text is read that
        has no chunks, all of its tokens as context, without memories or adapter. Padding may stand at the right.
        UsageError where the base has no positions for so many tokens.
        """
        most, tokens = self.base_positions, ids_BN.shape[1]
        if most is not None and tokens > most:
            raise UsageError(f"the base model has {most} positions, too few for {tokens} tokens.")
        before_BN = F.pad(ids_BN, (1, 0), value=-1)[:, :-1]
        place_N = torch.arange(tokens, device=ids_BN.device)
        return self.head(self.decoder(self.inputs(before_BN, place_N, marks_B1)))

    def most_tokens(self, memories: int = 0) -> int | None:
        """As of `Generative`: as many as the base has positions for."""
        if self.base_positions is None:
            return None
        T = self.chunk_tokens
        step = T if self.placing.scheme == "original" else self.reader.vectors
        return max(0, (self.base_positions - T) // step + 1 - memories) * T
