"""The figures: closed forms against numbers, hand-written chunks."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from memlm.measure.scores import (
    ChunkScores,
    entropy_ratio,
    retention_figures,
    score_chunks,
    storage_figures,
    uniform_logits_entropy,
)


@pytest.mark.parametrize("vocab_size", [1024, 8000])
def test_h0_is_the_entropy_of_uniform_logits(vocab_size):
    logits = torch.rand(2000, vocab_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.randint(0, vocab_size, (2000,), generator=torch.Generator().manual_seed(1))
    assert uniform_logits_entropy(vocab_size) == pytest.approx(F.cross_entropy(logits, labels).item(), abs=0.03)


def test_h0_at_the_papers_vocabulary():
    assert uniform_logits_entropy(8000) == pytest.approx(9.028, abs=1e-3)
    assert entropy_ratio(0.435, 8000) == pytest.approx(0.952, abs=5e-4)  # the paper's own pair of figures


def scores_of(right: list[list[bool]], nats: list[float]) -> ChunkScores:
    right_NT = np.array(right)
    return ChunkScores(np.array(nats), right_NT, np.zeros_like(right_NT, dtype=int))


def test_figures_by_hand():
    with_memory = scores_of([[True] * 4, [True, False, True, True]], [1.0, 3.0])
    without = scores_of([[False] * 4] * 2, [8.0, 12.0])
    figures = retention_figures(
        [with_memory], [without], 1000, np.array([10, 6]), memory_dim=8, unit_N=np.arange(2), seed=0
    )
    assert figures["cross_entropy"] == pytest.approx(0.5)
    assert figures["token_accuracy"] == pytest.approx(7 / 8)
    assert figures["exact_match"] == 0.5
    assert figures["first_error"] == pytest.approx((4 + 1) / 2)
    assert figures["bits_per_byte"] == pytest.approx(4 / math.log(2) / 16)
    assert figures["usable_bits_per_token"] == pytest.approx(2 / math.log(2))
    assert figures["usable_bits_per_embedding"] == pytest.approx(8 / math.log(2))
    assert figures["usable_bits_per_dimension"] == pytest.approx(1 / math.log(2))
    assert figures["accuracy_by_position"] == [1, 0.5, 1, 1]
    for name in ("cross_entropy", "token_accuracy", "exact_match", "usable_bits_per_token"):
        low, high = figures[f"{name}_ci"]
        assert low <= figures[name] <= high


def test_scoring_in_batches_is_scoring_at_once():
    torch.manual_seed(0)
    weight = torch.randn(6, 5 * 11)
    tokens = np.random.default_rng(0).integers(0, 11, (10, 5))
    memories = np.random.default_rng(1).normal(size=(10, 6)).astype(np.float32)
    scores = [
        score_chunks(lambda m: (m @ weight).unflatten(-1, (5, 11)), memories, tokens, torch.device("cpu"), batch=b)
        for b in (3, 100)
    ]
    np.testing.assert_allclose(scores[0].nats_N, scores[1].nats_N, rtol=1e-5)
    np.testing.assert_array_equal(scores[0].predicted_NT, scores[1].predicted_NT)
    logits = (torch.from_numpy(memories) @ weight).unflatten(-1, (5, 11))
    expected = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(tokens).flatten(), reduction="sum")
    assert scores[0].nats_N.sum() == pytest.approx(expected.item(), rel=1e-5)


def test_storage_is_counted_in_bytes():
    figures = storage_figures([b"a" * 100, b"b" * 50], tokens=64, vocab_size=1024, memory_dim=256)
    assert figures["memory_bytes"] == 1024
    assert figures["capacity_bits"] == 8192
    assert figures["token_id_bytes"] == 128
    assert figures["text_bytes"] == 75
    assert figures["gzip_bytes"] < 75
