"""One row of a retention report: a number never travels alone."""

import gzip
import math
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from memlm.measure.bootstrap import interval
from memlm.measure.scores import ChunkScores, entropy_ratio

BITS_PER_NUMBER = 32  # memories are fp32


def retention_figures(
    scores: ChunkScores, without: ChunkScores, vocab_size: int, bytes_N: np.ndarray, memory_dim: int, seed: int
) -> dict[str, Any]:
    """Every figure of the retention report, each with its bootstrap interval `..._ci` over chunks.

    Args:
        scores: recall from the memories.
        without: recall of the same chunks by the same kind of decoder trained without memories.
        vocab_size: V.
        bytes_N: bytes of text of each chunk.
        memory_dim: numbers in a memory.
        seed: of the bootstrap.

    Usable information is cross-entropy without memory minus with it, for this decoder and training budget: a lower
    bound of what the memory holds, and free of the token frequencies that any probe learns (they alone give an
    uninformed one an entropy ratio of 0.26 to 0.34).
    """
    T, nats_per_bit = scores.tokens, math.log(2)
    per_chunk = {
        "cross_entropy": (lambda m: m[:, 0] / T, scores.nats_N),
        "entropy_ratio": (lambda m: entropy_ratio(m[:, 0] / T, vocab_size), scores.nats_N),
        "token_accuracy": (lambda m: m[:, 0], scores.right_NT.mean(1)),
        "exact_match": (lambda m: m[:, 0], scores.right_NT.all(1).astype(float)),
        "first_error": (lambda m: m[:, 0], scores.first_error_N().astype(float)),
        "bits_per_byte": (lambda m: m[:, 0] / nats_per_bit / m[:, 1], np.stack([scores.nats_N, bytes_N], 1)),
        "usable_bits_per_token": (lambda m: m[:, 0] / nats_per_bit / T, without.nats_N - scores.nats_N),
        "usable_bits_per_embedding": (lambda m: m[:, 0] / nats_per_bit, without.nats_N - scores.nats_N),
        "usable_bits_per_dimension": (
            lambda m: m[:, 0] / nats_per_bit / max(1, memory_dim),
            without.nats_N - scores.nats_N,
        ),
    }
    figures: dict[str, Any] = {}
    for name, (statistic, values) in per_chunk.items():
        values_NK = values.reshape(len(values), -1).astype(float)
        figures[name] = float(statistic(values_NK.mean(0, keepdims=True))[0])
        figures[f"{name}_ci"] = interval(statistic, values_NK, seed)
    figures["accuracy_by_position"] = [round(float(a), 5) for a in scores.right_NT.mean(0)]
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


def passages(
    scores: ChunkScores, tokens_NT: np.ndarray, tokenizer: Tokenizer, count: int = 6
) -> list[dict[str, list[Any]]]:
    """Some chunks as they were and as they were recalled, piece by piece, evenly spread over the held-out text."""
    chosen = np.linspace(0, len(tokens_NT) - 1, min(count, len(tokens_NT))).astype(int)
    return [
        {
            "original": [tokenizer.decode([i], skip_special_tokens=False) for i in tokens_NT[n].tolist()],
            "recalled": [tokenizer.decode([i], skip_special_tokens=False) for i in scores.predicted_NT[n].tolist()],
            "right": scores.right_NT[n].tolist(),
        }
        for n in chosen
    ]
