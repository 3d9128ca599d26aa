"""Every objective against tensors written out by hand, and combinations of them."""

from functools import partial

import pytest
import torch

from memlm.errors import UsageError
from memlm.nn.loss import IGNORED, token_loss
from memlm.objectives.batch import BLANK, MADE
from memlm.objectives.facts import Facts, Quote
from memlm.objectives.names import NAMES, parse
from memlm.objectives.recall import Recall
from memlm.objectives.registry import build_objective
from memlm.objectives.symbols import symbols
from memlm.objectives.text import Copy

X = IGNORED
# For the text 5 6 7 ... in 4 chunks of 2: (window, what is read, what is scored, marked chunks, sources).
EXPECTED = {
    "autoencode": (8, [[5, 6, 7, 8, 9, 10, 11, 12]], [[5, 6, 7, 8, 9, 10, 11, 12]], None, [[0, 1, 2, 3]]),
    "causal": (8, [[5, 6, 7, 8, 9, 10, 11, 12]], [[5, 6, 7, 8, 9, 10, 11, 12]], None, [[0, 1, 2, 3]]),
    "copy": (4, [[5, 6, 7, 8, 5, 6, 7, 8]], [[X, X, X, X, 5, 6, 7, 8]], [[0, 0, 1, 1]], [[0, 1, 0, 1]]),
    "blank": (4, [[5, 6, 7, 8, 0, 0, 0, 0]], [[X, X, X, X, 5, 6, 7, 8]], [[0, 0, 1, 1]], [[0, 1, -1, -1]]),
}
V = 50


def text(window: int, rows: int = 1) -> torch.Tensor:
    return torch.arange(5, 5 + window).expand(rows, -1)


def test_every_objective_is_here():
    assert set(NAMES) == set(EXPECTED) | {"recall", "noise", "facts", "quote"}


@pytest.mark.parametrize("name", EXPECTED)
def test_by_hand(name):
    window, inputs, labels, marks, sources = EXPECTED[name]
    objective = build_objective(name, V)
    assert objective.window(8) == window
    batch = objective(text(window), 2)
    assert batch.input_ids.tolist() == inputs
    assert batch.labels.tolist() == labels
    assert (None if batch.marks is None else batch.marks.int().tolist()) == marks
    assert batch.sources.tolist() == sources
    assert batch.weights is None


def test_recall_tells_pairs_and_asks_for_some_of_them():
    recall = build_objective("recall", V)
    batch = recall(torch.randint(0, V, (16, 32)), 8)
    for ids, labels, marks in zip(batch.input_ids, batch.labels, batch.marks, strict=True):
        told = {int(k): int(v) for k, v in ids[:24].view(-1, 2)}
        assert len(told) == 12  # no key twice
        asked = ids[24:].view(-1, 2)
        assert [told[int(k)] for k, _ in asked] == [int(v) for _, v in asked]
        assert len(set(asked[:, 0].tolist())) == 4
        assert labels[:24].eq(X).all()
        assert labels[24:].tolist() == [t for _, v in asked for t in (X, int(v))]
        assert marks.tolist() == [False, False, False, True]
        assert not told.keys() & set(told.values())  # so that a key is asked for in one way
    assert set(batch.input_ids.unique().tolist()) == set(symbols(V).tolist())
    assert batch.sources.eq(MADE).all()


@pytest.mark.parametrize("blank", [False, True])
def test_a_copy_after_a_context_is_of_its_beginning(blank):
    T, K, half = 2, 5, 2
    window = text((K + half) * T)
    batch = Copy(blank)(window, T, K)
    told = window[:, : half * T]
    assert (batch.input_ids[:, : (K + half) * T] == window).all()
    assert (batch.labels[:, (K + half) * T :] == told).all()
    assert batch.labels[:, : (K + half) * T].eq(X).all()
    assert (batch.input_ids[:, (K + half) * T :] == (0 if blank else told)).all()
    assert batch.marks.int().tolist() == [[0] * (K + half) + [1] * half] * len(window)
    assert batch.sources[:, K + half :].tolist() == [[BLANK] * half if blank else [0, 1]] * len(window)
    assert batch.remembered == K
    short = Copy(blank)(window[:, : half * T], T)
    assert short.input_ids.shape[1] == 2 * half * T


@pytest.mark.parametrize("size", [300, 1024, 49_152])
def test_a_quarter_of_all_ordinary_tokens_is_unseen_and_stays_so_in_other_vocabularies(size):
    unseen, trained, training = (set(symbols(size, which).tolist()) for which in ("unseen", "trained", None))
    assert not unseen & training
    assert unseen | training == set(range(2, size))
    assert trained < training
    for measured in (unseen, trained):  # of like numbers, so that chance is alike
        assert len(measured) / size == pytest.approx(0.25, abs=0.05)
    assert unseen == {token for token in symbols(60_000, "unseen").tolist() if token < size}


@pytest.mark.parametrize("which", ["unseen", "trained", None])
def test_keys_and_values_are_drawn_from_the_symbols_that_are_named(which):
    text = torch.full((8, 6 * 16), 2)
    for make in (Recall, partial(Facts, kind=(3, True), seed=0)):
        drawn = set(make(300, which=which)(text, 16).input_ids.unique().tolist()) - {0, 2}
        assert drawn <= set(symbols(300, which).tolist())
        assert len(drawn) > 50


@pytest.mark.parametrize(
    ("kind", "link"), [((2, False), 0), ((3, False), 0), ((3, True), 0), ((2, False), 1), ((3, True), 2)]
)
def test_facts_are_told_in_every_remembered_chunk_and_asked_for_afterwards(kind, link):
    T, K, length = 8, 6, kind[0]
    text, before = torch.randint(2, V, (16, 8 * T)), length + link
    batch = Facts(V, kind, links=(link,))(text, T, remembered=K)
    assert batch.remembered == K
    for row, ids, labels, holders in zip(text, batch.input_ids, batch.labels, batch.holders, strict=True):
        changed = (ids[: K * T] != row[: K * T]).view(K, T)
        assert (changed.sum(1) <= before + 2).all()  # in each chunk one fact, the rest is the text
        assert labels[: K * T].eq(X).all()
        asked = labels[K * T :].ne(X).nonzero()[:, 0].view(-1, 2) + K * T
        assert len(asked) == 2 * (T // (before + 2))
        assert len({tuple(ids[first - link : first].tolist()) for first, _ in asked.tolist()}) == 1  # of all facts
        for first, second in asked.tolist():
            question, told = ids[first - before : second + 1].tolist(), int(holders[first])
            chunk = ids[told * T : (told + 1) * T].tolist()
            windows = [chunk[i : i + before + 2] for i in range(T - before - 1)]
            assert labels[[first, second]].tolist() == question[before:]
            differing = min(sum(a != b for a, b in zip(w, question, strict=True)) for w in windows)
            assert differing == kind[1]


def test_of_a_long_context_some_chunks_tell_facts_and_what_no_window_has_is_named():
    T, K = 8, 40
    text = torch.randint(2, V, (4, 44 * T))
    for batch, most in ((Facts(V, telling=10)(text, T, K), 10), (Quote(V)(text, T, K), 0)):
        assert batch.sources.shape == (4, 44)
        assert batch.sources[:, :K].eq(MADE).sum(1).tolist() == [most] * 4
        assert batch.sources[:, K:].eq(MADE).all()
        as_it_was = batch.sources == torch.arange(44)
        assert (as_it_was | batch.sources.eq(MADE)).all()
        assert (batch.input_ids == text).view(4, 44, T)[as_it_was].all()
        holders = batch.holders[:, K * T :]
        if most:
            assert batch.sources.gather(1, holders.clamp(min=0))[holders >= 0].eq(MADE).all()


def test_facts_of_a_context_have_different_keys_of_all_symbols():
    batch = Facts(V, (2, False))(torch.full((4, 65 * 4), 2), 4, remembered=64)
    keys = batch.input_ids[:, : 64 * 4].view(4, 64, 4)[..., :2]  # where a chunk has room for its fact alone
    assert all(len(set(map(tuple, row.tolist()))) == 64 for row in keys)
    told = batch.input_ids[:, : 64 * 4]
    assert set(told.unique().tolist()) == set(symbols(V).tolist())


def test_a_quotation_goes_on_as_the_text_did():
    T, K = 8, 9
    text = torch.randint(2, V, (5, 15 * T))
    batch = build_objective("quote", V)(text, T, remembered=K)
    told = text[:, : K * T]
    assert torch.equal(batch.input_ids[:, : K * T], told)
    for row, ids, labels, holders in zip(told, batch.input_ids, batch.labels, batch.holders, strict=True):
        for quote, asked, where in zip(*(x[K * T :].view(2, 3 * T) for x in (ids, labels, holders)), strict=True):
            (start,) = [i for i in range(K * T - 23) if torch.equal(row[i : i + 24], quote)]
            assert asked[:8].eq(X).all()
            assert torch.equal(asked[8:], quote[8:])
            assert where[8:].tolist() == [(start + i) // T for i in range(8, 24)]


def test_after_a_context_only_the_end_is_scored_and_chunks_know_where_they_come_from():
    inner, lengths = "causal+0.5*recall", set()
    objective = build_objective(inner, V, context=5, chunk_tokens=2)
    assert objective.window(8) == 18
    for seed in range(40):
        windows = torch.randint(2, V, (3, 18), generator=torch.Generator().manual_seed(seed))
        batch = objective(windows, 2)
        lengths.add(K := batch.remembered)
        plain = build_objective(inner, V)(windows[:, 10:], 2)
        assert torch.equal(batch.input_ids[:, : 2 * K], windows[[0, 1, 2, 0, 1, 2]][:, 10 - 2 * K : 10])
        assert torch.equal(batch.input_ids[:, 2 * K :], plain.input_ids)
        assert torch.equal(batch.labels[:, 2 * K :], plain.labels)
        assert batch.labels[:, : 2 * K].eq(X).all()
        torch.testing.assert_close(batch.weights[:, 2 * K :], plain.weights)
        chunks = windows[batch.windows].view(6, 9, 2)
        for ids, sources, own in zip(batch.input_ids.view(6, -1, 2), batch.sources, chunks, strict=True):
            assert all(s < 0 or torch.equal(chunk, own[s]) for chunk, s in zip(ids, sources.tolist(), strict=True))
    assert lengths == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("name", "T"),
    [
        ("recall", 4),
        ("noise", 4),
        ("facts", 8),
        ("facts", 5),
        ("quote", 8),
    ],
)
def test_what_is_random_is_drawn_from_the_window_alone(name, T):
    objective, windows = build_objective(name, V), torch.randint(0, V, (4, T * T))
    assert torch.equal(objective(windows, T).input_ids, objective(windows, T).input_ids)
    assert not torch.equal(objective(windows, T).input_ids, objective(windows + 1, T).input_ids)


def test_facts_are_of_few_of_the_symbols_of_facts():
    """As many as are drawn for a batch, and answered from what is told."""
    told = symbols(1024)
    few = set()
    for seed in range(12):
        windows = torch.randint(2, V, (3, 34 * 8), generator=torch.Generator().manual_seed(seed))
        batch = build_objective("facts", 1024)(windows, 8)
        drawn = batch.labels[batch.labels != X].unique()
        assert torch.isin(drawn, told).all()
        facts = batch.input_ids[:, : 33 * 8][(batch.input_ids[:, : 33 * 8] != windows[:, : 33 * 8])].unique()
        few.add(len(facts))
    assert min(few) < 100 < max(few) < len(told)


def test_some_batches_of_facts_share_the_words_before_their_values():
    linked = 0
    for seed in range(12):
        windows = torch.randint(2, V, (1, 64 * 8), generator=torch.Generator().manual_seed(seed))
        batch = build_objective("facts", 1024)(windows, 8, remembered=32)
        first = (batch.labels[:, 1:] != X) & (batch.labels[:, :-1] == X)
        before = batch.input_ids[:, :-1][first]
        assert len(before) >= 32
        linked += len(before.unique()) == 1
    assert 2 < linked < 10


def test_noise_is_every_token_but_the_special_ones():
    batch = build_objective("noise", V)(torch.randint(0, V, (100, 32)), 8)
    assert set(batch.input_ids.unique().tolist()) == set(range(2, V))
    assert torch.equal(batch.labels, batch.input_ids)


def test_combined_puts_its_parts_side_by_side():
    objective = build_objective("combined", V)
    assert objective.window(8) == 8
    batch = objective(text(8), 2)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7, 8, 5, 6, 7, 8]]
    assert batch.labels.tolist() == [[5, 6, 7, 8, 9, 10, 11, 12], [X, X, X, X, 5, 6, 7, 8]]
    assert batch.marks.int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert batch.weights.tolist() == [[1 / 8] * 8, [0] * 4 + [0.5 / 4] * 4]
    assert batch.sources.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1]]


def test_parts_without_marks_give_none():
    assert build_objective("autoencode+0.25*noise", V)(text(8), 2).marks is None


def test_only_what_is_told_from_its_own_memory_says_so():
    batch = build_objective("causal+autoencode+blank/2+0.25*noise", V)(text(8, rows=2), 2)
    assert batch.own_rows == batch.asked()["own_rows"] == 4  # those of `autoencode` and `noise`, which come first
    assert batch.windows.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert batch.input_ids[0].tolist() == batch.input_ids[4].tolist() == list(range(5, 13))
    assert build_objective("causal+blank", V)(text(8), 2).own_rows == 0


def test_a_combined_loss_is_the_weighted_sum_of_the_parts_means():
    torch.manual_seed(0)
    windows, parts = torch.randint(2, V, (3, 8)), {"causal": 1.0, "blank": 0.25, "recall": 2.0}
    batch = build_objective("causal+0.25*blank+2*recall", V)(windows, 2)
    logits = torch.randn(*batch.labels.shape, V)
    expected = torch.zeros(())
    for rows, (name, weight) in zip(logits.split(3), parts.items(), strict=True):
        part = build_objective(name, V)
        expected += weight * token_loss(rows, part(windows[:, : part.window(8)], 2).labels)
    torch.testing.assert_close(token_loss(logits, batch.labels, batch.weights), expected)


def test_names_are_read_with_their_weights():
    assert parse("combined") == (("causal", 1.0, 1), ("copy", 0.5, 1))
    assert parse(" causal + 0.5 * blank / 4 ") == (("causal", 1.0, 1), ("blank", 0.5, 4))


def test_a_part_can_be_of_a_share_of_the_windows():
    windows = torch.stack([text(8) + 10 * i for i in range(5)]).flatten(0, 1)
    batch = build_objective("causal+0.5*blank/2", 100)(windows, 2)
    assert batch.input_ids[5:, :4].tolist() == windows[::2, :4].tolist()
    assert batch.windows.tolist() == [0, 1, 2, 3, 4, 0, 2, 4]
    assert batch.weights.sum().item() == pytest.approx(1.5)


@pytest.mark.parametrize(
    "wrong", ["", "causl", "causal+", "x*causal", "causal+causal", "0*copy", "-1*copy", "inf*copy", "copy/0", "copy/x"]
)
def test_what_names_no_objective_is_refused(wrong):
    with pytest.raises(UsageError):
        parse(wrong)


@pytest.mark.parametrize(
    ("name", "tokens", "chunk"),
    [
        ("copy", 6, 2),
        ("blank", 6, 2),
        ("recall", 9, 3),
        ("recall", 8, 8),
        ("facts", 8, 4),
        ("facts", 12, 12),
        ("quote", 16, 8),
    ],
)
def test_what_does_not_fit_the_chunks_is_refused(name, tokens, chunk):
    objective = build_objective(name, V)
    with pytest.raises(UsageError):
        objective(text(objective.window(tokens)), chunk)


@pytest.mark.parametrize("name", [*NAMES, "causal+0.5*blank/2+0.25*autoencode/3"])
@pytest.mark.parametrize("of", [2, 3, 16])
def test_shares_of_a_batch_are_as_large_and_add_up_to_it(name, of):
    """Losses too: of whatever logits, over rows that do not divide, and fewer than there are shares."""
    objective = build_objective(name, V, 2, 8)
    whole = objective(torch.randint(2, V, (7, objective.window(64))), 8)
    shares = [whole.share(index, of) for index in range(of)]
    assert len({(len(share.labels), share.own_rows) for share in shares}) == 1
    rows = torch.stack([torch.sin(torch.arange(whole.labels.shape[1] * V) * (1 + row)) for row in range(7)])
    logits = rows.unflatten(1, (-1, V))

    def loss(batch, windows):
        return token_loss(logits[windows], batch.labels, batch.weights)

    every = torch.arange(7) if whole.windows is None else whole.windows
    parts = torch.stack([loss(share, share.windows) for share in shares])
    torch.testing.assert_close(parts.sum(), loss(whole, every))
    scored = torch.cat([share.labels[share.labels != X] for share in shares])
    assert sorted(scored.tolist()) == sorted(whole.labels[whole.labels != X].tolist())
