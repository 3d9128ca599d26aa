"""What came back right, chunk by chunk: the raw material of every figure and of its interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Array = np.ndarray


def uniform_logits_entropy(vocab_size: int) -> float:
    """H0: cross-entropy in nats of logits drawn from U[0,1): ln V + ln(e - 1) - 1/2 (paper, Metrics).

    The mean over the vocabulary of exp(u) is e - 1 and the label's own logit averages 1/2; exact for large V.
    """
    return math.log(vocab_size) + math.log(math.e - 1) - 0.5


def entropy_ratio(cross_entropy: float | Array, vocab_size: int) -> float | Array:
    """H_r = 1 - CE / H0 (paper, Metrics): 1 for perfect recall, 0 for random logits."""
    return 1 - cross_entropy / uniform_logits_entropy(vocab_size)


@dataclass(frozen=True)
class ChunkScores:
    """Scores of N chunks of T tokens recalled from one memory each, all positions in one pass."""

    nats_N: Array  # summed cross-entropy of a chunk
    right_NT: Array  # bool
    predicted_NT: Array  # the most likely ids

    @property
    def tokens(self) -> int:
        """T."""
        return self.right_NT.shape[1]

    def first_error_N(self) -> Array:
        """The position of each chunk's first wrong token, T where all are right."""
        wrong = np.concatenate([~self.right_NT, np.ones((len(self.right_NT), 1), bool)], 1)
        return wrong.argmax(1)


@torch.inference_mode()
def score_chunks(
    decode: Callable[[Tensor], Tensor], memories_NM: Array, tokens_NT: Array, device: torch.device, batch: int = 256
) -> ChunkScores:
    """Recall chunks from their memories.

    Args:
        decode: memories [B, M] -> logits [B, T, V].
        memories_NM: one memory a chunk.
        tokens_NT: the chunks' true token ids.
    """
    nats, right, predicted = [], [], []
    for i in range(0, len(tokens_NT), batch):
        memory_BM = torch.from_numpy(np.array(memories_NM[i : i + batch])).to(device)
        tokens_BT = torch.from_numpy(tokens_NT[i : i + batch].astype(np.int64)).to(device)
        logits_BTV = decode(memory_BM).float()
        loss_BT = F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT.flatten(), reduction="none").view_as(tokens_BT)
        best_BT = logits_BTV.argmax(-1)
        nats.append(loss_BT.double().sum(1).cpu().numpy())
        right.append((best_BT == tokens_BT).cpu().numpy())
        predicted.append(best_BT.cpu().numpy())
    return ChunkScores(np.concatenate(nats), np.concatenate(right), np.concatenate(predicted))
