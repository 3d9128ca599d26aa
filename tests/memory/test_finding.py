"""What is opened among many memories: the same by lists as by a look at every place; and what the mixture is."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from memory_models import ENCODERS, POINTWISE, TRANSFORMER, M, T, V, build, ids

from memlm.decoding.cached import Prompt
from memlm.errors import UsageError
from memlm.models.shapes import MemoryShape
from memlm.readers import filed, finding, pointer, scores
from memlm.readers.config import PointerReader
from memlm.readers.filed import PlaceIndex, Tail, open_indexed, packed, unpacked
from memlm.readers.finding import open_all, places
from memlm.readers.placing import hiding
from memlm.readers.pointer import words_of
from memlm.readers.reader import Queries

READER = PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=6, gate=8, window=2)
SHAPE = MemoryShape(chunks=4, encoder=ENCODERS[2], decoder=TRANSFORMER, reader=READER)


def few_words(K: int, seed: int, vocab: int = 5) -> torch.Tensor:
    """Memories of a small vocabulary, so that words come back: long [K, T]."""
    return torch.randint(0, vocab, (K, T), generator=torch.Generator().manual_seed(seed))


def by_every_place(reader, words_KT, key_Pd, recent_n, before, hidden=None) -> set[int]:
    """What is opened for one prediction, by a look at every place: the rule as it is told, word for word."""
    K, flat = len(words_KT), [0, 0, *words_KT.flatten().tolist()]
    seen = [m for m in range(K) if m < before and m != hidden]
    best = [{m: -1e4 - before + m for m in seen} for _ in range(2)]  # by no words ago, and by earlier ones
    for ago in range(3):
        query_d = reader._query_of(recent_n[ago : ago + 4][None])[0]
        for p, score in enumerate((key_Pd @ query_d).tolist()):
            first, second, here, number = flat[p + 1], flat[p], flat[p + 2], (p + ago) // T
            if here and first == recent_n[ago] and number in best[ago > 0]:
                score += 5 * (second == int(recent_n[ago + 1])) - ago
                ranked = round(64 * score) / 64 + number / 2**32
                best[ago > 0][number] = max(best[ago > 0][number], ranked)
    opened = {m for m in seen if m >= before - 2}
    rest = reader.top - 2
    nearby = {m: score for m, score in best[0].items() if m >= before - finding.NEARBY}
    for ranks, many in ((best[0], rest - reader.near), (nearby, rest), (best[1], reader.top + 2)):
        for number in sorted(ranks, key=ranks.__getitem__, reverse=True):
            if len(opened) < many:
                opened.add(number)
    return opened


@pytest.fixture(params=[0, 2])
def reader(request, monkeypatch):
    """One that opens so many of the newest nine whatever is far."""
    monkeypatch.setattr(finding, "NEARBY", 9)
    monkeypatch.setattr(filed, "NEARBY", 9)
    return build(replace(SHAPE, reader=replace(READER, near=request.param))).reader


def test_no_more_can_be_near_than_are_opened_by_their_words():
    with pytest.raises(UsageError, match="at most 2 can be near: not 3"):
        replace(READER, near=3)


@pytest.mark.parametrize("hidden", [None, 7])
def test_a_batch_opens_what_the_rule_says(hidden, reader):
    K = 20
    words = torch.stack([few_words(K, seed, vocab) for seed, vocab in ((1, 5), (2, 3), (3, 40))])
    if hidden is not None:
        words[:, hidden] = 0
    kept = reader.keep_words(words)
    before = torch.tensor([0, 3, 9, 15, 20, 20])
    recent = torch.stack([few_words(12, seed, vocab).view(6, -1) for seed, vocab in ((4, 5), (5, 3), (6, 40))])
    queries = Queries(before[None], torch.zeros(1, 6, dtype=torch.long), recent, hidden)
    args = reader._query_of, recent, words, kept[1].flatten(1, 2), queries, 4, reader.top, reader.near
    number_BQk, near_BQJ = open_all(*args)
    for b, q in product(range(3), range(6)):
        seen = [m for m in number_BQk[b, q].tolist() if m < before[q] and m != hidden]
        expected = by_every_place(reader, words[b], kept[1][b].flatten(0, 1), recent[b, q], int(before[q]), hidden)
        assert len(set(number_BQk[b, q].tolist())) == reader.top + 2
        assert set(seen) == expected, (b, q)
    query_BQd, place_BQJ = reader._query_of(recent), places(number_BQk, T)
    score_BQP = query_BQd @ kept[1].flatten(1, 2).mT
    torch.testing.assert_close(near_BQJ, score_BQP.gather(2, place_BQJ))


@pytest.mark.parametrize("tail", [0, 1, 7])
def test_lists_open_what_the_rule_says(tail, tmp_path, reader):
    K = 40
    for seed in range(20):
        words = few_words(K, seed)
        key_Pd = unpacked(packed(reader.keep_words(words[None])[1][0].flatten(0, 1)))
        recent_n = few_words(4, seed + 100).flatten()[: reader.recent]
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        reader.index_words(words[: K - tail], torch.zeros(2, M), folder)
        rest = Tail(words[K - tail :], key_Pd[(K - tail) * T :])
        found = open_indexed(
            PlaceIndex.open(folder), rest, reader._queries(recent_n), recent_n, 4, reader.top, reader.near
        )
        assert set(found.tolist()) == by_every_place(reader, words, key_Pd, recent_n, K)


def step(model, x) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a training step."""
    model.train().zero_grad()
    loss = model(x, labels=x).loss
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.reader.named_parameters() if p.grad is not None}


def test_a_sample_of_all_places_teaches_what_all_of_them_do(monkeypatch):
    model, x = build(SHAPE), ids(2, 12 * T)
    loss, exact = step(model, x)
    monkeypatch.setattr(pointer, "EXACT", 1)
    monkeypatch.setattr(pointer, "GRADED", 10**9)
    monkeypatch.setattr(scores, "SAMPLED", 11 * T)
    again, grads = step(model, x)
    torch.testing.assert_close(again, loss)
    assert grads.keys() == exact.keys()
    for name, grad in exact.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-4, atol=1e-5)


def test_a_sample_stands_for_all_places(monkeypatch):
    """Of many texts: the sum over all places that a query sees, and that over a sample with what it stands for."""
    model, K = build(SHAPE), 100
    monkeypatch.setattr(scores, "SAMPLED", 80)
    words = torch.stack([few_words(K, seed, 40) for seed in range(100)])
    queries = Queries(torch.tensor([[K, K // 2]]), torch.zeros(1, 2, dtype=torch.long), words[:, :2, :1])
    key_BPd = model.reader.keep_words(words)[1].flatten(1, 2)
    query_BQd = model.reader._query_of(few_words(200, 0, 40).view(100, 2, T)) / 6
    score_BQP, place_Bn = query_BQd @ key_BPd.mT, scores.sample(words)
    assert torch.equal(place_Bn * 80 // (K * T), torch.arange(80).expand(100, -1))
    score_BQP[:, 1, K // 2 * T :] = -1e4
    score_BQP = score_BQP.masked_fill((words == 0).flatten(1)[:, None], -1e4)
    best_BQg, place_BQg = score_BQP.topk(5, -1)
    score_BQn = (query_BQd @ key_BPd.mT).gather(2, place_Bn[:, None].expand(-1, 2, -1))
    made = scores.with_sample(best_BQg, place_BQg, score_BQn, place_Bn, words, queries)
    estimate_BQ = (made.score_BQX + made.stands_BQX).logsumexp(-1)
    torch.testing.assert_close((estimate_BQ - score_BQP.logsumexp(-1)).mean(0), torch.zeros(2), rtol=0, atol=0.02)


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


def test_what_is_older_is_trusted_less_however_old_it_is():
    """A passage that the words go on from stands in one memory; the older that is, the less surely is it told."""
    model, K = build(SHAPE), 600
    passage = torch.arange(V - T, V)
    with torch.no_grad():
        model.reader.gate.bias.zero_()  # something is copied
        model.reader.age.fill_(0.5)
    told = []
    for number in (10, 300, 590):
        words = few_words(K + 1, 0, V - T)
        words[[number, K]] = passage
        with torch.no_grad():
            logits_1NV = model(words.view(1, -1), own_memories=words[None, :K]).logits
        told.append(float(logits_1NV[0, -1].softmax(-1)[passage[-1]]))
    assert 0 < told[0] < 0.5 * told[1] < 0.5 * told[2]  # 0.8, were what is older than 255 memories all as old


def test_a_marked_chunk_can_tell_the_text_from_its_beginning():
    """Of blanks nothing agrees: with all weight on the place in order what comes is the text itself, and no more of it
    than there are memories of, those that are given before it too."""
    model, text = build(SHAPE), ids(2, 4 * T)
    with torch.no_grad():
        model.reader.order.fill_(1e3)
        model.reader.marked[0] = -1e3  # no share to nothing
    x = torch.cat([text, torch.zeros_like(text)], 1)
    words, marks = x.unflatten(1, (-1, T)), torch.arange(8).expand(2, -1) >= 4

    def told(*some: slice, **asked) -> torch.Tensor:
        with torch.no_grad():
            return model(x[:, some[0]], **asked).logits.argmax(-1)[:, -4 * T :]

    # Before the first of them there are no words: what it asks for does not go on from there.
    place = torch.tensor([[0, 3]])
    queries = Queries(torch.tensor([[4, 4]]), place, torch.ones(2, 2, model.reader.recent).long())
    recent = model.reader._recent(words_of((words,)), T, replace(queries, order=place.expand(2, -1)))
    assert (recent > 0).sum(-1).tolist() == [[0, 3]] * 2
    assert torch.equal(
        model.reader._recent(words_of((words,)), T, replace(queries, order=place + T))[:, 0, :T], text[:, -T:].flip(-1)
    )

    every = slice(None)
    assert torch.equal(told(every, marks=marks, own_memories=words[:, :-1]), text)
    later = {"marks": marks[:, 1:], "memories": words[:, :1], "own_memories": words[:, 1:-1]}
    assert torch.equal(told(slice(T, None), **later), text)
    assert (told(every, own_memories=words[:, :-1]) != text).any(1).all()  # of chunks that are not marked none is
    with hiding(model, 1):
        right = told(every, marks=marks, own_memories=words[:, :-1]) == text
    assert right.view(2, 4, T).all(-1).tolist() == [[True, False, True, True]] * 2


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


@pytest.mark.parametrize("exact", [scores.EXACT, 8])
def test_what_is_not_scored_changes_neither_loss_nor_gradients(monkeypatch, exact):
    """Places without a label are left out: of rows with few as of rows with many."""
    monkeypatch.setattr(pointer, "EXACT", exact)
    reader = replace(READER, surprise=2)
    model = build(replace(SHAPE, reader=reader)).train()
    text, known = ids(4, 4 * T), torch.stack([few_words(9, seed, 40) for seed in range(4)])
    asked = torch.rand(text.shape, generator=torch.Generator().manual_seed(0)) < torch.tensor(
        [[0.0], [0.2], [0.8], [1]]
    )
    labels = text.masked_fill(~asked, -100)
    marks = torch.tensor([[False] * 3 + [True]] * 4)
    told, predict = [], type(model).predict
    for apart in (True, False):
        if not apart:
            monkeypatch.setattr(type(model), "predict", lambda self, x: predict(self, x._replace(asked_BN=None)))
        model.zero_grad()
        loss = model(text, labels, marks=marks, memories=known, own_memories=known[:, :3]).loss
        loss.backward()
        told.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(told[0]) == len(told[1]) > 10
    for one, other in zip(*told, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
