"""The masked mixer: tokens are mixed by learned lower-triangular matrices, no attention, no positions (paper,
Masked mixer block).

    u = x + mix(LN(x));   y = u + MLP(LN(u))
    flat:        mix(x)[b,o,c] = bias[o] + sum_{i<=o} sum_{j<k} W[o,i,j] x[b,i,c+j-(k-1)//2]    (zeros outside c)
    multi-head:  H input projections D -> D/H, one T x T causal mixing each, concat, output projection

The weights are masked in the computation, never overwritten, so that the optimiser and a saved file see what
was learnt. Weights belong to positions: a sequence shorter than `tokens` uses the leading block of them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.nn.cache import LayerCache
from memlm.nn.config import StackConfig
from memlm.nn.layout import Layout
from memlm.nn.mlp import ChannelMLP
from memlm.nn.stack import Stack


class FlatMixing(nn.Module):
    """One T x T triangular matrix for all channels; k > 1 also mixes k neighbouring channels."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.causal, self.kernel = config.causal, config.kernel
        self.weight = nn.Parameter(torch.empty(tokens, tokens, config.kernel))
        self.bias = nn.Parameter(torch.empty(tokens))
        bound = 1 / math.sqrt(tokens * config.kernel)  # what nn.Conv1d(T, T, k) starts from
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x_BTD: Tensor, layout: Layout | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        if layout is not None:
            return self._laid_out(x_BTD, layout, cache)
        T, k = x_BTD.shape[1], self.kernel
        weight_kTT = self.weight[:T, :T].permute(2, 0, 1)
        if self.causal:
            weight_kTT = weight_kTT.tril()
        if k == 1:
            return torch.baddbmm(self.bias[:T, None], weight_kTT.expand(len(x_BTD), -1, -1), x_BTD)
        # Channels are the convolution's length, positions its channels: output c reads c-(k-1)//2 .. c+k//2.
        x_BTD = F.pad(x_BTD, ((k - 1) // 2, k // 2))
        return F.conv1d(x_BTD, weight_kTT.permute(1, 2, 0), self.bias[:T])

    def _laid_out(self, x_BQD: Tensor, layout: Layout, cache: LayerCache | None) -> Tensor:
        """The same sum with the layout's weights, one product for each of the k neighbours."""
        weight_kQP = layout.weights(self.weight.permute(2, 0, 1))  # or [B, k, Q, P]
        (x_BPD,) = layout.keep(cache, x_BQD)
        D, k = x_BPD.shape[-1], self.kernel
        x_BPD = F.pad(x_BPD, ((k - 1) // 2, k // 2))
        mixed_BQD = self.bias[layout.positions][..., None]
        for j in range(k):
            mixed_BQD = mixed_BQD + weight_kQP[..., j, :, :] @ x_BPD[..., j : j + D]
        return mixed_BQD


class HeadedMixing(nn.Module):
    """H mixings of D/H channels each, between an input and an output projection; all heads in one product."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.causal, self.heads = config.causal, config.heads
        self.project_in = nn.Linear(config.width, config.width)
        self.project_out = nn.Linear(config.width, config.width)
        self.weight = nn.Parameter(torch.empty(config.heads, tokens, tokens))
        self.bias = nn.Parameter(torch.empty(config.heads, tokens))
        bound = 1 / math.sqrt(tokens)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x_BTD: Tensor, layout: Layout | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BHTK = self.project_in(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if layout is None:
            T = x_BTD.shape[1]
            weight_HTT, bias_HT = self.weight[:, :T, :T], self.bias[:, :T]
            if self.causal:
                weight_HTT = weight_HTT.tril()
        else:
            weight_HTT, bias_HT = layout.weights(self.weight), self.bias[:, layout.positions]
            if bias_HT.ndim == 3:  # [H, B, Q]: positions of their own for every sequence
                bias_HT = bias_HT.transpose(0, 1)
            (x_BHTK,) = layout.keep(cache, x_BHTK)
        mixed_BHTK = torch.matmul(weight_HTT, x_BHTK) + bias_HT[..., None]
        return self.project_out(mixed_BHTK.transpose(1, 2).flatten(2))


class MixerBlock(nn.Module):
    """Token mixing, then channel MLP, each pre-normed and added to its input."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.norm_mixing = nn.LayerNorm(config.width)
        self.mixing = (HeadedMixing if config.heads > 1 else FlatMixing)(config, tokens)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.mlp = ChannelMLP(config.width, config.expansion)

    def forward(self, x_BTD: Tensor, layout: Layout | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BTD = x_BTD + self.mixing(self.norm_mixing(x_BTD), layout, cache)
        return x_BTD + self.mlp(self.norm_mlp(x_BTD))


class Mixer(Stack):
    """Mixer blocks and a last LayerNorm."""

    keeps = 1  # what is mixed

    def __init__(self, config: StackConfig, tokens: int):
        blocks = (MixerBlock(config, tokens) for _ in range(config.layers))
        super().__init__(config, tokens, blocks, nn.LayerNorm(config.width))
