"""What an objective gives, and what one is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.nn.loss import IGNORED, mean_of

BLANK, MADE = -1, -2  # chunks of padding, and chunks that are made up


@dataclass(frozen=True)
class Batch:
    """What a model reads and what is scored.

    Args:
        input_ids: token ids [B, N].
        labels: at each place the token to be predicted there [B, N], unshifted; -100: nothing is scored.
        marks: bool [B, C], chunks that shall be answered from memory; None: there are none.
        weights: what each label counts [B, N], normalised already; None: the mean over what is scored.
        sources: which chunk of its window each chunk repeats [B, C], `BLANK` or `MADE` of what no window has. None: it
            is not known of any.
        windows: which window each row is of [B]; None: row b is of window b.
        own_rows: so many rows at the beginning are told chunk by chunk from their own memories alone.
        remembered: so many chunks at the beginning are read and not predicted.
        holders: the number of the chunk that tells what is asked at each place [B, N], -1 where none does; None: it is
            not known.
    """

    input_ids: Tensor
    labels: Tensor
    marks: Tensor | None = None
    weights: Tensor | None = None
    sources: Tensor | None = None
    windows: Tensor | None = None
    own_rows: int = 0
    remembered: int = 0
    holders: Tensor | None = None
    even: bool = True

    def asked(self) -> dict[str, Any]:
        """The arguments of a model's forward pass that say what it is asked."""
        return {name: getattr(self, name) for name in ("input_ids", "marks", "own_rows", "remembered")}

    def inputs(self) -> dict[str, Any]:
        """All arguments of a model's forward pass."""
        return self.asked() | {"labels": self.labels, "weights": self.weights}

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in moved.items() if isinstance(v, Tensor)})

    def share(self, index: int, of: int) -> "Batch":
        """Part `index` of `of`, each every `of`th row; its weights are those of the whole, so that losses add up.

        All parts have as many rows of either sort, the last ones perhaps one in which nothing is scored: whoever trains
        them together waits for nothing that does not come.
        """
        if of == 1:
            return self
        sorts = torch.arange(len(self.labels)).tensor_split([self.own_rows])
        rows = [F.pad(sort, (0, -len(sort) % of), value=int(sort[0]) if len(sort) else 0)[index::of] for sort in sorts]
        scored = [(F.pad(torch.ones_like(sort), (0, -len(sort) % of)) > 0)[index::of] for sort in sorts]
        rows_R, scored_R1 = torch.cat(rows), torch.cat(scored)[:, None]
        weights = mean_of(self.labels) if self.weights is None else self.weights
        windows = torch.arange(len(self.labels)) if self.windows is None else self.windows
        changed = {
            "labels": self.labels[rows_R].where(scored_R1, IGNORED),
            "weights": weights[rows_R] * scored_R1,
            "windows": windows[rows_R],
            "own_rows": len(rows[0]),
            "even": not any(len(sort) % of for sort in sorts),
        }
        for name in ("input_ids", "marks", "sources", "holders"):
            changed[name] = None if getattr(self, name) is None else getattr(self, name)[rows_R]
        return replace(self, **changed)

    def after(self, text_Bn: Tensor, chunks: int) -> "Batch":
        """The same after `chunks` whole chunks of its windows [B, n] that are only remembered."""
        text_Bn = text_Bn if self.windows is None else text_Bn[self.windows]
        before = (text_Bn.shape[1], 0)
        sources = None
        if self.sources is not None:
            later_BC = torch.where(self.sources < 0, self.sources, self.sources + chunks)
            sources = torch.cat([same_chunks(len(text_Bn), chunks, text_Bn.device), later_BC], 1)
        return replace(
            self,
            input_ids=torch.cat([text_Bn, self.input_ids], 1),
            labels=F.pad(self.labels, before, value=IGNORED),
            marks=None if self.marks is None else F.pad(self.marks, (chunks, 0)),
            weights=None if self.weights is None else F.pad(self.weights, before),
            sources=sources,
            remembered=chunks,
        )


class Objective(ABC):
    """Windows of text -> what is read and what is scored."""

    def window(self, tokens: int) -> int:
        """How many consecutive tokens of text make an example of `tokens` tokens; by default all of them."""
        return tokens

    @abstractmethod
    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, window] and T -> what is read and what is scored."""

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int, remembered: int = 0) -> Batch:
        """The same after so many chunks of the windows that are only remembered."""
        n = remembered * chunk_tokens
        batch = self.make(tokens_BW[:, n:], chunk_tokens)
        return batch.after(tokens_BW[:, :n], remembered) if n else batch


def same_chunks(rows: int, chunks: int, device: torch.device) -> Tensor:
    """Sources of a text that is read as it is: [B, C]."""
    return torch.arange(chunks, device=device).expand(rows, -1)
