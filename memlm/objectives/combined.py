"""Several objectives side by side in one batch, so that together they cost one forward pass (paper, combined)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch, Objective


class Combined:
    """The weighted sum of the parts' mean losses over the same windows of text.

    Args:
        parts: objective, weight, and share: a part that is learnt soon may be of every fourth window only.
    """

    def __init__(self, parts: Sequence[tuple[Objective, float, int]]):
        self.parts = tuple(parts)

    def window(self, tokens: int) -> int:
        """As much as the longest part needs."""
        return max(part.window(tokens) for part, _, _ in self.parts)

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """The parts' rows one after the other; each label weighs its part's weight over the part's scored labels."""
        n = tokens_BW.shape[1]
        batches = [
            (part(tokens_BW[::share, : part.window(n)], chunk_tokens), weight) for part, weight, share in self.parts
        ]
        windows = [torch.arange(len(tokens_BW), device=tokens_BW.device)[::share] for *_, share in self.parts]
        chunks = n // chunk_tokens
        marks, weights, sources, own = [], [], [], []
        for batch, weight in batches:
            none = torch.zeros(len(batch.labels), chunks, dtype=torch.bool, device=tokens_BW.device)
            marks.append(none if batch.marks is None else batch.marks)
            scored = batch.labels != IGNORED
            weights.append(scored * (weight / scored.sum().clamp(min=1)))
            sources.append(batch.sources)
            own.append(torch.zeros_like(scored[:, 0]) if batch.own is None else batch.own)
        return Batch(
            torch.cat([batch.input_ids for batch, _ in batches]),
            torch.cat([batch.labels for batch, _ in batches]),
            torch.cat(marks) if any(batch.marks is not None for batch, _ in batches) else None,
            torch.cat(weights),
            None if any(source is None for source in sources) else torch.cat(sources),
            torch.cat(windows),
            torch.cat(own) if any(batch.own is not None for batch, _ in batches) else None,
        )
