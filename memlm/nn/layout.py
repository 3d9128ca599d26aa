"""Where the entries of a sequence stand and what each may see: the one thing a stack is told about its input.

Without a layout a sequence stands at 0..T-1 and is causal. A layout says anything else: several sequences packed
into one under a rule of chunks, entries at positions of their own, or entries that see a cache of earlier ones.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from memlm.nn.cache import LayerCache
from memlm.nn.chunks import Chunks


@dataclass(frozen=True)
class Layout:
    """Q entries are computed; each sees some of P entries.

    Args:
        positions: long [Q] or [B, Q], where the entries stand: rotary positions, or rows of a mixer's weights.
        mask: bool [Q, P] or [B, Q, P], True where entry q sees entry p, and every entry sees at least one; or a rule by
            which the Q entries see each other, and nothing else that a cache holds.
        seen: long [P] or [B, P], where the P entries stand, for a mixer; None: they are the Q entries themselves.
        slots: long [Q] or [B, Q], at which of the P places of a cache the entries are kept; None: there is no cache.
        prefix: which of the P entries are read and never predicted from: memories, say.
    """

    positions: Tensor
    mask: Tensor | Chunks
    seen: Tensor | None = None
    slots: Tensor | None = None
    prefix: slice = field(default_factory=lambda: slice(0))
    made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # for it, by stacks, once

    def keep(self, cache: LayerCache | None, *new: Tensor) -> tuple[Tensor, ...]:
        """Write what a layer has of the entries, each [B, ..., Q, K], into its cache, if there is one.

        Returns:
            Of what the entries see the same: all that is kept, or `new` where they see each other alone.
        """
        if cache is None or self.slots is None:
            return new
        kept = cache.update(self.slots, *new)
        return new if isinstance(self.mask, Chunks) else kept

    @cached_property
    def whole_mask(self) -> Tensor:
        """The mask, or what the rule says as one: for short sequences."""
        if not isinstance(self.mask, Chunks):
            return self.mask
        with torch.inference_mode(False):  # as below
            return self.mask.mask(self.positions.device)

    def weights(self, weight: Tensor) -> Tensor:
        """A mixer's weights [..., N, N] for these entries: gathered by position and masked, [..., Q, P].

        With a mask [B, Q, P] of its own for every sequence there is a batch in front: [B, ..., Q, P]; positions of
        its own for every sequence need such a mask.
        """
        rows, columns = self.positions, self.positions if self.seen is None else self.seen
        mask = self.whole_mask
        lead = [1] * (weight.ndim - 2)
        if rows.ndim == columns.ndim == 1:
            gathered = weight[..., rows[:, None], columns[None, :]]
        else:
            rows, columns = rows.expand(len(mask), -1), columns.expand(len(mask), -1)
            gathered = weight[..., rows[:, :, None], columns[:, None, :]].movedim(len(lead), 0)
        return gathered * (mask if mask.ndim == 2 else mask.reshape(len(mask), *lead, *mask.shape[1:]))


def rotary_tables(positions: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin [..., K/2] of the angles of `positions` [...], in fp32."""
    frequency = base ** (-torch.arange(0, head_width, 2, device=positions.device).float() / head_width)
    angle = positions.float()[..., None] * frequency
    return angle.cos(), angle.sin()
