"""Chunks that do not encode to their memories, searched for: single tokens are exchanged while that brings them nearer.

The tokens that the decoder is least certain of are exchanged for those that it holds next likeliest, one at a time, the
best of all first, until a chunk encodes to its memory or no exchange helps; then more tokens, and more for each, are
tried. Nothing else is known of the text. A chunk of which the decoder itself expects a third to be wrong, or more than
are exchanged, is left as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

AT_ONCE = 64  # chunks


@dataclass(frozen=True)
class Search:
    """How much is tried, and what agrees.

    Attributes:
        stages: how many places of a chunk are tried, and how many tokens at each.
        most: exchanges in a stage; a chunk with more wrong tokens is not searched for.
        nearer: what an exchange leaves of the distance, at most.
        agree: the distance, as a share of a memory's squares, from which on nothing is searched for.
    """

    stages: tuple[tuple[int, int], ...]
    most: int
    nearer: float
    agree: float

    @property
    def choices(self) -> int:
        """The likeliest tokens of a place that are asked for."""
        return max(choices for _, choices in self.stages)

    def worth(self, log_BT: Tensor, off_B: Tensor) -> Tensor:
        """Which chunks are searched for [B], by the logs of the decoder's probabilities, inf beyond its tokens."""
        tokens_B = (log_BT < torch.inf).sum(-1)
        wrong_B = (1 - log_BT.exp()).clamp(min=0).sum(-1)
        return (off_B > self.agree) & (wrong_B <= (tokens_B / 3).clamp(max=self.most))

    def improve(
        self,
        words_BT: Tensor,
        off_B: Tensor,
        worth_B: Tensor,
        token_BTC: Tensor,
        log_BT: Tensor,
        off: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Change the tokens of chunks that are worth it, and how far off they are, in place.

        Args:
            words_BT: their tokens.
            off_B: how far off they are.
            worth_B: of which.
            token_BTC: the likeliest tokens of every place, the likeliest first.
            log_BT: the logs of the probabilities of the first of them; inf beyond a chunk's tokens.
            off: tokens [n, X, T] of the memories of these numbers [n] -> how far off they are [n, X].
        """
        for places, choices in self.stages:
            for some_n in (worth_B & (off_B > self.agree)).nonzero()[:, 0].split(AT_ONCE):
                place_nP = log_BT[some_n].argsort(stable=True, dim=-1)[:, :places]
                token_nPC = token_BTC[..., :choices][some_n[:, None], place_nP]
                place_nX, token_nX = place_nP.repeat_interleave(token_nPC.shape[-1], 1), token_nPC.flatten(1)
                for _ in range(self.most):
                    tried_nXT = words_BT[some_n][:, None].repeat(1, place_nX.shape[1], 1)
                    tried_nXT.scatter_(2, place_nX[..., None], token_nX[..., None])
                    best_n, at_n = off(tried_nXT, some_n).min(-1)
                    nearer_n = best_n < off_B[some_n] * self.nearer
                    if not nearer_n.any():
                        break
                    words_BT[some_n[nearer_n]] = tried_nXT[nearer_n, at_n[nearer_n]]
                    off_B[some_n[nearer_n]] = best_n[nearer_n]
                    left_n = nearer_n & (off_B[some_n] > self.agree)
                    some_n, place_nX, token_nX = some_n[left_n], place_nX[left_n], token_nX[left_n]
                    if not len(some_n):
                        break
