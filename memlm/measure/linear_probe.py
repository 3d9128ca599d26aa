"""The closed-form probe: which mean is a vector nearest to? Linear discriminant analysis with a ridge.

Of every token at every place it keeps the mean of the standardised vectors it was seen with: mu_tv. With S their
covariance, what a vector x says of token v at place t is x A mu_tv - mu_tv A mu_tv / 2, A = (S + ridge I)^-1: the log
ratio of normal densities of equal covariance around mu_tv and around 0 (Fisher 1936). A token is seldom seen at one
place, so that mu_tv is drawn to its mean over all places, and this to 0, as if `place` and `token` more chunks had told
so. Nothing is iterated: it needs no schedule, seconds in the place of minutes, and few chunks.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memlm.measure.probe import Lesson, Probe, best_trust
from memlm.measure.scores import score_chunks

Array = np.ndarray
_NUMBERS = 2**28  # of all means: beyond, only the most frequent tokens have one
_TRIED = 256  # kept chunks that strengths are compared on
_GRID = {"ridge": (0.01, 0.1, 1.0, 10.0), "token": (4.0, 16.0, 64.0), "place": (16.0, 64.0, 256.0, 4096.0)}


class Strengths(NamedTuple):
    """How strongly means are drawn to what is sure, and the covariance to the identity."""

    ridge: float = 0.1
    token: float = 16.0
    place: float = 64.0


class LinearProbe(Probe):
    """Means of the tokens that are told apart, at each of T places."""

    def __init__(self, memories_NM: Array, known_TV: Tensor, tokens_NT: Array, device: torch.device):
        super().__init__(memories_NM, known_TV)
        self.to(device)
        T, V = known_TV.shape
        M = memories_NM.shape[1]
        count_V = np.bincount(tokens_NT.ravel(), minlength=V)
        told = np.sort(np.argsort(-count_V, kind="stable")[: max(1, min(V, _NUMBERS // (T * M)))])
        number_V = np.full(V, len(told))
        number_V[told] = np.arange(len(told))
        self.told_K = torch.from_numpy(told).to(device)
        sum_TKM = torch.zeros(T, len(told) + 1, M, device=device)  # the last row is of all other tokens
        count_TK = torch.zeros(T, len(told) + 1, device=device)
        self._covariance_MM = torch.zeros(M, M, device=device)
        for rows in np.array_split(np.arange(len(tokens_NT)), max(1, len(tokens_NT) // 8192)):
            x_BM = self.standardised(torch.from_numpy(np.ascontiguousarray(memories_NM[rows])).to(device))
            self._covariance_MM += x_BM.T @ x_BM / len(tokens_NT)
            for t, number_B in enumerate(torch.from_numpy(number_V[tokens_NT[rows].T]).to(device)):
                sum_TKM[t].index_add_(0, number_B, x_BM)
                count_TK[t] += torch.bincount(number_B, minlength=len(told) + 1)
        self._sum_TKM, self._count_TK = sum_TKM[:, :-1], count_TK[:, :-1]

    def settle(self, by: Strengths) -> None:
        """Make the means, and what they ask of a vector."""
        pooled_KM = self._sum_TKM.sum(0) / (self._count_TK.sum(0) + by.token)[:, None]
        mean_TKM = (self._sum_TKM + by.place * pooled_KM) / (self._count_TK + by.place)[..., None]
        precision_MM = torch.linalg.inv(
            self._covariance_MM + by.ridge * torch.eye(len(self._covariance_MM)).to(self.mean_M)
        )
        self.weight_TKM = mean_TKM @ precision_MM
        self.bias_TK = -(self.weight_TKM * mean_TKM).sum(-1) / 2

    def said(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, V]; nothing of tokens that have no mean."""
        said_BTK = torch.einsum("bm,tkm->btk", memory_BM, self.weight_TKM).add_(self.bias_TK)
        if said_BTK.shape[-1] == self.known_TV.shape[1]:
            return said_BTK
        return said_BTK.new_zeros(len(memory_BM), *self.known_TV.shape).index_copy_(-1, self.told_K, said_BTK)


@torch.inference_mode()
def fit_linear(memories_NM: Array, lesson: Lesson, device: torch.device) -> Probe:
    """Fit means, choose the strengths one after the other and the trust on the kept chunks."""
    aside_NM, learnt_NM = lesson.split(memories_NM)
    aside_NT = lesson.tokens_NT[: lesson.aside]
    probe = LinearProbe(learnt_NM, lesson.known_TV, lesson.tokens_NT[lesson.aside :], device)

    def told(by: Strengths, chunks: int) -> float:
        probe.settle(by)
        probe.trust_T = best_trust(probe, aside_NM[:chunks], aside_NT[:chunks])
        return float(score_chunks(probe, aside_NM[:chunks], aside_NT[:chunks], device).nats_N.mean())

    best = Strengths()
    for name, values in _GRID.items():
        best = min((best._replace(**{name: value}) for value in values), key=lambda by: told(by, _TRIED))
    probe.kept_nats = told(best, lesson.aside)
    del probe._sum_TKM, probe._covariance_MM  # what is only needed to settle
    return probe
