"""What an objective gives, and what one is."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a model reads and what is scored.

    Args:
        input_ids: token ids [B, N].
        labels: at each place the token to be predicted there [B, N], unshifted; -100: nothing is scored.
        marks: bool [B, C], chunks that shall be answered from memory; None: there are none.
        weights: what each label counts [B, N], normalised already; None: the mean over what is scored.
        sources: which chunk of its window each chunk repeats [B, C], -1 for blanks. None: chunks that no window has.
        windows: which window each row is of [B]; None: row b is of window b.
        own_rows: so many rows at the beginning are told chunk by chunk from their own memories alone.
    """

    input_ids: Tensor
    labels: Tensor
    marks: Tensor | None = None
    weights: Tensor | None = None
    sources: Tensor | None = None
    windows: Tensor | None = None
    own_rows: int = 0

    def asked(self) -> dict[str, Any]:
        """The arguments of a model's forward pass that say what it is asked."""
        return {"input_ids": self.input_ids, "marks": self.marks, "own_rows": self.own_rows}

    def inputs(self) -> dict[str, Any]:
        """All arguments of a model's forward pass."""
        return self.asked() | {"labels": self.labels, "weights": self.weights}


class Objective(Protocol):
    """The protocol of an objective."""

    def window(self, tokens: int) -> int:
        """How many consecutive tokens of text make an example of `tokens` tokens."""
        ...

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, window] and T -> what is read and what is scored."""
        ...


def same_chunks(rows: int, chunks: int, device: torch.device) -> Tensor:
    """Sources of a text that is read as it is: [B, C]."""
    return torch.arange(chunks, device=device).expand(rows, -1)
