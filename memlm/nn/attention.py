"""Attention by the rule of `Chunks`, at the cost of what is seen: about N (m / 2 + T) scores for N tokens in chunks of
T after a prefix of m, where a mask over the whole sequence takes (m + N)^2.

Queries are taken in groups of a few chunks; the keys of a group are the prefix that it sees and its own chunks, in one
softmax. On a GPU one kernel does all groups of a long sequence. Biases and block masks depend on the shape alone: a
stack makes them once, outside of its compiled blocks, as parts of a `Sight`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.nn.cache import LayerCache
from memlm.nn.chunks import Chunks
from memlm.nn.layout import Layout, rotary_tables

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

LONG = 1024  # entries from which on one kernel is compiled, and only in training: there one shape comes again and again
_ALIGNED = 8  # numbers: kernels of 16 bits load a bias 16 bytes at a time

Biases = Mapping[tuple[int, bool], Tensor]  # by the queries of a group, and whether they are of chunks


@dataclass(frozen=True, eq=False)
class Sight:
    """What the blocks of a transformer are told of a layout.

    Args:
        cos, sin: rotary tables [Q, K/2] or [B, 1, Q, K/2] in fp32.
        rule: how entries see each other; None: by `mask`.
        mask: bool [Q, P] or [B, 1, Q, P]; None without a rule: every entry sees all.
        slots: where in a cache entries are kept; None: there is no cache.
        biases: of `by_groups`, if that is how the rule is followed.
        blocks: of `in_one_kernel`, if that is how.
        turn: how many first entries, those of the prefix, blocks are given last (`block_mask`).
    """

    cos: Tensor
    sin: Tensor
    rule: Chunks | None = None
    mask: Tensor | None = None
    slots: Tensor | None = None
    biases: Biases | None = None
    blocks: "BlockMask | None" = None
    turn: int = 0

    def attend(self, q_BHQK: Tensor, k_BHQK: Tensor, v_BHQK: Tensor, cache: LayerCache | None) -> Tensor:
        """Turned queries and keys, and values, of the entries -> what is read [B, H, Q, K]; `cache` keeps the entries.

        By a rule entries see each other alone, whatever else is kept.
        """
        if cache is not None and self.slots is not None:
            kept = cache.update(self.slots, k_BHQK, v_BHQK)
            k_BHQK, v_BHQK = kept if self.rule is None else (k_BHQK, v_BHQK)
        if self.rule is None:
            return F.scaled_dot_product_attention(q_BHQK, k_BHQK, v_BHQK, attn_mask=self.mask)
        if self.blocks is not None:
            from memlm.nn.flex import in_one_kernel  # imports the compiler

            return in_one_kernel(q_BHQK, k_BHQK, v_BHQK, self.blocks)
        return attend(q_BHQK, k_BHQK, v_BHQK, self.rule, self.biases)


def sight(x_BQD: Tensor, layout: Layout | None, head_width: int, base: float, causal: bool) -> Sight:
    """The sight of entries `x_BQD`: of their layout, or of 0..Q-1 each seeing its past (or all, if not `causal`)."""
    kind = x_BQD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_BQD.dtype
    kernel = x_BQD.is_cuda and torch.is_grad_enabled() and head_width >= 16
    if layout is None:
        return _plain(x_BQD.shape[1], head_width, base, causal, x_BQD.device)
    key = (head_width, base, dtype, kernel)
    if key not in layout.made:
        layout.made[key] = _sight(layout, head_width, base, dtype, kernel)
    return layout.made[key]


@lru_cache(maxsize=32)
def _plain(entries: int, head_width: int, base: float, causal: bool, device: torch.device) -> Sight:
    with torch.inference_mode(False):  # first asked for while evaluating, it must serve training all the same
        cos, sin = rotary_tables(torch.arange(entries, device=device), head_width, base)
    return Sight(cos, sin, rule=Chunks(tokens=entries) if causal else None)


def _sight(layout: Layout, head_width: int, base: float, dtype: torch.dtype, kernel: bool) -> Sight:
    device, rule, mask = layout.positions.device, None, None
    if isinstance(layout.mask, Chunks):
        rule = layout.mask
    else:
        mask = layout.mask if layout.mask.ndim == 2 else layout.mask[:, None]
    one_kernel = kernel and rule is not None and bool(rule.prefix) and rule.entries >= LONG
    turn = rule.prefix if rule is not None and one_kernel else 0
    with torch.inference_mode(False):  # as above
        cos, sin = rotary_tables(layout.positions.roll(-turn, -1), head_width, base)
    if layout.positions.ndim == 2:
        cos, sin = cos[:, None], sin[:, None]
    biases = blocks = None
    if rule is not None and rule.prefix:
        if one_kernel:
            from memlm.nn.flex import block_mask

            blocks = block_mask(rule, device)
        else:
            biases = biases_of(rule, rows_of(device), dtype, device)
    return Sight(cos, sin, rule, mask, layout.slots, biases, blocks, turn)


def attend(q_BHPK: Tensor, k_BHPK: Tensor, v_BHPK: Tensor, rule: Chunks, biases: Biases | None = None) -> Tensor:
    """Queries, keys and values of a whole sequence [B, H, P, K] -> what is read [B, H, P, K]."""
    if rule.prefix:
        return by_groups(q_BHPK, k_BHPK, v_BHPK, rule, rows_of(q_BHPK.device), biases)
    # Chunks that see themselves alone, or one that is the whole sequence.
    sizes = rule.chunks, rule.tokens
    q, k, v = (z.unflatten(2, sizes).transpose(1, 2).flatten(0, 1) for z in (q_BHPK, k_BHPK, v_BHPK))
    read = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return read.unflatten(0, (len(q_BHPK), rule.chunks)).transpose(1, 2).flatten(2, 3)


def rows_of(device: torch.device) -> int:
    """How many queries make a group, if a chunk has no more: the fastest of 64 to 1,024 on a CPU (LOG.md).

    On an H100 256 take 5.3 ms where 1,024 take 8.5 (4 chunks of 256 after 3 entries, forward and backward), and 2.4
    where they take 2.1 (16 chunks of 64 after 960).
    """
    return 64 if device.type == "cpu" else 256


def by_groups(
    q_BHPK: Tensor, k_BHPK: Tensor, v_BHPK: Tensor, rule: Chunks, rows: int, biases: Biases | None = None
) -> Tensor:
    """`attend` after a prefix, by a call for about every `rows` queries; `biases` are made if they are not given."""
    m, S, T = rule.prefix, rule.block, rule.tokens
    biases = biases_of(rule, rows, q_BHPK.dtype, q_BHPK.device) if biases is None else biases
    (q_m, q_N), (k_m, k_N), (v_m, v_N) = (z.split([m, rule.entries - m], 2) for z in (q_BHPK, k_BHPK, v_BHPK))
    read, seen = [], 0
    if S == 1:
        read.append(F.scaled_dot_product_attention(q_m, k_m, v_m, is_causal=True))
    else:
        for q in q_m.split(max(1, rows // S) * S, 2):
            seen += q.shape[2]
            bias = None if q.shape[2] == S else _from(biases[q.shape[2], False], m - seen)
            read.append(F.scaled_dot_product_attention(q, k_m[:, :, :seen], v_m[:, :, :seen], attn_mask=bias))
    seen, size = rule.first - S, max(1, rows // T) * T
    for q, k, v in zip(q_N.split(size, 2), k_N.split(size, 2), v_N.split(size, 2), strict=True):
        if Q := q.shape[2]:  # a split of nothing is one piece, of nothing
            seen += Q // T * S
            k, v = torch.cat([k_m[:, :, :seen], k], 2), torch.cat([v_m[:, :, :seen], v], 2)
            bias = _from(biases[Q, True], m - seen)
            read.append(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
    return torch.cat(read, 2)


@lru_cache(maxsize=16)
def biases_of(rule: Chunks, rows: int, dtype: torch.dtype, device: torch.device) -> Biases:
    """What groups add to their scores [Q, m (+ Q)], as if their last row saw the whole prefix.

    Groups that see a shorter prefix slice columns from the right, so one bias serves all groups of Q queries.
    """
    m, S, T = rule.prefix, rule.block, rule.tokens
    made = {}
    with torch.inference_mode(False):  # first asked for while evaluating, they must serve training all the same
        for own, length, step in ((False, m, S), (True, rule.entries - m, T)):
            size = max(1, rows // step) * step
            for queries in {min(size, length), length % size} - {0} if own or S > 1 else ():
                chunks = queries // step
                group = Chunks(tokens=step, chunks=chunks, prefix=m, block=S, first=m - (chunks - 1) * S)
                place_P = torch.arange(group.entries if own else m, device=device)
                seen = group.sees(m + torch.arange(queries, device=device)[:, None], place_P)
                bias = torch.zeros(seen.shape, dtype=dtype, device=device)
                made[queries, own] = bias.masked_fill_(~seen, -torch.inf)
    return made


def _from(bias: Tensor, column: int) -> Tensor:
    """The columns of a bias from `column` on; copied on a GPU where they or its rows would not begin aligned."""
    bias = bias[:, column:]
    if bias.is_cuda and (column % _ALIGNED or bias.stride(0) % _ALIGNED):
        return F.pad(bias, (0, -bias.shape[1] % _ALIGNED))[:, : bias.shape[1]]
    return bias
