"""Attention by the rule of `Chunks`, at the cost of what is seen: about N (m / 2 + T) scores for N tokens in chunks of
T after a prefix of m, where a mask over the whole sequence takes (m + N)^2.

Queries are taken in groups of a few chunks; the keys of a group are the prefix that it sees and its own chunks, in one
softmax. On a GPU one kernel does all groups of a long sequence.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.nn.chunks import Chunks

LONG = 2048  # entries from which on a kernel is compiled, and only in training: there one shape comes again and again


def attend(q_BHPK: Tensor, k_BHPK: Tensor, v_BHPK: Tensor, rule: Chunks) -> Tensor:
    """Queries, keys and values of a whole sequence [B, H, P, K] -> what is read [B, H, P, K]."""
    if not rule.prefix:  # chunks that see themselves alone, or one that is the whole sequence
        q, k, v = (z.unflatten(2, (-1, rule.tokens)).transpose(1, 2).flatten(0, 1) for z in (q_BHPK, k_BHPK, v_BHPK))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return read.unflatten(0, (len(q_BHPK), -1)).transpose(1, 2).flatten(2, 3)
    if q_BHPK.is_cuda and q_BHPK.requires_grad and rule.entries >= LONG and q_BHPK.shape[3] >= 16:
        from memlm.nn.flex import in_one_kernel  # imports the compiler

        return in_one_kernel(q_BHPK, k_BHPK, v_BHPK, rule)
    return by_groups(q_BHPK, k_BHPK, v_BHPK, rule, rows_of(q_BHPK.device))


def rows_of(device: torch.device) -> int:
    """How many queries make a group, if a chunk has no more: the fastest of 64 to 1,024 on a CPU (LOG.md).

    Elsewhere more, because a call costs more there than scores that nothing sees.
    """
    return 64 if device.type == "cpu" else 1024


def by_groups(q_BHPK: Tensor, k_BHPK: Tensor, v_BHPK: Tensor, rule: Chunks, rows: int) -> Tensor:
    """`attend` after a prefix, by a call for about every `rows` queries."""
    m, S, T = rule.prefix, rule.block, rule.tokens
    (q_m, q_N), (k_m, k_N), (v_m, v_N) = (z.split([m, rule.entries - m], 2) for z in (q_BHPK, k_BHPK, v_BHPK))
    read, seen = [], 0
    if S == 1:
        read.append(F.scaled_dot_product_attention(q_m, k_m, v_m, is_causal=True))
    else:
        for q in q_m.split(max(1, rows // S) * S, 2):
            seen += q.shape[2]
            bias = None if q.shape[2] == S else _bias(q, S, S, m, False)[:, m - seen :]
            read.append(F.scaled_dot_product_attention(q, k_m[:, :, :seen], v_m[:, :, :seen], attn_mask=bias))
    seen, size = rule.first - S, max(1, rows // T) * T
    for q, k, v in zip(q_N.split(size, 2), k_N.split(size, 2), v_N.split(size, 2), strict=True):
        if Q := q.shape[2]:  # a split of nothing is one piece, of nothing
            seen += Q // T * S
            k, v = torch.cat([k_m[:, :, :seen], k], 2), torch.cat([v_m[:, :, :seen], v], 2)
            read.append(F.scaled_dot_product_attention(q, k, v, attn_mask=_bias(q, T, S, m, True)[:, m - seen :]))
    return torch.cat(read, 2)


def _bias(q_BHQK: Tensor, rows: int, step: int, prefix: int, own: bool) -> Tensor:
    """What a group adds to its scores [Q, m (+ Q)], if its last row sees the whole prefix.

    One that sees less of the prefix has the right-hand side of it, so that one tensor serves all groups and layers.
    """
    return _made_bias(q_BHQK.shape[2], rows, step, prefix, own, q_BHQK.dtype, q_BHQK.device)


@lru_cache(maxsize=16)
def _made_bias(
    queries: int, rows: int, step: int, prefix: int, own: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # first asked for while evaluating, it must serve training all the same
        chunks = queries // rows
        rule = Chunks(tokens=rows, chunks=chunks, prefix=prefix, block=step, first=prefix - (chunks - 1) * step)
        place_P = torch.arange(rule.entries if own else prefix, device=device)
        seen = rule.sees(prefix + torch.arange(queries, device=device)[:, None], place_P)
        return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -torch.inf)
