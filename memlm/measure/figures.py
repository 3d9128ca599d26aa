"""Scores of single places, and the figures made of them: each a sum over a sum, so that it can be resampled."""

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
LOWER_IS_BETTER = ("cross_entropy", "bits_per_byte")


@dataclass(frozen=True)
class PlaceScores:
    """Scores of B examples of N places; what is not scored has neither nats nor a right answer."""

    nats_BN: Array  # cross-entropy
    right_BN: Array  # bool: the most likely token is the right one
    scored_BN: Array  # bool


def places(scores: PlaceScores, where_BN: Array) -> PlaceScores:
    """The same scores of some places alone."""
    return PlaceScores(scores.nats_BN * where_BN, scores.right_BN & where_BN, scores.scored_BN & where_BN)


def sums(metric: str, scores: PlaceScores, bytes_BN: Array, chunk_tokens: int) -> Array:
    """What a figure is made of [B, 2]: it is the sum of the first over the sum of the second.

    Args:
        metric: `cross_entropy` (nats a token), `bits_per_byte`, `token_accuracy`, `exact_match` (the share of examples
            in which everything scored is right) or `chunk_match` (the same of chunks).
        scores: of every place.
        bytes_BN: bytes of text at every scored place.
        chunk_tokens: T.
    """
    scored_BN = scores.scored_BN
    if metric == "cross_entropy":
        pair = scores.nats_BN.sum(1), scored_BN.sum(1)
    elif metric == "bits_per_byte":
        pair = scores.nats_BN.sum(1) / math.log(2), (bytes_BN * scored_BN).sum(1)
    elif metric == "token_accuracy":
        pair = scores.right_BN.sum(1), scored_BN.sum(1)
    else:
        size = {"exact_match": scored_BN.shape[1], "chunk_match": chunk_tokens}[metric]
        starts = np.arange(0, scored_BN.shape[1], size)
        asked_BC = np.add.reduceat(scored_BN.astype(int), starts, 1)
        right_BC = np.add.reduceat((scores.right_BN & scored_BN).astype(int), starts, 1)
        pair = ((right_BC == asked_BC) & (asked_BC > 0)).sum(1), (asked_BC > 0).sum(1)
    return np.stack(pair, 1).astype(float)
