"""Which memories are opened for a prediction: those that hold the words before it.

A place p of a memory scores s q.k_p + `PAIR` [its second word agrees], and counts only where the word before it is the
query's; a memory scores as its best place. Opened are the newest `LAST`, the best `top - EARLIER - near`, of the newest
`NEARBY` the `near` best of the rest, which the many that are far would crowd out, and of what is left the best by the
queries of one and two words ago, one and two places on; where there are none, the newest.

Here for a batch, which files its places by the word before them, so that a look reads one list of a thousandth of the
places; filed.py keeps such lists.

Suffixes as in readers/pointer.py.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.readers.reader import Queries

LOOKS = 3  # queries, each a word earlier than the one before it
EARLIER = 4  # memories that are left to the looks of earlier words
LAST = 2  # newest memories, which are always open
NEARBY = 256  # newest memories, of which some are opened whatever is far
PAIR = 5.0  # added to a place's score, for opening alone, where the second word agrees as well
FAR = -1e4  # the score of what is not seen: no share, and gradients stay numbers
HASH = 0x9E3779B97F4A7C15 - 2**64  # odd; equal sums of words times its powers are equal words


@torch.no_grad()
def open_all(
    query_of: Callable[[Tensor], Tensor],
    recent_BQn: Tensor,
    words_BKT: Tensor,
    key_BPd: Iterable[Tensor],
    queries: Queries,
    words: int,
    top: int,
    near: int = 0,
) -> tuple[Tensor, Tensor]:
    """Numbers of the memories that are opened [B, Q, k], and s q.k of their places [B, Q, k T], seen or not.

    Args:
        query_of: words before predictions [N, n], the nearest first -> what places are looked for by, times s [N, d].
        recent_BQn: the words before each prediction, the nearest first.
        words_BKT: of the memories; no place is found where there is none.
        key_BPd: of their places.
        queries: what each sees.
        words: so many of them make a query.
        top: memories that are opened beside the newest.
        near: so many of these are of the newest `NEARBY`.
    """
    B, K = words_BKT.shape[:2]
    number_K = torch.arange(K - 1, -1, -1, device=words_BKT.device)
    unseen_RQK = ~queries.sees(K).flip(-1)
    newest_RQK = number_K >= queries.before[..., None] - LAST
    # Memories stand the newest first: beyond so many every one is older than `NEARBY`, for every query.
    older_RQk = number_K[: NEARBY + K - int(queries.before.min())] < queries.before[..., None] - NEARBY
    newest, unseen, older = (one.expand(B, -1, -1) for one in (newest_RQK, unseen_RQK, older_RQk))
    masks = zip(newest, unseen, older, strict=True)
    parts = [
        _open(query_of, *of_row, words, top, near) for of_row in zip(recent_BQn, words_BKT, key_BPd, masks, strict=True)
    ]
    number_Bk, near_BJ = zip(*parts, strict=True)
    return torch.stack(number_Bk), torch.stack(near_BJ)


def _open(
    query_of: Callable[[Tensor], Tensor],
    recent_Qn: Tensor,
    words_KT: Tensor,
    key_Pd: Tensor,
    masks: tuple[Tensor, Tensor, Tensor],
    words: int,
    top: int,
    near: int,
) -> tuple[Tensor, Tensor]:
    """`open_all` of one text. A look of words ago is mostly another prediction's own: each is made once.

    Memories stand the newest first: in the order in which those without any place are preferred, topk is twice as fast.
    `masks` tell which are always open, which are not to be seen, and which are older than `NEARBY`.
    """
    (K, T), many = words_KT.shape, top + LAST
    newest_QK, unseen_QK, older_Qk = masks
    look_Xn = recent_Qn.unfold(-1, words, 1)[:, :LOOKS].flatten(0, 1)
    code_X = (look_Xn * HASH ** torch.arange(words, device=look_Xn.device)).sum(-1)  # modulo 2^64
    code_U, look_X = code_X.unique(return_inverse=True)
    looks_Un = torch.empty_like(look_Xn[: len(code_U)]).index_copy_(0, look_X, look_Xn)
    look_QL = look_X.view(len(recent_Qn), -1)
    score_UP = query_of(looks_Un) @ key_Pd.mT
    number_Qk = torch.arange(K, device=words_KT.device).expand(len(recent_Qn), K)
    if many < K:
        best = _best(score_UP, looks_Un, words_KT)
        best_QK = best[0][look_QL[:, 0]].masked_fill_(newest_QK, math.inf).masked_fill_(unseen_QK, -math.inf)
        own_Qk = best_QK.topk(many - EARLIER - near, -1)[1]
        if near:
            best_QK.masked_fill_(unseen_QK, -1e30).scatter_(-1, own_Qk, -math.inf)
            nearby_Qk = best_QK[:, : older_Qk.shape[-1]].masked_fill_(older_Qk, -math.inf)
            own_Qk = torch.cat([own_Qk, nearby_Qk.topk(near, -1)[1]], -1)
        best_QK = best[1][look_QL[:, 1]]  # apart from the own: few of many are found faster
        for ago in range(2, LOOKS):
            best_QK = torch.maximum(best_QK, best[ago][look_QL[:, ago]])
        best_QK = best_QK.masked_fill_(unseen_QK, -1e30).scatter_(-1, own_Qk, -math.inf)
        number_Qk = K - 1 - torch.cat([own_Qk, best_QK.topk(EARLIER, -1)[1]], -1)
    return number_Qk, score_UP[look_QL[:, :1], places(number_Qk, T)]


def _best(score_UP: Tensor, looks_Un: Tensor, words_KT: Tensor) -> list[Tensor]:
    """The best place of each memory after the same word, the newest first [U, K], for looks of 0, 1 and 2 words ago.

    Found in lists: the places in the order of the words before them. Of memories without any the newer is better.
    """
    (K, T), words_P, U = words_KT.shape, words_KT.flatten(), len(looks_Un)
    first_P, second_P = F.pad(words_P, (1, 0))[:-1], F.pad(words_P, (2, 0))[:-2]
    code_P = first_P.long().masked_fill(words_P == 0, -1) * (K * T) + torch.arange(K * T, device=words_P.device)
    # As numbers of their own; numpy's sort is seven times as fast as torch's.
    code_P = torch.from_numpy(np.sort(code_P.numpy())) if code_P.device.type == "cpu" else code_P.sort()[0]
    first_P, order_P = code_P.div(K * T, rounding_mode="floor"), code_P % (K * T)
    first_U = looks_Un[:, 0].contiguous()
    start_U, end_U = (torch.searchsorted(first_P, first_U, right=right) for right in (False, True))
    count_U = end_U - start_U
    look_N = torch.arange(U, device=words_P.device).repeat_interleave(count_U)
    shift_U = start_U - count_U.cumsum(0) + count_U
    place_N = order_P[torch.arange(len(look_N), device=words_P.device) + shift_U[look_N]]
    score_N = score_UP[look_N, place_N] + PAIR * (second_P[place_N] == looks_Un[look_N, 1])
    newer_K = FAR - torch.arange(K + 1, device=words_P.device).double()
    best = []
    for ago in range(LOOKS):
        number_N = (place_N + ago) // T  # K: beyond the last
        best_X = newer_K.repeat(U).scatter_reduce_(
            0, look_N * (K + 1) + K - number_N, ranked(score_N - ago, number_N), "amax"
        )
        best.append(best_X.view(U, K + 1)[:, 1:])
    return best


def places(number_BQk: Tensor, T: int) -> Tensor:
    """The places of memories [..., k T]."""
    return (number_BQk[..., None] * T + torch.arange(T, device=number_BQk.device)).flatten(-2)


def ranked(score: Tensor, number: Tensor) -> Tensor:
    """Scores to a 64th, and the newer memory of two that are equal: what is opened depends on no rounding."""
    return (64 * score).round().double() / 64 + number / 2**32


def taken(words_BP: Tensor, place: Tensor) -> Tensor:
    """The words at places [B, ...], 0 at those before the first."""
    rows = torch.arange(len(words_BP), device=place.device).view(-1, *[1] * (place.ndim - 1))
    inside = place.clamp(0, words_BP.shape[1] - 1)
    return words_BP[rows, inside].masked_fill(place < 0, 0).long()
