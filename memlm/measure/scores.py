"""What came back right, chunk by chunk, and the figures of a retention report: a number never travels alone."""

import gzip
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from memlm.measure.intervals import bootstrap, independent, share_over_seeds

Array = np.ndarray
BITS_PER_NUMBER = 32  # memories are fp32
_SHOWN = 6  # passages of a report


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

    def first_error_N(self) -> Array:
        """The position of each chunk's first wrong token, T where all are right."""
        wrong = np.concatenate([~self.right_NT, np.ones((len(self.right_NT), 1), bool)], 1)
        return wrong.argmax(1)


@torch.inference_mode()
def score_chunks(
    decode: Callable[[Tensor], Tensor], memories_NM: Array, tokens_NT: Array, device: torch.device, batch: int = 256
) -> ChunkScores:
    """Recall chunks from their memories; `decode` makes logits [B, T, V] of memories [B, M]."""
    nats, right, predicted = [], [], []
    for i in range(0, len(tokens_NT), batch):
        memory_BM = torch.from_numpy(np.array(memories_NM[i : i + batch])).to(device)
        tokens_BT = torch.from_numpy(tokens_NT[i : i + batch].astype(np.int64)).to(device)
        logits_BTV = decode(memory_BM).float()
        loss_BT = F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT.flatten(), reduction="none").view_as(tokens_BT)
        best_BT = logits_BTV.max(-1).indices  # faster than argmax on a CPU
        nats.append(loss_BT.double().sum(1).cpu().numpy())
        right.append((best_BT == tokens_BT).cpu().numpy())
        predicted.append(best_BT.cpu().numpy())
    return ChunkScores(np.concatenate(nats), np.concatenate(right), np.concatenate(predicted))


def retention_figures(
    scores: Sequence[ChunkScores],
    without: Sequence[ChunkScores],
    vocab_size: int,
    bytes_N: Array,
    memory_dim: int,
    unit_N: Array,
    seed: int,
) -> dict[str, Any]:
    """Every figure of the retention report, each with its 95 % interval `..._ci` over chunks and seeds.

    `scores` are of recall from the memories, one for every seed of the probe; `without` of the same chunks by the
    floors of these seeds, `bytes_N` the bytes of text of each chunk, `unit_N` what is resampled together. Usable
    information is the floor's cross-entropy minus the probe's, for this probe and budget: a lower bound of what the
    memory holds, and free of the token frequencies that any probe learns (they alone give an uninformed one an entropy
    ratio of 0.26 to 0.34).
    """
    T, bit = scores[0].right_NT.shape[1], math.log(2)
    nats_SN = np.stack([one.nats_N for one in scores])
    told_SN = np.stack([floor.nats_N for floor in without]) - nats_SN
    bytes_SN = np.broadcast_to(bytes_N, nats_SN.shape)
    first_SN = np.stack([one.first_error_N() for one in scores])
    worth = independent(nats_SN.mean(0), unit_N)
    figures: dict[str, Any] = {}
    shares = {
        "token_accuracy": np.stack([one.right_NT.mean(1) for one in scores]),
        "exact_match": np.stack([one.right_NT.all(1) for one in scores]).astype(float),
    }
    for name, share_SN in shares.items():
        figures[name], figures[f"{name}_ci"] = float(share_SN.mean()), share_over_seeds(share_SN, worth)
    means: dict[str, tuple[Any, ...]] = {  # a statistic of means, and of what
        "cross_entropy": (lambda nats: nats / T, nats_SN),
        "entropy_ratio": (lambda nats: entropy_ratio(nats / T, vocab_size), nats_SN),
        "first_error": (lambda place: place, first_SN),
        "bits_per_byte": (lambda nats, size: nats / bit / size, nats_SN, bytes_SN),
        "usable_bits_per_token": (lambda nats: nats / bit / T, told_SN),
        "usable_bits_per_embedding": (lambda nats: nats / bit, told_SN),
        "usable_bits_per_dimension": (lambda nats: nats / bit / max(1, memory_dim), told_SN),
    }
    for name, (of_means, *values) in means.items():
        values_SNK = np.stack(values, 2).astype(float)
        figures[name] = float(of_means(*values_SNK.mean((0, 1))))
        figures[f"{name}_ci"] = bootstrap(lambda m, of=of_means: of(*m.T), values_SNK, unit_N, seed)
    right_T = np.mean([one.right_NT.mean(0) for one in scores], 0)
    figures["accuracy_by_position"] = [round(float(a), 5) for a in right_T]
    figures["independent_chunks"] = round(worth, 1)
    return figures


def storage_figures(texts: list[bytes], tokens: int, vocab_size: int, memory_dim: int) -> dict[str, float]:
    """What the memory costs beside other ways of keeping the same chunk, in bytes: its own, the token ids, gzip."""
    return {
        "memory_bytes": memory_dim * BITS_PER_NUMBER / 8,
        "capacity_bits": memory_dim * BITS_PER_NUMBER,
        "token_id_bytes": tokens * (2 if vocab_size <= 2**16 else 4),
        "text_bytes": float(np.mean([len(t) for t in texts])),
        "gzip_bytes": float(np.mean([len(gzip.compress(t, mtime=0)) for t in texts])),
    }


def passages(scores: ChunkScores, tokens_NT: Array, tokenizer: Tokenizer) -> list[dict[str, list[Any]]]:
    """Some chunks as they were and as they were recalled, piece by piece, evenly spread over the held-out text."""

    def pieces(ids_T: Array) -> list[str]:
        return [tokenizer.decode([i], skip_special_tokens=False) for i in ids_T.tolist()]

    return [
        {
            "original": pieces(tokens_NT[n]),
            "recalled": pieces(scores.predicted_NT[n]),
            "right": scores.right_NT[n].tolist(),
        }
        for n in np.linspace(0, len(tokens_NT) - 1, min(_SHOWN, len(tokens_NT))).astype(int)
    ]
