"""Several objectives side by side in one batch, so that together they cost one forward pass (paper, combined)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch, Objective


class Combined(Objective):
    """The weighted sum of the parts' mean losses over the same windows of text.

    Args:
        parts: objective, weight, and share: a part that is learnt soon may be of every fourth window only.
    """

    def __init__(self, parts: Sequence[tuple[Objective, float, int]]):
        self.parts = tuple(parts)

    def window(self, tokens: int) -> int:
        """As much as the longest part needs."""
        return max(part.window(tokens) for part, _, _ in self.parts)

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """As `__call__` without chunks that are only remembered."""
        return self(tokens_BW, chunk_tokens)

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int, remembered: int = 0) -> Batch:
        """The parts' rows one after the other, those of their own memories first.

        Each label weighs its part's weight over the part's scored labels.
        """
        before, device = remembered * chunk_tokens, tokens_BW.device
        n = tokens_BW.shape[1] - before
        rows = torch.arange(len(tokens_BW), device=device)
        made = [
            (part(tokens_BW[::share, : before + part.window(n)], chunk_tokens, remembered), weight, rows[::share])
            for part, weight, share in self.parts
        ]
        made.sort(key=lambda part: not part[0].own_rows)
        marks, weights, sources = [], [], []
        for batch, weight, _ in made:
            none = torch.zeros(len(batch.labels), remembered + n // chunk_tokens, dtype=torch.bool, device=device)
            marks.append(none if batch.marks is None else batch.marks)
            scored = batch.labels != IGNORED
            weights.append(scored * (weight / scored.sum().clamp(min=1)))
            sources.append(batch.sources)
        batches = [batch for batch, *_ in made]
        return Batch(
            torch.cat([batch.input_ids for batch in batches]),
            torch.cat([batch.labels for batch in batches]),
            torch.cat(marks) if any(batch.marks is not None for batch in batches) else None,
            torch.cat(weights),
            None if any(source is None for source in sources) else torch.cat(sources),
            torch.cat([windows for *_, windows in made]),
            sum(batch.own_rows for batch in batches),
            remembered,
        )
