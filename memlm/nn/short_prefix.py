"""Attention of chunks after a prefix of a few entries: torch's flash kernel for what a chunk sees of itself, products
with one entry after the other for what it sees of the prefix, both in one softmax.

    o = o1 exp(l1 - l) + sum_j exp(s_j - l) v_j,   l = log(exp(l1) + sum_j exp(s_j)),   s_j = q k_j / sqrt(K)

where the kernel gives o1 and l1, the logarithm of its softmax's sum. Backwards the kernel is given o and l in the place
of its own: it computes its gradients from these, so that they are those of the whole softmax (ring attention does so
with blocks of keys, arXiv 2310.01889). Chunks begin at a tile of the kernel, whatever stands before them.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.nn.chunks import Chunks

SHORT = 0  # entries of a prefix at most; 0: never
_WIDTHS = 8  # of heads, of which the kernel wants multiples
_aten: Any = torch.ops.aten


def is_short(rule: Chunks, head_width: int) -> bool:
    """Whether a rule can be followed so, and shall."""
    return 0 < rule.prefix <= SHORT and rule.block == 1 and rule.chunks > 0 and not head_width % _WIDTHS


@lru_cache(maxsize=16)
def seen_prefix(rule: Chunks, device: torch.device) -> Tensor:
    """What is added to the scores of a chunk with an entry of the prefix: 0, or -inf where it is not seen [C, m]."""
    with torch.inference_mode(False):  # first asked for while evaluating, it must serve training all the same
        upto_C = rule.first + torch.arange(rule.chunks, device=device)
        seen_Cm = torch.arange(rule.prefix, device=device) < upto_C[:, None]
        return torch.zeros(seen_Cm.shape, device=device).masked_fill_(~seen_Cm, -torch.inf)


def after_short_prefix(q_BHPK: Tensor, k_BHPK: Tensor, v_BHPK: Tensor, rule: Chunks, seen_Cm: Tensor) -> Tensor:
    """As `attend`: queries, keys and values of a whole sequence [B, H, P, K] -> what is read [B, H, P, K]."""
    m, sizes = rule.prefix, (rule.chunks, rule.tokens)
    (q_m, q_N), (k_m, k_N), (v_m, v_N) = (z.split([m, rule.entries - m], 2) for z in (q_BHPK, k_BHPK, v_BHPK))
    q, k, v = (z.unflatten(2, sizes).transpose(1, 2).flatten(0, 1) for z in (q_N, k_N, v_N))  # [B C, H, T, K]
    read = _Read.apply(q, k, v, k_m, v_m, seen_Cm)
    read_N = read.unflatten(0, (len(q_BHPK), rule.chunks)).transpose(1, 2).flatten(2, 3)
    return torch.cat([F.scaled_dot_product_attention(q_m, k_m, v_m, is_causal=True), read_N], 2)


class _Read(torch.autograd.Function):
    """Chunks [B C, H, T, K] after prefixes [B, H, m, K] -> what is read [B C, H, T, K]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, k_m: Tensor, v_m: Tensor, seen_Cm: Tensor) -> Tensor:
        if q.is_cuda:
            own, sum_, _, _, _, _, seed, offset, _ = _aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)
        else:
            own, sum_ = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
            seed = offset = torch.empty(0)
        scores = [_score(q, one, seen_C) for one, seen_C in zip(_entries(k_m, q), seen_Cm.unbind(1), strict=True)]
        whole = sum_
        for score in scores:
            whole = torch.logaddexp(whole, score)
        read = own.float() * (sum_ - whole).exp()[..., None]
        for score, one in zip(scores, _entries(v_m, q), strict=True):
            read = read + (score - whole).exp()[..., None] * one
        read = read.to(q.dtype)
        ctx.save_for_backward(q, k, v, k_m, v_m, seen_Cm, read, whole, seed, offset)
        return read

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,), (q, k, v, k_m, v_m, seen_Cm, read, whole, seed, offset) = grads, ctx.saved_tensors
        if q.is_cuda:
            T, backward = q.shape[2], _aten._scaled_dot_product_flash_attention_backward
            dq, dk, dv = backward(grad, q, k, v, read, whole, None, None, T, T, 0.0, True, seed, offset)
        else:
            backward = _aten._scaled_dot_product_flash_attention_for_cpu_backward
            dq, dk, dv = backward(grad, q, k, v, read, whole, 0.0, True)
        grad, dq = grad.float(), dq.float()
        mean = (grad * read).sum(-1)
        dk_m, dv_m = [], []
        for k_j, v_j, seen_C in zip(_entries(k_m, q), _entries(v_m, q), seen_Cm.unbind(1), strict=True):
            share = (_score(q, k_j, seen_C) - whole).exp()
            d_score = (share * ((grad * v_j).sum(-1) - mean) * q.shape[-1] ** -0.5)[..., None]
            dq = dq + d_score * k_j
            dk_m.append(_of_rows(d_score * q, k_m, len(seen_Cm)))
            dv_m.append(_of_rows(share[..., None] * grad, v_m, len(seen_Cm)))
        return dq.to(q.dtype), dk, dv, torch.stack(dk_m, 2), torch.stack(dv_m, 2), None


def _entries(z_BHmK: Tensor, like: Tensor) -> list[Tensor]:
    """Each entry of a prefix for all chunks [B C, H, 1, K]."""
    z_XHmK = z_BHmK.float().repeat_interleave(len(like) // max(1, len(z_BHmK)), 0)
    return [one[:, :, None] for one in z_XHmK.unbind(2)]


def _score(q_XHTK: Tensor, k_XH1K: Tensor, seen_C: Tensor) -> Tensor:
    """Scores in fp32 [B C, H, T], by products of numbers: autocast leaves them alone, and the compiler joins them."""
    score = (q_XHTK * k_XH1K).sum(-1) * q_XHTK.shape[-1] ** -0.5
    return score + seen_C.repeat(len(score) // len(seen_C))[:, None, None]


def _of_rows(d_XHTK: Tensor, like_BHmK: Tensor, chunks: int) -> Tensor:
    """The gradient of an entry [B, H, K] from those of all places that saw it."""
    d_BCHTK = d_XHTK.unflatten(0, (len(like_BHmK), chunks))
    return d_BCHTK.sum((1, 3)).to(like_BHmK.dtype)
