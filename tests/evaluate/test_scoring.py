"""Scores by chunk and in batches are those of a plain loop; memories are counted and replaced as told."""

import pytest
import torch
from memory_models import HEADS, READING, SHAPES, TRANSFORMER, M, T, V, build, ident, ids
from pairwise import one_of_each

from memlm.errors import UsageError
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import Scorer, Text, conditions_of, fitted
from memlm.loading import build_model
from memlm.measure.reading import logits_of
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import CausalShape, MemoryShape, RecurrentShape

RECURRENT = RecurrentShape(
    encoder=EncoderShape(chunk_tokens=T, memory_dim=M, stack=TRANSFORMER, begins=True), decoder=TRANSFORMER
)
OTHERS = {"recurrent": RECURRENT, "causal": CausalShape(chunk_tokens=23, stack=HEADS)}
MODELS = {ident(shape): shape for shape in SHAPES} | OTHERS
TEXTS = [
    Text(ids(1, n, seed=n)[0].tolist(), first) for n, first in ((14, 9), (3, 0), (8, 7), (14, 13), (1, 0), (21, 2))
]


def model_of(name):
    return build(MODELS[name])  # pyright: ignore[reportArgumentType]


def plain(model, text, condition="own"):
    """The text's log-likelihood and greediness, from one forward pass over all of it."""
    ids_1N = torch.tensor([text.ids])
    logits_NV = (model(ids_1N).logits if condition == "own" else logits_of(model, ids_1N, None, "none"))[0]
    loglikelihood_N = logits_NV.log_softmax(-1).gather(1, ids_1N.T)[:, 0]
    right_N = logits_NV.argmax(-1) == ids_1N[0]
    return loglikelihood_N[text.first :].sum().item(), bool(right_N[text.first :].all())


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_a_plain_loop(name):
    model = model_of(name)
    for condition in ("own", "none")[: len(conditions_of(model))]:
        scores = Scorer(model, condition, ChunkMemories(model)).score(TEXTS)
        expected = [plain(model, text, condition) for text in TEXTS]
        assert [score.loglikelihood for score in scores] == pytest.approx([e[0] for e in expected], abs=1e-4)
        assert [score.greedy for score in scores] == [e[1] for e in expected]


def test_greedy_is_true_where_the_text_is_what_the_model_would_write():
    model = build(READING[0])
    start = ids(1, 9)
    whole = model.generate(start, max_new_tokens=5, eos_token_id=None)[0].tolist()
    wrong = [*whole[:-1], (whole[-1] + 1) % V]
    scores = Scorer(model, "own", ChunkMemories(model)).score([Text(whole, 9), Text(wrong, 9)])
    assert [score.greedy for score in scores] == [True, False]


@pytest.mark.parametrize("condition", ["own", "none", "random"])
@pytest.mark.parametrize("shape", one_of_each(READING, lambda s: (s.decoder, s.positions)), ids=ident)
def test_what_is_scored_together_never_changes_a_value(shape, condition, monkeypatch):
    model = build(shape)
    together = Scorer(model, condition, ChunkMemories(model)).score(TEXTS)
    sizes, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda ids, **more: sizes.append(len(ids)) or forward(ids, **more))
    for batch in (1, 3, 1000):
        sizes.clear()
        alone = Scorer(model, condition, ChunkMemories(model), batch=batch).score(TEXTS[::-1])[::-1]
        assert [a.loglikelihood for a in together] == pytest.approx([b.loglikelihood for b in alone], abs=1e-4)
        assert [a.greedy for a in together] == [b.greedy for b in alone]
        assert max(sizes) <= batch
        assert (max(sizes) > 1) == (batch > 1)


@pytest.mark.parametrize(
    ("tokens", "first", "read"),
    [(3, 2, [0]), (T, T - 1, [0]), (T + 1, T, [1]), (14, 13, [3]), (14, 11, [2, 3, 3]), (4 * T, 4 * T - 1, [3])],
    ids=lambda value: str(value),
)
def test_memories_are_counted_by_token(tokens, first, read):
    text = [Text(ids(1, tokens)[0].tolist(), first)]
    model = build(READING[0])
    assert Scorer(model, "own", ChunkMemories(model)).score(text)[0].memories.tolist() == read
    assert Scorer(model, "none", ChunkMemories(model)).score(text)[0].memories.tolist() == [0] * len(read)
    assert Scorer(model_of("recurrent"), "own", ChunkMemories(model)).score(text)[0].memories.tolist() == [
        min(1, n) for n in read
    ]
    for name in [*[ident(shape) for shape in SHAPES if shape not in READING], "causal"]:
        assert not Scorer(model_of(name), "own", ChunkMemories(model)).score(text)[0].memories.any()


def test_random_memories_are_seeded_and_belong_to_the_chunk():
    model = build(READING[0])
    scores = [Scorer(model, "random", ChunkMemories(model), seed).score(TEXTS) for seed in (0, 0, 1)]
    a, b, c = ([score.loglikelihood for score in of_seed] for of_seed in scores)
    assert a == b
    assert a != c
    own = [score.loglikelihood for score in Scorer(model, "own", ChunkMemories(model)).score(TEXTS)]
    reads = [score.memories.any() for score in scores[0]]
    assert [x == pytest.approx(y, abs=1e-6) for x, y in zip(a, own, strict=True)] == [not read for read in reads]


def test_random_memories_have_the_mean_and_the_spread_of_the_true_ones():
    model = build(READING[0])
    chunks = [tuple(row) for row in ids(3000, T).tolist()]
    memories = ChunkMemories(model)
    true_KM, random_KM = (torch.stack(list(m.values())) for m in (memories.true(chunks), memories.random(chunks, 0)))
    assert random_KM.shape == true_KM.shape == (len(set(chunks)), M)
    deviation_M = true_KM.std(0)
    assert ((random_KM.mean(0) - true_KM.mean(0)).abs() < 0.1 * deviation_M).all()
    assert torch.allclose(random_KM.std(0), deviation_M, rtol=0.1)
    assert not torch.allclose(random_KM, true_KM, atol=0.1)


def test_one_memory_alone_cannot_be_drawn_like():
    model = build(READING[0])
    with pytest.raises(UsageError, match="two different memories"):
        Scorer(model, "random", ChunkMemories(model)).score([Text([5, 6, 7, 8, 9], 4)])


def test_a_chunk_is_encoded_once():
    model, calls = build(READING[0]), []
    memories = ChunkMemories(model)
    encode = model.encode
    model.encode = lambda ids_BT: calls.append(len(ids_BT)) or encode(ids_BT)  # pyright: ignore
    for condition in ("own", "random"):
        Scorer(model, condition, memories).score([*TEXTS, *TEXTS])
    assert sum(calls) == len({tuple(t.ids[c : c + T]) for t in TEXTS for c in range(0, (len(t.ids) - 1) // T * T, T)})


def test_what_has_no_room_is_cut_off_at_the_left_or_refused():
    causal = build_model(OTHERS["causal"], V, 0).eval()
    assert fitted(causal, Text(list(range(24)), 20)) == Text(list(range(24)), 20)
    assert fitted(causal, Text(list(range(30)), 26)) == Text(list(range(6, 30)), 20, True)
    assert fitted(causal, Text(list(range(30)), 30), 10) == Text(list(range(16, 30)), 14, True)
    with pytest.raises(UsageError, match="an answer has 25 tokens, and the model has room for 24"):
        fitted(causal, Text(list(range(30)), 5))
    with pytest.raises(UsageError, match="an answer has 30 tokens"):
        fitted(causal, Text([5], 1), 30)
    fixed = next(shape for shape in READING if shape.positions == "fixed")
    assert isinstance(fixed, MemoryShape)
    assert fitted(build(fixed), Text(list(range(40)), 39)).truncated
    original = next(shape for shape in READING if shape.positions == "original")
    assert not fitted(build(original), Text(list(range(40)), 39)).truncated
