"""Reading few memories of many: a token finds some by their keys, unrolls these alone, and attends to their slots.

What is kept of a memory is its vector and, for each layer, a short key; slots, and what a layer attends to of them, are
made when they are read and forgotten again. For token n, memories m and slots s of a memory

    score_m  = q_n . key_m / sqrt(D), both turned by the numbers of their chunks (rotary)
    logit_ms = q'_n . k_ms / sqrt(E), both turned by their places in their chunks
    few:  out_n = sum_m share_m sum_s softmax_s(logit_ms) v_ms, share = softmax over the best scores and one of nothing
    all:  out_n = sum_ms softmax_ms(logit_ms + score_m, nothing) v_ms

All memories, in one softmax, are how reading is learnt soon (LOG.md). With few, a memory's share comes from its key
alone, so that keys have to learn to tell what a memory holds; with as many as there are, all of them learn by gradient.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.memory.shapes import MemoryShape
from memlm.nn.layout import rotary_tables
from memlm.nn.transformer import ROPE_BASE, rotate


@dataclass(frozen=True)
class Held:
    """What is kept of K memories: themselves [B, K, M], and their keys of all layers [B, K, L, D]."""

    memory_BKM: Tensor
    key_BKLD: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.memory_BKM.nbytes + self.key_BKLD.nbytes


@dataclass(frozen=True)
class Where:
    """Where Q entries stand, with a row for each sequence, or one row for all.

    Args:
        before: how many memories there are before the chunk of each [R, Q]; it sees these and no others.
        place: of each in its own chunk [R, Q].
        hidden: the number of a memory that none sees, whatever chunk it is in.
    """

    before: Tensor
    place: Tensor
    hidden: int | None = None


class Look(nn.Module):
    """One layer's look at memories.

    Args:
        shape: of the model.
        slot_width: S, numbers of each of the T slots that a memory is unrolled into.
    """

    def __init__(self, shape: MemoryShape, slot_width: int):
        super().__init__()
        W, D = shape.decoder.width, shape.key_width
        self.heads, self.top = shape.decoder.heads, shape.select
        self.norm = nn.RMSNorm(W, eps=1e-6)
        self.find = nn.Linear(W, D, bias=False)
        self.key_up = nn.Linear(slot_width, 4 * D)
        self.key_down = nn.Linear(4 * D, D, bias=False)
        self.nothing = nn.Parameter(torch.zeros(1))
        self.query = nn.Linear(W, W, bias=False)
        self.place = nn.Parameter(torch.randn(shape.chunk_tokens, slot_width) / 2)
        self.key_value = nn.Linear(slot_width, 2 * W)
        self.out = nn.Linear(W, W, bias=False)

    def keys(self, slots_BKTS: Tensor, number_RK: Tensor) -> Tensor:
        """The keys [B, K, D] of memories with these slots and numbers: a sum over what each slot alone gives."""
        key_BKD = self.key_down(F.gelu(self.key_up(slots_BKTS)).mean(2))
        return _turned(F.rms_norm(key_BKD, key_BKD.shape[-1:]), number_RK)

    def scores(self, x_BQW: Tensor, key_BKD: Tensor, where: Where) -> Tensor:
        """How well each memory fits each entry [B, Q, K]; minus infinity for those that it must not see."""
        find_BQD = self.find(x_BQW)
        find_BQD = _turned(F.rms_norm(find_BQD, find_BQD.shape[-1:]), where.before)
        score_BQK = find_BQD @ key_BKD.mT / math.sqrt(key_BKD.shape[-1])
        number_K = torch.arange(key_BKD.shape[1], device=x_BQW.device)
        seen_RQK = number_K < where.before[..., None]
        if where.hidden is not None:
            seen_RQK = seen_RQK & (number_K != where.hidden)
        return score_BQK.masked_fill(~seen_RQK, -math.inf)

    def of_all(self, x_BQW: Tensor, key_BKD: Tensor, slots_BKTS: Tensor, where: Where) -> Tensor:
        """What entries [B, Q, W] read [B, Q, W], from the slots of all memories, most of which some entry reads."""
        x_BQW = self.norm(x_BQW)
        score_BQK = self.scores(x_BQW, key_BKD, where)
        if 0 < self.top < score_BQK.shape[-1]:
            best, chosen = score_BQK.topk(self.top, -1)
            score_BQK = torch.full_like(score_BQK, -math.inf).scatter(-1, chosen, best)
        k_BKTHE, v_BKTHE = self._keys_and_values(slots_BKTS)
        k_BHNE, v_BHNE = (z.flatten(1, 2).transpose(1, 2) for z in (k_BKTHE, v_BKTHE))
        logit_BHQN = self._queries(x_BQW, where).transpose(1, 2) @ k_BHNE.mT
        weight_BHQKT = self._weights(score_BQK[:, None], logit_BHQN.unflatten(-1, k_BKTHE.shape[1:3]))
        mixed_BHQE = weight_BHQKT.flatten(-2) @ v_BHNE
        return self.out(mixed_BHQE.transpose(1, 2).flatten(2))

    def of_few(self, x_BQW: Tensor, held: Held, layer: int, unroll: Callable[[Tensor], Tensor], where: Where) -> Tensor:
        """The same from those memories alone that an entry has chosen, unrolled for it."""
        x_BQW = self.norm(x_BQW)
        score_BQk, chosen_BQk = self.scores(x_BQW, held.key_BKLD[:, :, layer], where).topk(self.top, -1)
        rows_B11 = torch.arange(len(x_BQW), device=x_BQW.device)[:, None, None]
        slots_BQkTS = unroll(held.memory_BKM[rows_B11, chosen_BQk])
        k_BQkTHE, v_BQkTHE = self._keys_and_values(slots_BQkTS)
        logit_BQHkT = torch.einsum("bqhe,bqkthe->bqhkt", self._queries(x_BQW, where), k_BQkTHE)
        weight_BQHkT = self._weights(score_BQk[:, :, None], logit_BQHkT)
        return self.out(torch.einsum("bqhkt,bqkthe->bqhe", weight_BQHkT, v_BQkTHE).flatten(2))

    def _weights(self, score_Xk: Tensor, logit_XkT: Tensor) -> Tensor:
        """What each slot of k memories counts [..., k, T]; with nothing they all sum to one."""
        nothing_X1 = self.nothing.to(score_Xk.dtype).expand(*score_Xk.shape[:-1], 1)
        if self.top:
            share_Xk = torch.cat([nothing_X1, score_Xk], -1).softmax(-1)[..., 1:]
            return logit_XkT.softmax(-1) * share_Xk[..., None]
        nothing_X1 = nothing_X1.expand(*logit_XkT.shape[:-2], 1)
        together_XN = torch.cat([nothing_X1, (logit_XkT + score_Xk[..., None]).flatten(-2)], -1)
        return together_XN.softmax(-1)[..., 1:].unflatten(-1, logit_XkT.shape[-2:])

    def _queries(self, x_BQW: Tensor, where: Where) -> Tensor:
        """[B, Q, H, E], so long that a product with a key is a logit."""
        q_BQHE = self.query(x_BQW).unflatten(-1, (self.heads, -1))
        return _turned(q_BQHE, where.place[..., None]) / math.sqrt(q_BQHE.shape[-1])

    def _keys_and_values(self, slots_XTS: Tensor) -> tuple[Tensor, Tensor]:
        """[..., T, H, E] of slots [..., T, S]."""
        k_XTHE, v_XTHE = self.key_value(slots_XTS + self.place).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return _turned(k_XTHE, torch.arange(slots_XTS.shape[-2], device=slots_XTS.device)[:, None]), v_XTHE


def _turned(x: Tensor, positions: Tensor) -> Tensor:
    """Vectors [..., D] by the angles of their positions [...]."""
    cos, sin = rotary_tables(positions, x.shape[-1], ROPE_BASE)
    return rotate(x, cos, sin)
