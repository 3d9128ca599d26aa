"""Properties of the copy head: `PYTHONPATH=benchmarks/trials/far python -m pytest benchmarks/trials/far`."""

import pytest
import torch
from index import PlaceIndex
from reader import Copied, CopyReader, CopyShape, Recent, recent

T, V, W = 8, 40, 16


@pytest.fixture
def reader():
    torch.manual_seed(0)
    reader = CopyReader(CopyShape(vocab_size=V, width=W, word_dim=8, key_dim=8, top=6, earlier=2, gate=8))
    for p in reader.parameters():  # nothing at its start, where many terms are zero
        p.data += 0.1 * torch.randn_like(p)
    reader.gate.bias.data[0] = 3.0
    return reader.eval().requires_grad_(False)


@pytest.fixture
def example(reader):
    """30 memories, and the three chunks after the first 28 as they are predicted in training: two of them are memories themselves."""
    torch.manual_seed(1)
    words = torch.randint(1, V, (2, 30, T))
    asked = torch.cat([words[:, 28:].flatten(1), torch.randint(1, V, (2, T))], 1)
    logp = torch.randn(2, 3 * T, V).log_softmax(-1)
    told = recent(asked, reader.shape.reach, logp, T, words[:, :28].flatten(1)[:, -reader.shape.reach :])
    return words, asked, torch.randn(2, 3 * T, W), logp, told, torch.arange(28, 31).repeat_interleave(T)


def one(told: Recent, n: int, rows=slice(None)) -> Recent:
    return Recent(told.words_BNn[rows, n : n + 1], told.logp_BN4[rows, n : n + 1])


def test_a_mixture_is_a_distribution_and_its_loss_is_the_losses(reader, example):
    words, asked, hidden, logp, told, seen = example
    mixed, _ = reader(hidden, told, reader.keep(words), logp, seen)
    loss, _ = reader.losses(hidden, told, reader.keep(words), logp, asked, seen)
    torch.testing.assert_close(mixed.exp().sum(-1), torch.ones(2, 3 * T))
    torch.testing.assert_close(loss, -mixed.gather(-1, asked[..., None])[..., 0], rtol=0, atol=1e-5)


def test_memories_appended_one_by_one_are_kept_as_all_at_once(reader, example):
    words = example[0]
    kept = reader.keep(words[:, :1])
    for m in range(1, 30):
        kept = reader.append(kept, words[:, m : m + 1])
    for grown, whole in zip(vars(kept).values(), vars(reader.keep(words)).values(), strict=True):
        assert torch.equal(grown, whole)


def test_what_is_not_seen_changes_nothing(reader, example):
    words, _, hidden, logp, told, seen = example
    other = words.clone()
    other[:, 28:] = torch.randint(1, V, (2, 2, T))
    first, changed = (reader(hidden, told, reader.keep(x), logp, seen)[0] for x in (words, other))
    assert torch.equal(first[:, :T], changed[:, :T])
    assert not torch.equal(first[:, T:], changed[:, T:])


def test_one_token_at_a_time_is_training(reader, example):
    words, _, hidden, logp, told, seen = example
    mixed, opened = reader(hidden, told, reader.keep(words), logp, seen)
    for n in range(3 * T):
        kept = reader.keep(words[:, : seen[n]])
        step, numbers = reader(hidden[:, n : n + 1], one(told, n), kept, logp[:, n : n + 1])
        assert all({*a.tolist()} == {*b.tolist()} for a, b in zip(numbers[:, 0], opened[:, n], strict=True))
        torch.testing.assert_close(step, mixed[:, n : n + 1], rtol=0, atol=1e-4)


def test_the_index_opens_what_all_scores_open(reader, example):
    words, _, hidden, logp, told, _ = example
    mixed, opened = reader(hidden, told, reader.keep(words), logp)
    index = PlaceIndex(reader, words[0, :20])
    for m in range(20, 30):
        index.append(words[0, m : m + 1])
    for n in range(3 * T):
        found = index.open(one(told, n, slice(1)))
        assert {*found.number_BNk[0, 0].tolist()} == {*opened[0, n].tolist()}
        step = reader.mix(hidden[:1, n : n + 1], one(told, n, slice(1)), found, logp[:1, n : n + 1], torch.tensor([30]))
        torch.testing.assert_close(step, mixed[:1, n : n + 1], rtol=0, atol=1e-4)


def test_a_quotation_is_found_and_one_changed_word_hides_nothing(reader, example):
    words, _, hidden, logp, _, _ = example
    kept = reader.keep(words)
    flat = kept.before_BKTn.flatten(1, 2)
    for place in (5 * T + 6, 11 * T + 7):
        before = flat[:, place : place + 1].clone()
        before[..., 0] = before[..., 0] % (V - 1) + 1  # another word just before
        for words_BNn in (flat[:, place : place + 1], before):
            asked = Recent(words_BNn, torch.zeros(2, 1, 4))
            _, opened = reader(hidden[:, :1], asked, kept, logp[:, :1])
            assert (opened == place // T).any(-1).all()


def test_kept_is_words_and_keys(reader, example):
    assert isinstance(kept := reader.keep(example[0]), Copied)
    torch.testing.assert_close(kept.key_BPd.norm(dim=-1), torch.ones(2, 30 * T))
