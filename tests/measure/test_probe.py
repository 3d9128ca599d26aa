"""Every family of probes finds what a memory holds, and nothing where there is nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memlm.measure import trained_probe
from memlm.measure.config import DECODERS, FAMILIES, ProbeConfig
from memlm.measure.families import fit_families
from memlm.measure.linear_probe import LinearProbe, Strengths
from memlm.measure.probe import Probe, best_trust, frequencies, kept_aside, lesson
from memlm.measure.scores import score_chunks
from memlm.measure.trained_probe import fit_trained

V, T, M = 30, 4, 64
CPU = torch.device("cpu")
PROBE = ProbeConfig(steps=100, batch=64)
CODE_VM = np.random.default_rng(9).normal(size=(T * V, M)).astype(np.float32)


def text(count: int, seed: int) -> np.ndarray:
    """Chunks of tokens that are independent of each other, some frequent."""
    return np.random.default_rng(seed).choice(V, (count, T), p=np.arange(1, V + 1) / (V * (V + 1) / 2))


def telling(tokens_NT: np.ndarray) -> np.ndarray:
    """Memories that hold their chunk: a random direction for each token at each place, added up."""
    return CODE_VM[tokens_NT + V * np.arange(T)].sum(1)


def first(tokens_NT: np.ndarray) -> np.ndarray:
    """Memories that hold their first token and nothing else: a random code of it."""
    return CODE_VM[tokens_NT[:, 0]]


def silent(tokens_NT: np.ndarray) -> np.ndarray:
    """Memories that hold nothing."""
    return np.random.default_rng(len(tokens_NT)).normal(size=(len(tokens_NT), M)).astype(np.float32)


def lesson_of(count: int, seed: int = 0):
    return lesson(text(count, 0), np.arange(count) // 10, V, seed)


def fit(family: str, memories, count: int, config: ProbeConfig = PROBE, seed: int = 0) -> Probe:
    return fit_families(memories(text(count, 0)), lesson_of(count, seed), CPU, config, "it", [family])[family]


def usable_bits(probe: Probe, memories, chunks: int = 400) -> np.ndarray:
    """Of each token of other chunks [T], beyond the floor's."""
    tokens_NT = text(chunks, 1)
    of_NM = torch.from_numpy(memories(tokens_NT))
    with torch.inference_mode():
        logits_NTV = probe(of_NM).log_softmax(-1).numpy()
    told_NT, known_NT = (
        np.take_along_axis(np.broadcast_to(one, logits_NTV.shape), tokens_NT[..., None], -1)[..., 0]
        for one in (logits_NTV, probe.known_TV.log_softmax(-1).numpy())
    )
    return (told_NT - known_NT).mean(0) / np.log(2)


@pytest.mark.parametrize(
    ("family", "count"), [*((family, 200) for family in FAMILIES), ("linear", 1500), ("linear+slots", 1500)]
)
def test_a_memory_that_holds_nothing_is_worth_nothing(family, count):
    probe = fit(family, silent, count)
    assert abs(usable_bits(probe, silent).mean()) < 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_token_is_told_to_its_bits_and_no_other(family):
    told = usable_bits(fit(family, first, 3000), first)
    share_V = np.arange(1, V + 1) / (V * (V + 1) / 2)
    assert told[0] == pytest.approx(-(share_V * np.log2(share_V)).sum(), rel=0.05)
    assert abs(told[1:]).max() < 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_a_memory_that_holds_its_text_is_read_and_another_one_misleads(family):
    probe = fit(family, telling, 1500)
    assert usable_bits(probe, telling).mean() > 2
    assert usable_bits(probe, silent).mean() < 0


def test_on_top_of_the_closed_form_a_decoder_tells_more_than_either():
    """Where places are mixed, which a mean for each token at each place does not undo."""

    def mixed(tokens_NT: np.ndarray) -> np.ndarray:
        return np.maximum(telling(tokens_NT) @ np.roll(CODE_VM, 1, 0)[:M], 0) / M

    alone = fit_trained(mixed(text(3000, 0)), lesson_of(3000), CPU, DECODERS["slots"], PROBE, "it")
    told = {family: usable_bits(fit(family, mixed, 3000), mixed).mean() for family in ("linear", "linear+slots")}
    assert told["linear+slots"] > max(told["linear"], usable_bits(alone, mixed).mean()) + 0.02


def test_a_step_is_that_of_the_mean_cross_entropy(monkeypatch):
    probe, memories, tokens_NT = fit("linear+slots", telling, 600), torch.from_numpy(telling(text(40, 0))), text(40, 0)
    tokens_BT = torch.from_numpy(tokens_NT)
    known, said_BTV = probe.parts(memories)
    torch.nn.functional.cross_entropy((known + said_BTV).flatten(0, 1), tokens_BT.flatten()).backward()
    asked = [param.grad.clone() for param in probe.parameters()]
    assert any(one.any() for one in asked)
    for in_cache in (1, 2**20):  # a chunk at a time, and all
        monkeypatch.setattr("memlm.measure.probe._IN_CACHE", in_cache)
        probe.zero_grad()
        trained_probe.probe_step(probe, [], memories, tokens_BT, 0.0)
        for param, one in zip(probe.parameters(), asked, strict=True):
            torch.testing.assert_close(param.grad, one, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("kept", "at_once"), [(trained_probe._KEPT, trained_probe.AT_ONCE), (0, 8 * T * V)])
def test_a_look_tells_kept_chunks_at_the_trust_of_the_first_ones(monkeypatch, kept, at_once):
    probe, memories, tokens_NT = fit("linear+slots", telling, 600), telling(text(40, 2)), text(40, 2)
    monkeypatch.setattr(trained_probe, "_LOOKED", 16)
    monkeypatch.setattr(trained_probe, "_KEPT", kept)
    monkeypatch.setattr(trained_probe, "AT_ONCE", at_once)
    aside = trained_probe._Aside(probe, memories, tokens_NT)
    nats = aside.nats(aside.trust(aside.first))
    probe.trust_T = best_trust(probe, memories[:16], tokens_NT[:16])
    assert nats == pytest.approx(score_chunks(probe, memories, tokens_NT, CPU).nats_N.mean(), rel=1e-5)


def test_trust_is_where_the_loss_is_least():
    memories, tokens_NT, one = telling(text(300, 0)), text(300, 0), lesson_of(300)
    probe = LinearProbe(memories, one.known_TV, tokens_NT, CPU)
    probe.settle(Strengths())
    found_T = best_trust(probe, memories, tokens_NT)

    def loss(trust_T: torch.Tensor) -> float:
        probe.trust_T = trust_T
        return score_chunks(probe, memories, tokens_NT, CPU).nats_N.mean()

    for t in range(T):
        place_T = torch.eye(T)[t]
        assert loss(found_T) < min(loss(found_T * (1 + far * place_T)) for far in (-0.2, 0.2))


def test_means_are_told_in_closed_form():
    memories, tokens_NT, by = telling(text(500, 0)), text(500, 0), Strengths(ridge=0.5, token=3.0, place=7.0)
    probe = LinearProbe(memories, lesson_of(500).known_TV, tokens_NT, CPU)
    probe.settle(by)
    x = (memories - memories.mean(0)) / memories.std(0)
    precision = np.linalg.inv(x.T @ x / len(x) + by.ridge * np.eye(M))
    t, v = 2, 17
    seen = x[tokens_NT[:, t] == v]
    anywhere = sum(x[tokens_NT[:, place] == v].sum(0) for place in range(T)) / ((tokens_NT == v).sum() + by.token)
    mean = (seen.sum(0) + by.place * anywhere) / (len(seen) + by.place)
    said = probe.said(torch.from_numpy(x.astype(np.float32)))[:, t, v].numpy()
    np.testing.assert_allclose(said, x @ precision @ mean - mean @ precision @ mean / 2, rtol=1e-3, atol=1e-3)


def test_the_floor_is_frequencies_and_tells_unseen_tokens_too():
    tokens_NT = text(2000, 0)
    told = frequencies(tokens_NT, text(200, 1), V).exp().numpy()
    np.testing.assert_allclose(told.sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose(told.mean(0), np.bincount(tokens_NT.ravel(), minlength=V) / tokens_NT.size, atol=3e-3)
    assert frequencies(np.zeros((50, T), int), np.zeros((5, T), int), V).isfinite().all()


def test_every_document_gives_its_share_of_the_kept_chunks():
    document_N = np.repeat([0, 1, 2], [800, 150, 50])
    tokens_NT = np.broadcast_to(document_N[:, None], (1000, T))  # whose tokens say where a chunk is from
    kept = np.bincount(lesson(tokens_NT, document_N, V, 0).tokens_NT[: kept_aside(1000), 0])
    assert kept.sum() == 125
    assert (abs(kept - np.array([100, 18.75, 6.25])) < 1).all()
    assert [kept_aside(n) for n in (2, 3, 100, 2500, 32_768)] == [1, 1, 50, 312, 1024]


def test_kept_chunks_are_not_learnt_from_and_memories_stay_beside_their_chunks():
    one, tokens_NT = lesson_of(300), text(300, 0)
    aside, learnt = one.split(telling(tokens_NT))
    np.testing.assert_array_equal(np.concatenate([aside, learnt]), telling(one.tokens_NT))
    assert sorted(one.order_N) == list(range(300))
    assert len(aside) == one.aside == kept_aside(300)


def test_a_probe_that_only_spoils_says_what_the_floor_says():
    decoder = replace(DECODERS["slots"], optim=replace(DECODERS["slots"].optim, lr=9.0, matrix_lr=9.0))
    probe = fit_trained(silent(text(300, 0)), lesson_of(300), CPU, decoder, PROBE, "it")
    assert abs(usable_bits(probe, silent).mean()) < 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_probe_and_another_another(family):
    config = replace(PROBE, steps=20)
    one, same, other = (usable_bits(fit(family, telling, 200, config, seed), telling) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_probe_is_what_told_kept_chunks_best_on_its_way(monkeypatch):
    seen = []

    def nats(aside, trust_T):
        seen.append(aside.probe.head.weight.clone())
        return abs(len(seen) - 5.0)  # best at the fifth look

    monkeypatch.setattr(trained_probe._Aside, "nats", nats)
    probe = fit("linear+slots", telling, 300)
    assert len(seen) == trained_probe.LOOKS + 2  # the last is of what is taken
    torch.testing.assert_close(probe.head.weight, seen[4], rtol=0, atol=0)
    assert not torch.equal(seen[4], seen[-2])
    assert 0 < probe.step < PROBE.steps
