"""What is opened among many memories: the same by lists as by a look at every place; and what the mixture is."""

import pytest
import torch
from memory_models import ENCODERS, POINTWISE, TRANSFORMER, M, T, build, ids

from memlm.decoding.cached import Prompt
from memlm.models.shapes import MemoryShape
from memlm.readers import pointer
from memlm.readers.config import PointerReader
from memlm.readers.finding import PlaceIndex, Tail, open_all, open_indexed, packed, unpacked
from memlm.readers.reader import Queries

READER = PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=6, gate=8, window=2)
SHAPE = MemoryShape(chunks=4, encoder=ENCODERS[2], decoder=TRANSFORMER, reader=READER)


def few_words(K: int, seed: int, vocab: int = 5) -> torch.Tensor:
    """Memories of a small vocabulary, so that words come back: long [K, T]."""
    return torch.randint(0, vocab, (K, T), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tail", [0, 1, 7])
def test_lists_open_what_a_look_at_every_place_opens(tail, tmp_path):
    reader, K = build(SHAPE).reader, 40
    for seed in range(20):
        words = few_words(K, seed)
        words_1KT, key_1KTd = reader.keep_words(words[None])
        key_1KTd = unpacked(packed(key_1KTd))
        recent_11n = few_words(4, seed + 100).flatten()[None, None, : reader.recent]
        queries = Queries(torch.tensor([[K]]), torch.tensor([[0]]), recent_11n)

        def look(ago, words=words_1KT, keys=key_1KTd, recent=recent_11n, queries=queries):
            return reader._scores(recent[..., : ago + 4], (words, keys), queries, ago)

        expected = open_all(look, recent_11n, words_1KT, queries, reader.top)[0, 0]
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        reader.index_words(words[: K - tail], torch.zeros(2, M), folder)
        looks = torch.stack([recent_11n[0, 0, ago : ago + 4] for ago in range(3)])[None]
        query_Ld = reader._unit(looks, reader.query)[0] * reader._sharpness()
        rest = Tail(words[K - tail :], key_1KTd[0, K - tail :].flatten(0, 1))
        found = open_indexed(PlaceIndex.open(folder), rest, query_Ld, recent_11n[0, 0], 4, reader.top)
        assert sorted(found.tolist()) == sorted(expected.tolist())


def test_text_goes_on_from_lists_as_from_every_place(monkeypatch):
    """Long enough for lists, cached and computed anew are equal, if keys are rounded in both."""
    model, text = build(SHAPE), ids(1, 40 * T)
    exact = model.reader._unit
    monkeypatch.setattr(
        model.reader,
        "_unit",
        lambda x, layer: unpacked(packed(exact(x, layer))) if layer is model.reader.key else exact(x, layer),
    )
    truth = model(torch.nn.functional.pad(text, (0, T))).logits[:, 30 * T :]
    monkeypatch.setattr(pointer, "INDEXED", 1)
    decoding = model.decoding(Prompt(text[:, : 30 * T], [30 * T]))
    assert decoding.index is not None
    for n in range(10 * T):
        torch.testing.assert_close(decoding.logits.log_softmax(-1), truth[:, n].log_softmax(-1), rtol=1e-4, atol=1e-4)
        decoding.step(text[:, 30 * T + n])


def test_the_mixture_is_a_distribution_and_tells_what_it_copied():
    model, x = build(SHAPE), ids(2, 6 * T)
    with torch.no_grad():
        model.reader.gate.bias.zero_()  # something is copied
        out = model(x)
        logits, opened = out.logits[:, T:], out.opened
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 5 * T))
    before = torch.arange(6).repeat_interleave(T)
    for n in range(T, 6 * T):
        newest = {int(before[n]) - 1, max(0, int(before[n]) - 2)}
        assert all(newest <= set(row.tolist()) for row in opened[:, n])
    decoding = model.decoding(Prompt(x, [6 * T] * 2))
    numbers, shares = decoding.opened
    assert numbers.shape == shares.shape
    assert (shares >= 0).all()
    assert (shares.sum(-1) <= 1 + 1e-5).all()
    assert (shares.sum(-1) > 0).all()


def test_keys_of_memories_that_come_later_go_on_from_those_before():
    reader, words = build(SHAPE).reader, few_words(6, 0)[None]
    whole = reader.keep_words(words)
    first = reader.keep_words(words[:, :4])
    later = reader.keep_words(words[:, 4:], tuple(t[:, -1:] for t in first))
    for part, all_at_once in zip(zip(first, later, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(part, 1), all_at_once)


def test_what_is_kept_is_no_more_than_words_and_keys():
    model = build(SHAPE)
    assert model.cache_bytes(0, 1000) - model.cache_bytes(0, 999) == T * (8 + 4 * READER.key_dim)
