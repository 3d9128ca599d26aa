"""The masked mixer: tokens are mixed by learned lower-triangular matrices, no attention, no positions (paper,
Masked mixer block).

    u = x + mix(LN(x));   y = u + MLP(LN(u))
    flat:        mix(x)[b,o,c] = bias[o] + sum_{i<=o} sum_{j<k} W[o,i,j] x[b,i,c+j-(k-1)//2]    (zeros outside c)
    multi-head:  H input projections D -> D/H, one T x T causal mixing each, concat, output projection

The weights are masked in the computation, never overwritten, so that the optimiser and a saved file see what
was learnt. Weights belong to positions: a sequence shorter than `tokens` uses the leading block of them, and chunks
that stand at the same positions after a common prefix use the same blocks of them, chunk by chunk.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.nn.cache import LayerCache
from memlm.nn.chunks import Chunks
from memlm.nn.config import StackConfig
from memlm.nn.layout import Layout
from memlm.nn.mlp import ChannelMLP
from memlm.nn.stack import Stack


@dataclass(frozen=True, eq=False)
class ByChunks:
    """A rule of chunks all of which stand at the same positions: slices of the weights serve it, nothing is gathered.

    Args:
        rule: of the entries; those of the prefix stand at 0..m-1.
        first: where a chunk's first token stands.
        prefix_mm: 1 where an entry of the prefix sees another, else 0.
        prefix_Cm: 1 where a chunk sees an entry of the prefix, else 0.
    """

    rule: Chunks
    first: int
    prefix_mm: Tensor
    prefix_Cm: Tensor


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

    def forward(self, x_BTD: Tensor, given: Layout | ByChunks | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        if given is None:
            return self._from(0, x_BTD)
        return self._by_chunks(x_BTD, given) if isinstance(given, ByChunks) else self._laid_out(x_BTD, given, cache)

    def _from(self, first: int, x_BTD: Tensor) -> Tensor:
        """The sum for entries at the positions `first`, `first` + 1, ..."""
        T, k = x_BTD.shape[1], self.kernel
        at = slice(first, first + T)
        weight_kTT = self.weight[at, at].permute(2, 0, 1)
        if self.causal:
            weight_kTT = weight_kTT.tril()
        if k == 1:
            return torch.baddbmm(self.bias[at, None], weight_kTT.expand(len(x_BTD), -1, -1), x_BTD)
        # Channels are the convolution's length, positions its channels: output c reads c-(k-1)//2 .. c+k//2.
        return F.conv1d(self._padded(x_BTD), weight_kTT.permute(1, 2, 0), self.bias[at])

    def _by_chunks(self, x_BPD: Tensor, given: ByChunks) -> Tensor:
        """The chunks' own mixing side by side, and what they and the prefix see of the prefix."""
        rule, T = given.rule, given.rule.tokens
        prefix_BmD, x_BND = x_BPD.split([rule.prefix, rule.entries - rule.prefix], 1)
        mixed_XTD = self._from(given.first, x_BND.unflatten(1, (rule.chunks, T)).flatten(0, 1))
        if not rule.prefix:
            return mixed_XTD.unflatten(0, (len(x_BPD), rule.chunks)).flatten(1, 2)
        m, at = rule.prefix, slice(given.first, given.first + T)
        near_BmkD = self._padded(prefix_BmD).unfold(2, x_BPD.shape[2], 1)
        seen_BCTD = torch.einsum("tsk,cs,bskd->bctd", self.weight[at, :m], given.prefix_Cm, near_BmkD)
        mixed_BmD = torch.einsum("tsk,ts,bskd->btd", self.weight[:m, :m], given.prefix_mm, near_BmkD)
        mixed_BCTD = mixed_XTD.unflatten(0, (len(x_BPD), rule.chunks)) + seen_BCTD
        return torch.cat([mixed_BmD + self.bias[:m, None], mixed_BCTD.flatten(1, 2)], 1)

    def _laid_out(self, x_BQD: Tensor, layout: Layout, cache: LayerCache | None) -> Tensor:
        """The same sum with the layout's weights, one product for each of the k neighbours."""
        weight_kQP = layout.weights(self.weight.permute(2, 0, 1))  # or [B, k, Q, P]
        (x_BPD,) = layout.keep(cache, x_BQD)
        D, x_BPD = x_BPD.shape[-1], self._padded(x_BPD)
        mixed_BQD = self.bias[layout.positions][..., None]
        for j in range(self.kernel):
            mixed_BQD = mixed_BQD + weight_kQP[..., j, :, :] @ x_BPD[..., j : j + D]
        return mixed_BQD

    def _padded(self, x_BTD: Tensor) -> Tensor:
        return F.pad(x_BTD, ((self.kernel - 1) // 2, self.kernel // 2))


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

    def forward(self, x_BTD: Tensor, given: Layout | ByChunks | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BHTK = self.project_in(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if given is None:
            mixed_BHTK = self._from(0, x_BHTK)
        elif isinstance(given, ByChunks):
            mixed_BHTK = self._by_chunks(x_BHTK, given)
        else:
            weight_HTT, bias_HT = given.weights(self.weight), self.bias[:, given.positions]
            if bias_HT.ndim == 3:  # [H, B, Q]: positions of their own for every sequence
                bias_HT = bias_HT.transpose(0, 1)
            (x_BHTK,) = given.keep(cache, x_BHTK)
            mixed_BHTK = torch.matmul(weight_HTT, x_BHTK) + bias_HT[..., None]
        return self.project_out(mixed_BHTK.transpose(1, 2).flatten(2))

    def _from(self, first: int, x_BHTK: Tensor) -> Tensor:
        """The mixing of entries at the positions `first`, `first` + 1, ..."""
        at = slice(first, first + x_BHTK.shape[2])
        weight_HTT = self.weight[:, at, at]
        if self.causal:
            weight_HTT = weight_HTT.tril()
        # The same bits as matmul's, which copies the weights for each row of the batch and takes twice as long.
        return torch.einsum("hts,bhsk->bhtk", weight_HTT, x_BHTK) + self.bias[:, at, None]

    def _by_chunks(self, x_BHPK: Tensor, given: ByChunks) -> Tensor:
        """As of `FlatMixing`."""
        rule, T = given.rule, given.rule.tokens
        prefix_BHmK, x_BHNK = x_BHPK.split([rule.prefix, rule.entries - rule.prefix], 2)
        mixed_XHTK = self._from(given.first, x_BHNK.unflatten(2, (rule.chunks, T)).transpose(1, 2).flatten(0, 1))
        mixed_BHCTK = mixed_XHTK.unflatten(0, (len(x_BHPK), rule.chunks)).transpose(1, 2)
        if not rule.prefix:
            return mixed_BHCTK.flatten(2, 3)
        m, at = rule.prefix, slice(given.first, given.first + T)
        seen_BHCTK = torch.einsum("hts,cs,bhsk->bhctk", self.weight[:, at, :m], given.prefix_Cm, prefix_BHmK)
        mixed_BHmK = torch.einsum("hts,ts,bhsk->bhtk", self.weight[:, :m, :m], given.prefix_mm, prefix_BHmK)
        return torch.cat([mixed_BHmK + self.bias[:, :m, None], (mixed_BHCTK + seen_BHCTK).flatten(2, 3)], 2)


class MixerBlock(nn.Module):
    """Token mixing, then channel MLP, each pre-normed and added to its input."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.norm_mixing = nn.LayerNorm(config.width)
        self.mixing = (HeadedMixing if config.heads > 1 else FlatMixing)(config, tokens)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.mlp = ChannelMLP(config.width, config.expansion)

    def forward(self, x_BTD: Tensor, given: Layout | ByChunks | None = None, cache: LayerCache | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BTD = x_BTD + self.mixing(self.norm_mixing(x_BTD), given, cache)
        return x_BTD + self.mlp(self.norm_mlp(x_BTD))


class Mixer(Stack):
    """Mixer blocks and a last LayerNorm."""

    keeps = 1  # what is mixed

    def __init__(self, config: StackConfig, tokens: int):
        blocks = (MixerBlock(config, tokens) for _ in range(config.layers))
        super().__init__(config, tokens, blocks, nn.LayerNorm(config.width))

    def given(self, x_BTD: Tensor, layout: Layout | None) -> Layout | ByChunks | None:
        """What its blocks are told of the layout: the slices of their weights, or itself with its whole mask made."""
        if layout is None:
            return None
        if "mixer" not in layout.made:
            layout.made["mixer"] = _by_chunks(layout) or layout
        return layout.made["mixer"]


def _by_chunks(layout: Layout) -> ByChunks | None:
    """The layout as slices of weights, if its entries stand as that needs; else None, and its whole mask is there."""
    rule, positions_P = layout.mask, layout.positions
    mask = layout.whole_mask
    if not isinstance(rule, Chunks) or not rule.chunks or layout.slots is not None or layout.seen is not None:
        return None
    m, device = rule.prefix, positions_P.device
    first = int(positions_P[m])
    stand_P = torch.cat([torch.arange(m), torch.arange(first, first + rule.tokens).repeat(rule.chunks)])
    if not torch.equal(positions_P.cpu(), stand_P):
        return None
    with torch.inference_mode(False):  # first asked for while evaluating, it must serve training all the same
        reads_C = torch.arange(rule.chunks, device=device) * rule.block + rule.first
        prefix_Cm = torch.arange(m, device=device) < reads_C[:, None]
        return ByChunks(rule, first, mask[:m, :m].float(), prefix_Cm.float())
