"""Hidden states of a chunk -> one memory vector.

A new readout is a class and a row in `READOUTS` (memory/encoder_shape.py).
"""

import torch
from torch import Tensor, nn


class Last(nn.Module):
    """The hidden state at the last position that holds a token (the paper's readout), then the bottleneck."""

    def __init__(self, tokens: int, width: int, memory_dim: int):
        super().__init__()
        self.project = nn.Identity() if width == memory_dim else nn.Linear(width, memory_dim)

    def forward(self, h_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """[B, T, D] and which positions hold a token [B, T] -> memory [B, M]."""
        last_B = (valid_BT.sum(1) - 1).clamp(min=0)
        return self.project(h_BTD[torch.arange(len(h_BTD), device=h_BTD.device), last_B])


class Mean(nn.Module):
    """The mean hidden state over the positions that hold a token, then the bottleneck."""

    def __init__(self, tokens: int, width: int, memory_dim: int):
        super().__init__()
        self.project = nn.Identity() if width == memory_dim else nn.Linear(width, memory_dim)

    def forward(self, h_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """[B, T, D] and which positions hold a token [B, T] -> memory [B, M]."""
        weight_BT1 = valid_BT[..., None].to(h_BTD.dtype)
        return self.project((h_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1))


class SlotsReadout(nn.Module):
    """Every position has its own full-rank map into the memory: one linear map T*D -> M over all of them.

    Nothing has to be squeezed through a single position's hidden state first, which is what makes the
    paper's readout slow to train.
    """

    def __init__(self, tokens: int, width: int, memory_dim: int):
        super().__init__()
        self.tokens = tokens
        self.project = nn.Linear(tokens * width, memory_dim)

    def forward(self, h_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """[B, T, D] and which positions hold a token [B, T] -> memory [B, M]; an empty position adds nothing."""
        h_BTD = h_BTD * valid_BT[..., None].to(h_BTD.dtype)
        if h_BTD.shape[1] < self.tokens:
            h_BTD = nn.functional.pad(h_BTD, (0, 0, 0, self.tokens - h_BTD.shape[1]))
        return self.project(h_BTD.flatten(1))
