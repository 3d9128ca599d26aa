"""Examples after a long text: many chunks are only remembered, few are predicted.

A chunk that is remembered costs an encoder's pass, or a look at the disk, and nothing of the decoder, so that contexts
of a thousand chunks cost little more than those of four.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from memlm.objectives.batch import Batch, Objective
from memlm.objectives.noise import seeded_by


class AfterContext(Objective):
    """An objective after 1 to `most` chunks, as many in all rows of a batch, their logarithm drawn uniformly.

    Args:
        objective: of what is predicted.
        most: chunks at most.
        chunk_tokens: T.
    """

    def __init__(self, objective: Objective, most: int, chunk_tokens: int):
        self.objective, self.most, self.chunk_tokens = objective, most, chunk_tokens

    def window(self, tokens: int) -> int:
        """Room for the longest context."""
        return self.most * self.chunk_tokens + self.objective.window(tokens)

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Of a window whose context is short the last part is read."""
        drawn = torch.rand((), generator=seeded_by(tokens_BW)).item()
        K = min(self.most, math.floor(math.exp(drawn * math.log(self.most + 1))))
        unread = self.most - K
        batch = self.objective(tokens_BW[:, unread * chunk_tokens :], chunk_tokens, K)
        if batch.sources is None:
            return batch
        return replace(batch, sources=torch.where(batch.sources < 0, batch.sources, batch.sources + unread))
