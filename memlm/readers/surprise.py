"""How unexpected words are where they stand: what tells a place that says something from one that says it in passing.

    surprise  s(w | v) = log V p(w | v) = a_v . b_w + c_w, of a word w after the word v: learnt by telling pairs of
              memories from the same first words before uniformly drawn ones, which is a density ratio (noise contrast;
              Gutmann and Hyvärinen, 2010), of rank d
    bias      of a place p after the word before the prediction, in head i: a network of one hidden layer of
              s(w_p-3 | w_p-4) ... s(w_p+1 | w_p), of s of the last words before the prediction, of which further words
              agree, and of log p_LM(w_p)

Two words stand together by chance in any long text; a thing is told where its words surprise, and what stands before
and after it does not. The bias is zero at initialisation.

Suffixes as in pointer.py; N places, F numbers of the network's input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BEFORE, AFTER, ASKED = 3, 1, 3  # words whose surprise is told: before a place, after it, before the prediction
TOLD = 4  # numbers that are told of a place beside
HIDDEN = 16  # width of the network
PAIRS = 1024  # of a text, by which a step teaches at most
STEP = 3.0  # as of shares.py
_HASH = 0x9E3779B97F4A7C15 - 2**64


class Surprise(nn.Module):
    """The tables of pairs, and the network.

    Args:
        vocab_size: V.
        dim: d.
        heads: H.
    """

    def __init__(self, vocab_size: int, dim: int, heads: int):
        super().__init__()
        self.first, self.second = nn.Embedding(vocab_size, dim), nn.Embedding(vocab_size, dim)
        self.common = nn.Parameter(torch.zeros(vocab_size))
        self.hidden, self.out = nn.Linear(BEFORE + 1 + AFTER + ASKED + TOLD, HIDDEN), nn.Linear(HIDDEN, heads)
        for table in (self.first, self.second):
            nn.init.normal_(table.weight, std=0.3 / STEP)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def forward(self, words_Nn: Tensor) -> Tensor:
        """s of each word but the first after the one before it [..., n - 1]; 0 where either is none."""
        v_Nn, w_Nn = words_Nn[..., :-1], words_Nn[..., 1:]
        return self._pair(v_Nn, w_Nn).masked_fill((v_Nn == 0) | (w_Nn == 0), 0)

    def _pair(self, v_N: Tensor, w_N: Tensor) -> Tensor:
        return STEP**2 * (self.first(v_N) * self.second(w_N)).sum(-1) + STEP * self.common[w_N]

    def bias(self, at_NM: Tensor, place_N: Tensor, recent_Nn: Tensor, told_Nt: Tensor) -> Tensor:
        """What is added to places' scores [N, H].

        Args:
            at_NM: words among which each place is; nothing is known of what stands after them.
            place_N: where in these it is.
            recent_Nn: the words before the prediction, the nearest first.
            told_Nt: what else is told of each place.
        """
        offset_n = torch.arange(-BEFORE - 1, AFTER + 1, device=place_N.device)
        around_Nn = F.pad(at_NM, (0, AFTER)).gather(1, place_N[:, None] + offset_n)
        with torch.no_grad():  # pairs are learnt by what stands together alone
            x_NF = torch.cat([self(around_Nn), self(recent_Nn[:, : ASKED + 1].flip(-1)), told_Nt], -1) / 4
        return STEP * self.out(F.gelu(self.hidden(x_NF)))

    def lesson(self, words_BP: Tensor) -> Tensor:
        """What tells the pairs of texts from those of their first words and others: a mean, nats.

        The others depend on the words alone, so that a step is the same by however many processes it is made.
        """
        each = max(1, words_BP.shape[1] // PAIRS)
        v_BN, w_BN = words_BP[:, :-1:each], words_BP[:, 1::each]
        number_N = torch.arange(v_BN.shape[1], device=v_BN.device)
        other_BN = ((v_BN * _HASH + w_BN + number_N) * _HASH >> 32) % len(self.common)
        there_BN = (v_BN > 0) & (w_BN > 0)
        nats_BN = F.softplus(-self._pair(v_BN, w_BN)) + F.softplus(self._pair(v_BN, other_BN))
        return nats_BN.where(there_BN, 0).sum() / there_BN.sum().clamp(min=1)
