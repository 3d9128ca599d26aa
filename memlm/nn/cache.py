"""What later entries need of earlier ones, kept layer by layer: keys and values of attention, inputs of mixing.

A cache has a fixed number of places that its owner hands out and can grow; which places are in use is the owner's
knowledge (it goes into a layout's mask), so that places can be given up and written again without moving anything.
"""

from torch import Tensor
from torch.nn import functional as F


class LayerCache:
    """The tensors of one layer, each [B, ..., P, K]."""

    def __init__(self, places: int):
        self.places = places
        self.tensors: tuple[Tensor, ...] = ()

    def update(self, slots: Tensor, *new: Tensor) -> tuple[Tensor, ...]:
        """Write `new`, each [B, ..., Q, K], at the places `slots` ([Q] or [B, Q]); returns everything kept."""
        if not self.tensors:
            self.tensors = tuple(t.new_zeros(*t.shape[:-2], self.places, t.shape[-1]) for t in new)
        for kept, t in zip(self.tensors, new, strict=True):
            if slots.ndim == 1:
                kept.index_copy_(-2, slots, t)
            else:
                index = slots.reshape(len(slots), *[1] * (t.ndim - 3), slots.shape[1], 1)
                kept.scatter_(-2, index.expand_as(t), t)
        return self.tensors


class Cache:
    """One `LayerCache` for each of a stack's layers.

    Args:
        layers: how many.
        places: P, how many entries can be kept.
    """

    def __init__(self, layers: int, places: int):
        self.layers = [LayerCache(places) for _ in range(layers)]

    @property
    def places(self) -> int:
        """How many entries can be kept."""
        return self.layers[0].places if self.layers else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(t.nbytes for layer in self.layers for t in layer.tensors)

    def grow(self, places: int) -> None:
        """Add `places` empty places at the end."""
        for layer in self.layers:
            layer.places += places
            layer.tensors = tuple(F.pad(t, (0, 0, 0, places)) for t in layer.tensors)

    def rows(self, index: Tensor) -> "Cache":
        """A copy for the sequences `index` [b] of the batch."""
        out = Cache(len(self.layers), self.places)
        for mine, theirs in zip(self.layers, out.layers, strict=True):
            theirs.tensors = tuple(t[index] for t in mine.tensors)
        return out

    def put_rows(self, index: Tensor, rows: "Cache") -> None:
        """Write back what `rows` gave."""
        for mine, theirs in zip(self.layers, rows.layers, strict=True):
            for kept, t in zip(mine.tensors, theirs.tensors, strict=True):
                kept[index] = t
