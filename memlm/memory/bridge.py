"""One memory vector -> the decoder's input, a vector for each of the T positions.

A new bridge is a class and a row in `BRIDGES` (memory/encoder_shape.py).
"""

import torch
from torch import Tensor, nn

from memlm.nn.rows import noise_like


class Repeat(nn.Module):
    """z_t = e at every position (paper, Autoencoder); only a mixer, whose weights know positions, can use it."""

    def __init__(self, tokens: int, memory_dim: int, width: int):
        super().__init__()
        self.tokens = tokens
        self.project = nn.Identity() if width == memory_dim else nn.Linear(memory_dim, width)

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, D]."""
        return self.project(memory_BM)[:, None].expand(-1, self.tokens, -1)


class Unroll(nn.Module):
    """z_t = P e[t mod D : t mod D + D/2], the window wrapping around, P: D/2 -> D shared (paper, Autoencoder)."""

    def __init__(self, tokens: int, memory_dim: int, width: int):
        super().__init__()
        self.tokens, self.window = tokens, max(1, width // 2)
        self.expand = nn.Identity() if width == memory_dim else nn.Linear(memory_dim, width)
        self.project = nn.Linear(self.window, width)

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, D]."""
        e_BD = self.expand(memory_BM)
        D = e_BD.shape[1]
        window_BDW = torch.cat([e_BD, e_BD[:, : self.window - 1]], 1).unfold(1, self.window, 1)
        return self.project(torch.cat([window_BDW] * -(-self.tokens // D), 1)[:, : self.tokens])


class SlotsBridge(nn.Module):
    """One linear map M -> T*D: every position has its own full-rank view of the whole memory."""

    def __init__(self, tokens: int, memory_dim: int, width: int):
        super().__init__()
        self.tokens = tokens
        self.project = nn.Linear(memory_dim, tokens * width)

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, D]."""
        return self.project(memory_BM).unflatten(-1, (self.tokens, -1))


class NoisySlotsBridge(SlotsBridge):
    """`SlotsBridge` that adds Gaussian noise to memories while it is trained, so that they can be kept in fewer bits.

    The noise has `NOISE` times the deviation of a normalised memory, about twice what rounding to 4 bits makes (paper,
    Quantising: noise before the bottleneck).
    """

    NOISE = 0.25

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, D]."""
        noise_BM = self.NOISE * noise_like(memory_BM) if self.training else torch.zeros_like(memory_BM)
        return super().forward(memory_BM + noise_BM)


class NestedSlotsBridge(SlotsBridge):
    """`SlotsBridge` for memories whose first numbers are memories by themselves.

    While it is trained, each memory is cut to a quarter or a half of its numbers, or to none; a shorter memory is
    one with zeros in the place of the rest ([Kusupati et al. 2022](https://arxiv.org/abs/2205.13147) score all lengths
    of every example instead).
    """

    def __init__(self, tokens: int, memory_dim: int, width: int):
        super().__init__(tokens, memory_dim, width)
        self.sizes = tuple(sorted({max(1, memory_dim // 4), max(1, memory_dim // 2), memory_dim}))

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, D]."""
        if self.training:
            drawn_B1 = torch.special.ndtr(noise_like(memory_BM[:, :1])) * len(self.sizes)  # between 0 and 3
            size_B1 = torch.tensor(self.sizes, device=memory_BM.device)[drawn_B1.long().clamp(max=len(self.sizes) - 1)]
            place_M = torch.arange(memory_BM.shape[1], device=memory_BM.device)
            memory_BM = memory_BM * (place_M < size_B1).to(memory_BM.dtype)
        return super().forward(memory_BM)
