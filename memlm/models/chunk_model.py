"""What all decoders over chunks share: what a chunk begins with, and a prediction at every place of it.

What stands at place n of a chunk is the prediction of its token n, so that every token is predicted, the first too:
place 0 is a start slot. A marked start slot says that the chunk shall be answered from memory. This stands once, for
training and cached generation, memory models, baselines and decoders of others.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.models.model import Generative
from memlm.nn.vocabulary import token_embedding


class ChunkModel(Generative):
    """A decoder, and the embeddings of what it reads.

    Attributes:
        embed: token ids -> [..., W].
        start: 0, or 1 of a marked chunk -> what stands before its first token [..., W].
        place: places in a chunk -> [..., W].
        start_holds_last: whether a start slot holds the last token of the chunk before, too.
        start_of_reading: added to the start slot of a chunk that reads memories; None: nothing is.
    """

    embed: nn.Module
    start: nn.Module
    place: nn.Module
    decoder: Any  # a `Stack`, or what has its face
    head: nn.Module
    start_holds_last = False
    start_of_reading: Tensor | None = None

    def make_inputs(self, width: int) -> None:
        """Start slots and places of our own; made after `embed`, since the draws of a seed have an order."""
        self.start = token_embedding(2, width)
        self.place = token_embedding(self.chunk_tokens, width)

    def inputs(
        self, before_BQ: Tensor, place_RQ: Tensor, marks_BQ: Tensor | None = None, reads_RQ: Tensor | None = None
    ) -> Tensor:
        """What the decoder reads at places of chunks [B, Q, W].

        Args:
            before_BQ: the token before each place, -1 where there is none; looked at beyond place 0, and at it too if
                `start_holds_last`.
            place_RQ: their places in their chunks, of a shape that broadcasts.
            marks_BQ: above 0 where their chunks are marked, of a shape that broadcasts.
            reads_RQ: whether their chunks read any memory, likewise.
        """
        marks_BQ = torch.zeros_like(place_RQ) if marks_BQ is None else (marks_BQ > 0).long()
        start_BQW, token_BQW = self.start(marks_BQ), self.embed(before_BQ.clamp(min=0))
        if self.start_holds_last:
            start_BQW = start_BQW + token_BQW * (before_BQ >= 0)[..., None]
        if self.start_of_reading is not None and reads_RQ is not None:
            start_BQW = start_BQW + reads_RQ[..., None] * self.start_of_reading
        return torch.where((place_RQ == 0)[..., None], start_BQW, token_BQW) + self.place(place_RQ)

    def embed_chunks(self, ids_BCT: Tensor, marks_BC: Tensor | None = None, reads_C: Tensor | None = None) -> Tensor:
        """What the decoder reads of each chunk: its start slot, then its tokens but the last. [B, C, T, W]."""
        before_BCT = F.pad(ids_BCT.flatten(1), (1, 0), value=-1)[:, :-1].unflatten(1, ids_BCT.shape[1:])
        place_T = torch.arange(ids_BCT.shape[2], device=ids_BCT.device)
        marks_BC1 = None if marks_BC is None else marks_BC[..., None]
        return self.inputs(before_BCT, place_T, marks_BC1, None if reads_C is None else reads_C[:, None])
