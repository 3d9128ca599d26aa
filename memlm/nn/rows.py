"""A batch that several processes share, seen from a layer that draws numbers or compares rows with one another.

Process r of w has rows r, r + w, r + 2 w, ... of a batch. Their generators stay in step: each draws for the whole batch
and keeps its own rows, so that what is drawn does not depend on how many there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from memlm.errors import UsageError

_SHARE: list[tuple[int, int, int]] = []  # of the forward pass under way: r, w, and rows of this process


@contextmanager
def shared_by(rank: int, world: int, rows: int) -> Iterator[None]:
    """A block in which process `rank` of `world` runs a model over its `rows` rows of a batch."""
    _SHARE.append((rank, world, rows))
    try:
        yield
    finally:
        _SHARE.pop()


def noise_like(x_BM: Tensor) -> Tensor:
    """Standard normal numbers [B, M] of rows that stand for rows of the batch.

    Raises:
        UsageError: they stand for something else, and several processes share the batch.
    """
    if (share := _shared(x_BM)) is None:
        return torch.randn_like(x_BM)
    rank, world = share
    drawn = torch.randn(len(x_BM), world, *x_BM.shape[1:], dtype=x_BM.dtype, device=x_BM.device)
    return drawn[:, rank]


def all_rows(x_BN: Tensor) -> Tensor:
    """Rows of whole numbers of all processes [w, B, N], those of this one at its rank.

    Raises:
        UsageError: as `noise_like`.
    """
    if (share := _shared(x_BN)) is None:
        return x_BN[None]
    parts = [torch.empty_like(x_BN) for _ in range(share[1])]
    torch.distributed.all_gather(parts, x_BN.contiguous())
    return torch.stack(parts)


def _shared(x_BM: Tensor) -> tuple[int, int] | None:
    rank, world, rows = _SHARE[-1] if _SHARE else (0, 1, 0)
    if world == 1:
        return None
    if len(x_BM) != rows:
        raise UsageError("what this model draws for parts of rows cannot be shared by processes: train it with one.")
    return rank, world
