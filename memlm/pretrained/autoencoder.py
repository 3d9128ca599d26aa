"""An autoencoder of a language model's own token vectors, trained without running the language model.

A chunk's vectors become one memory, and the memory becomes soft tokens (pretrained/soft.py). Which token one of them
is, is told by which token's vector is nearest: logits are minus half the squared distance, in units of `SHARE` of what
lies between two tokens. So what is learnt is not only to tell tokens apart, but to come near them, near enough for a
language model that has never seen soft tokens. A step tells the batch's tokens apart from each other and from a few
thousand more.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from memlm.models.model import Given, MemoryOutput, Predicted
from memlm.nn.loss import IGNORED, token_loss
from memlm.nn.rows import all_rows
from memlm.nn.vocabulary import PAD
from memlm.pretrained.base import Tokens
from memlm.pretrained.over import OverBase
from memlm.pretrained.shapes import SoftAutoencoderShape
from memlm.pretrained.soft import EmbeddingEncoder, SoftSlots

SHARE = 1 / 16


class SoftAutoencoder(OverBase, shape=SoftAutoencoderShape):
    """token vectors -> encoder -> memory -> soft tokens -> the nearest tokens."""

    base_part = "table"

    def build(self, shape: SoftAutoencoderShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        super().build(shape, vocab_size)
        self.negatives = shape.negatives
        self.table = self.base.embed  # of the language model nothing else is needed
        self.embed = Tokens(self.base).requires_grad_(False)
        self.encoder = EmbeddingEncoder(shape.encoder, self.base, self.embed)
        self.read_soft(shape.decoder, 0)
        if shape.encoder.stack.width == shape.decoder.width and shape.encoder.readout == "slots":
            self._begin_linear()

    @torch.no_grad()
    def _begin_linear(self) -> None:
        """Begin as the best linear autoencoder of single vectors: their principal components, side by side, turned."""
        vectors_VW, encoder, reader = self.base.vectors(), self.encoder, cast(SoftSlots, self.reader)
        mean_W = vectors_VW.mean(0)
        value_W, part_WW = torch.linalg.eigh((vectors_VW - mean_W).T @ (vectors_VW - mean_W) / len(vectors_VW))
        value_d, part_Wd = value_W[-encoder.down.out_features :], part_WW[:, -encoder.down.out_features :]
        encoder.down.weight.copy_(part_Wd.T)
        encoder.down.bias.copy_(-mean_W @ part_Wd)
        turn, back = cast(nn.Linear, encoder.readout.project), cast(nn.Linear, reader.bridge.project)
        nn.init.orthogonal_(turn.weight)
        turn.bias.zero_()
        back.weight.copy_(value_d.mean().sqrt() * turn.weight.T)  # which the norm of the memory takes away
        back.bias.zero_()
        reader.project.weight.copy_(part_Wd)

    def decode(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] for all the chunk's positions."""
        return self.base.ours(self._near(self.soft(memory_BM), self.base.vectors()))

    @property
    def recall(self):  # noqa: D102  as of `TextMemory`
        return self.decode

    def soft(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> soft tokens [B, T, W]."""
        return self.reader.entries(memory_BM[:, None])[:, 0]

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from the memory of its chunk, N <= chunk_tokens."""
        memory_BM = self.encode(given.ids_BN)
        return Predicted(self.decode(memory_BM)[:, : given.ids_BN.shape[1]], memory_BM[:, None])

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, weights: Tensor | None = None, *args: Any, **asked: Any
    ) -> MemoryOutput:
        """As of `TextMemory`; in training tokens are told apart from some others alone, and there are no logits."""
        if not self.training or labels is None:
            return super().forward(input_ids, labels, weights, *args, **asked)
        memory_BM = self.encode(input_ids)
        return MemoryOutput(loss=self._loss(self.soft(memory_BM), labels, weights), memories=memory_BM[:, None])

    def _loss(self, soft_BTW: Tensor, labels_BT: Tensor, weights_BT: Tensor | None) -> Tensor:
        """What it costs to tell the tokens of the batch and some others apart, and how far soft tokens are off."""
        own_BT = self.base.own(labels_BT.clamp(min=PAD))
        others = torch.randint(self.base.vocab_size - 2, (self.negatives,), device=own_BT.device)
        among_K = torch.cat([all_rows(own_BT).flatten(), others]).unique()
        place_BT = torch.searchsorted(among_K, own_BT).where(labels_BT != IGNORED, IGNORED)
        soft_BTW, vectors_KW = soft_BTW[:, : own_BT.shape[1]], self.base.vectors()[among_K]
        scored_BT = (place_BT != IGNORED).float()
        share_BT = scored_BT / scored_BT.sum().clamp(min=1) if weights_BT is None else weights_BT
        off_BT = (soft_BTW - vectors_KW[place_BT.clamp(min=0)]).square().sum(-1) / self._unit(vectors_KW)
        return token_loss(self._near(soft_BTW, vectors_KW), place_BT, weights_BT) + (share_BT * off_BT).sum()

    def _near(self, soft_BTW: Tensor, vectors_KW: Tensor) -> Tensor:
        """Logits [B, T, K]; what the squared distance has in common for all tokens is left out."""
        return (soft_BTW @ vectors_KW.T - vectors_KW.square().sum(1) / 2) / self._unit(vectors_KW)

    def _unit(self, vectors_KW: Tensor) -> Tensor:
        return SHARE * 2 * vectors_KW.var(0).sum()  # two tokens' mean squared distance is twice their variance
