"""Reading few memories of many: a token finds some by their keys, unrolls these alone, and attends to their slots.

What is kept of a memory is its vector and, for each layer, a key; slots, and what a layer attends to of them, are made
when they are read and forgotten again. A key is numbers of the whole memory, which tell where it stands, and a few
of each of its slots, which tell what it holds (late interaction). For token n, memories m and slots s of a memory

    score_m  = q_n . key_m / sqrt(D) + log sum_s exp(p_n . key_ms), the first turned by the numbers of chunks (rotary)
    logit_ms = q'_n . k_ms / sqrt(E), turned by places in chunks
    out_n    = sum_m share_m sum_s softmax_s(logit_ms) v_ms, share = softmax over the best scores and one of nothing

So the scores are what one softmax over all slots would give a memory, from a few numbers a slot: keys learn by the same
gradient as reading does. A mean over slots in their place told places but not contents (LOG.md: 86 % of look-ups at
two memories of three; with a part for each slot 98 %, at one memory 95 %).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.models.shapes import MemoryShape
from memlm.nn.layout import rotary_tables
from memlm.nn.transformer import ROPE_BASE, rotate

SLOT_KEY = 8  # numbers of a key that tell of one slot


@dataclass(frozen=True)
class Held:
    """What is kept of K memories: themselves [B, K, M], and their keys of all layers [B, K, L, X]."""

    memory_BKM: Tensor
    key_BKLX: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.memory_BKM.nbytes + self.key_BKLX.nbytes


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
        self.find_slot = nn.Linear(W, SLOT_KEY, bias=False)
        self.slot_key = nn.Linear(slot_width, SLOT_KEY)
        self.nothing = nn.Parameter(torch.zeros(1))
        self.query = nn.Linear(W, W, bias=False)
        self.place = nn.Parameter(torch.randn(shape.chunk_tokens, slot_width) / 2)
        self.key_value = nn.Linear(slot_width, 2 * W)
        self.out = nn.Linear(W, W, bias=False)

    def keys(self, slots_BKTS: Tensor, number_RK: Tensor) -> Tensor:
        """The keys [B, K, D + T * d] of memories with these slots and numbers: of the whole, and of each slot."""
        whole_BKD = self.key_down(F.gelu(self.key_up(slots_BKTS)).mean(2))
        whole_BKD = _turned(F.rms_norm(whole_BKD, whole_BKD.shape[-1:]), number_RK)
        slot_BKTd = self.slot_key(slots_BKTS)
        return torch.cat([whole_BKD, F.rms_norm(slot_BKTd, slot_BKTd.shape[-1:]).flatten(2)], -1)

    def scores(self, x_BQW: Tensor, key_BKX: Tensor, where: Where) -> Tensor:
        """How well each memory fits each entry [B, Q, K]; minus infinity for those that it must not see."""
        find_BQD = self.find(x_BQW)
        find_BQD = _turned(F.rms_norm(find_BQD, find_BQD.shape[-1:]), where.before)
        whole_BKD, slots_BKX = key_BKX.split([D := find_BQD.shape[-1], key_BKX.shape[-1] - D], -1)
        slot_BKTd = slots_BKX.unflatten(-1, (-1, SLOT_KEY))
        inside_BQK = torch.einsum("bqd,bktd->bqkt", self.find_slot(x_BQW), slot_BKTd).logsumexp(-1)
        score_BQK = find_BQD @ whole_BKD.mT / math.sqrt(D) + inside_BQK
        number_K = torch.arange(key_BKX.shape[1], device=x_BQW.device)
        seen_RQK = number_K < where.before[..., None]
        if where.hidden is not None:
            seen_RQK = seen_RQK & (number_K != where.hidden)
        return score_BQK.masked_fill(~seen_RQK, -math.inf)

    def of_all(self, x_BQW: Tensor, key_BKX: Tensor, slots_BKTS: Tensor, where: Where) -> Tensor:
        """What entries [B, Q, W] read [B, Q, W], from the slots of all memories, most of which some entry reads."""
        x_BQW = self.norm(x_BQW)
        score_BQK = self.scores(x_BQW, key_BKX, where)
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
        score_BQk, chosen_BQk = self.scores(x_BQW, held.key_BKLX[:, :, layer], where).topk(self.top, -1)
        rows_B11 = torch.arange(len(x_BQW), device=x_BQW.device)[:, None, None]
        slots_BQkTS = unroll(held.memory_BKM[rows_B11, chosen_BQk])
        k_BQkTHE, v_BQkTHE = self._keys_and_values(slots_BQkTS)
        logit_BQHkT = torch.einsum("bqhe,bqkthe->bqhkt", self._queries(x_BQW, where), k_BQkTHE)
        weight_BQHkT = self._weights(score_BQk[:, :, None], logit_BQHkT)
        return self.out(torch.einsum("bqhkt,bqkthe->bqhe", weight_BQHkT, v_BQkTHE).flatten(2))

    def _weights(self, score_Xk: Tensor, logit_XkT: Tensor) -> Tensor:
        """What each slot of k memories counts [..., k, T]; with nothing they all sum to one."""
        nothing_X1 = self.nothing.to(score_Xk.dtype).expand(*score_Xk.shape[:-1], 1)
        share_Xk = torch.cat([nothing_X1, score_Xk], -1).softmax(-1)[..., 1:]
        return logit_XkT.softmax(-1) * share_Xk[..., None]

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
