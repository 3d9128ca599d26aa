"""Places that stand for all: what keys are taught by, at a cost that does not grow with the text.

The best of the opened places score as themselves. For all others stands a sample, one place of each of `SAMPLED` equal
stretches of the text: a sampled softmax (Jean et al., arXiv 1412.2007). Which one depends on the words alone, so that a
step is the same however often and by however many processes it is made.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.readers.finding import FAR, taken
from memlm.readers.reader import Queries

EXACT = 2**11  # places of a text up to which all are scored
SAMPLED = 256  # places that stand for the others
GRADED = 16  # opened places of a query, the best, whose keys are taught by what is copied


@dataclass(frozen=True)
class Scores:
    """Scores of places that stand for all.

    Args:
        score_BQX: s q.k, `FAR` where nothing is to be seen.
        word_BQX: the words that stand there, of a shape that broadcasts.
        stands_BQX: the logarithm of how many places each stands for; None: for itself.
    """

    score_BQX: Tensor
    word_BQX: Tensor
    stands_BQX: Tensor | None = None

    def lesson(self, gate: nn.Module, sharpness: Tensor, logp_BQV: Tensor, h_BQW: Tensor, labels_BQ: Tensor) -> Tensor:
        """-log p of labels by these scores alone, with a gate of their own [B, Q].

        It teaches keys where to look, in plain text too: what is opened is no function that has a gradient.

        Args:
            gate: hidden states, the best cosine and the sum of all -> [B, Q, 1].
            sharpness: what a cosine is multiplied by.
            logp_BQV: of the language model.
            h_BQW: its hidden states.
            labels_BQ: what is to be told.
        """
        label_BQ1 = labels_BQ.clamp(min=0)[..., None]
        own_BQ = logp_BQV.gather(-1, label_BQ1)[..., 0]
        score_BQX = self.score_BQX if self.stands_BQX is None else self.score_BQX + self.stands_BQX
        lse_BQ1 = score_BQX.logsumexp(-1, keepdim=True)
        best_BQ1 = self.score_BQX.amax(-1, keepdim=True) / sharpness
        none_BQ1 = best_BQ1 < -1  # no memory is seen
        told = torch.cat([h_BQW, 4 * best_BQ1, lse_BQ1 / 8], -1).masked_fill(none_BQ1, 0)
        gate_BQ = gate(told)[..., 0].masked_fill(none_BQ1[..., 0], FAR)
        share_BQX = (score_BQX - lse_BQ1).masked_fill(self.word_BQX != label_BQ1, -math.inf)
        copied_BQ = F.pad(share_BQX, (0, 1), value=-60.0).logsumexp(-1)
        return -torch.logaddexp(F.logsigmoid(-gate_BQ) + own_BQ, F.logsigmoid(gate_BQ) + copied_BQ)


def sample(words_BKT: Tensor) -> Tensor:
    """A place of each of `SAMPLED` equal stretches of texts [B, n], spread evenly over what a stretch has."""
    P, golden = words_BKT[0].numel(), (5**0.5 - 1) / 2
    number_n = torch.arange(SAMPLED, device=words_BKT.device)
    share_Bn = (words_BKT.sum((1, 2)).double()[:, None] + number_n) * golden % 1
    return ((number_n + share_Bn) * P / SAMPLED).long()


def with_sample(
    near_BQg: Tensor,
    place_BQg: Tensor,
    score_BQn: Tensor,
    place_Bn: Tensor,
    words_BKT: Tensor,
    queries: Queries,
) -> Scores:
    """Scores of the best places, and of a sample, which stands for all others that a query sees.

    Args:
        near_BQg: s q.k of the best, `FAR` where nothing is to be seen.
        place_BQg: these places.
        score_BQn: of the sample.
        place_Bn: its places.
        words_BKT: of all memories; nothing is to be seen where there is none.
        queries: what each sees.
    """
    (B, _, T), (Q, n) = words_BKT.shape, score_BQn.shape[1:]
    words_BP, before_BQ = words_BKT.flatten(1), queries.before.expand(B, -1)
    word_Bn, word_BQg = (taken(words_BP, place) for place in (place_Bn, place_BQg))
    number_Bn = torch.arange(n, device=words_BP.device).expand(B, -1)
    number_BP = torch.full_like(words_BP, n).scatter_(1, place_Bn, number_Bn)  # n: not of the sample
    best_BQx = torch.zeros(B, Q, n + 1, dtype=torch.bool, device=words_BP.device)
    best_BQx.scatter_(2, number_BP.gather(1, place_BQg.flatten(1)).view_as(place_BQg), True)
    unseen_BQn = (place_Bn // T)[:, None] >= before_BQ[..., None]
    away_BQn = best_BQx[..., :n] | unseen_BQn | (word_Bn == 0)[:, None]
    held_Bk = F.pad((words_BKT > 0).sum(-1).cumsum(-1), (1, 0))
    others_BQ = held_Bk.gather(1, before_BQ) - (near_BQg > FAR / 2).sum(-1)
    stands_BQ = (others_BQ.clamp(min=1) / (~away_BQn).sum(-1).clamp(min=1)).log()
    return Scores(
        torch.cat([near_BQg, score_BQn.masked_fill(away_BQn, FAR)], -1),
        torch.cat([word_BQg, word_Bn[:, None].expand_as(score_BQn)], -1),
        torch.cat([torch.zeros_like(near_BQg), stands_BQ[..., None].expand_as(score_BQn)], -1),
    )
