"""A batch of tokens becomes what a model reads and what is scored; nothing else knows what is being trained.

An objective is data, not a model: a class with `window` (how many tokens it needs for a chunk) and `__call__`
(tokens [B, window] -> `Batch`), and one row in `OBJECTIVES`. The test matrix takes a new one from there.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from memlm.memory.model import END


@dataclass(frozen=True)
class Batch:
    """What a model reads, `input_ids` [B, T], and what is scored at each place, `labels` [B, T] (-100: nothing)."""

    input_ids: Tensor
    labels: Tensor


class Objective(Protocol):
    """The protocol of an objective."""

    def window(self, chunk_tokens: int) -> int:
        """How many consecutive tokens one example needs."""
        ...

    def __call__(self, tokens_BW: Tensor) -> Batch:
        """Tokens [B, window] -> what is read and what is scored."""
        ...


class Autoencode:
    """x -> all of x, unshifted (paper, Objectives)."""

    def window(self, chunk_tokens: int) -> int:
        """A chunk."""
        return chunk_tokens

    def __call__(self, tokens_BW: Tensor) -> Batch:
        """Input and labels are the same tokens."""
        return Batch(tokens_BW, tokens_BW)


class Causal:
    """<|end|> and x -> the next token at every place, x's first token and the one after the chunk included."""

    def window(self, chunk_tokens: int) -> int:
        """A chunk and the token after it, so that the position after the last token is trained as well."""
        return chunk_tokens + 1

    def __call__(self, tokens_BW: Tensor) -> Batch:
        """Input [<|end|>, x_0 .. x_T-1], labels [x_0 .. x_T]."""
        start_B1 = torch.full_like(tokens_BW[:, :1], END)
        return Batch(torch.cat([start_B1, tokens_BW[:, :-1]], 1), tokens_BW)


OBJECTIVES: dict[str, Objective] = {"autoencode": Autoencode(), "causal": Causal()}
