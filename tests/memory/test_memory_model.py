"""The memory model: two parallel forms equal to a plain loop over chunks; nothing sees what it must not."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import BASELINES, ENCODERS, MIXER, READING, SHAPES, TRANSFORMER, M, T, V, build, ident, ids
from transformers import AutoModel

from memlm.errors import UsageError
from memlm.loading import load_model
from memlm.models.memory_model import MemoryModel
from memlm.models.shapes import FullContextShape, MemoryShape
from memlm.nn.layout import Layout
from memlm.readers.config import NoReader, VectorReader
from memlm.readers.reader import Queries


def one_after_the_other(model: MemoryModel, input_ids: torch.Tensor, marks=None, memories=None) -> torch.Tensor:
    """The truth: chunk by chunk, each with the memories that there are by then and nothing that is masked."""
    known = [] if memories is None else list(memories.unbind(1))
    out, run_B1 = [], 0
    for c, start in enumerate(range(0, input_ids.shape[1], T)):
        chunk = input_ids[:, start : start + T]
        real = chunk.shape[1]
        chunk = torch.nn.functional.pad(chunk, (0, T - real))
        if marks is not None:  # the number of this chunk among the marked ones in a row
            run_B1 = marks[:, c : c + 1] * (run_B1 + 1)
        marked = None if marks is None else run_B1
        held = torch.stack(known, 1) if known else torch.zeros(len(chunk), 0, M)
        if not model.reader.reads:
            held = None
        out.append(decode_alone(model, chunk, marked, held, c)[:, :real])
        if model.reader.reads:
            known.append(model.encode(chunk))
    return torch.cat(out, 1)


def decode_alone(
    model: MemoryModel, chunk_BT: torch.Tensor, marked, memory_BKM: torch.Tensor | None, number: int
) -> torch.Tensor:
    """One chunk with its memories, laid out by hand."""
    S, known = model.reader.vectors, number if memory_BKM is None else memory_BKM.shape[1]
    K = known if memory_BKM is None or model.reader.window is None else min(known, model.reader.window)
    scheme, most = model.placing.scheme, model.placing.most
    positions, number_of = [], []
    for j in range(K if S else 0):
        for s in range(S):
            last_of_share = (s + 1) * T // S - 1
            positions.append(j * T + last_of_share if scheme == "original" else j * S + s)
            number_of.append(j)
    m = len(positions)
    first = {"original": K * T, "variable": K * S, "fixed": most * S}[scheme]
    positions += [first + t for t in range(T)]
    mask = torch.zeros(m + T, m + T, dtype=torch.bool)
    for q in range(m):
        for p in range(m):
            mask[q, p] = number_of[p] <= number_of[q]
    for t in range(T):
        mask[m + t, : m + t + 1] = True
    start_B1W = model.start(torch.zeros(len(chunk_BT), 1).long() if marked is None else (marked > 0).long())
    x_BTW = torch.cat([start_B1W, model.embed(chunk_BT[:, :-1])], 1) + model.place.weight
    if memory_BKM is None:
        return model.head(model.decoder(x_BTW, Layout(torch.tensor(positions), mask)))
    kept = model.reader.keep(memory_BKM)
    recent = [[chunk_BT[:, t - i] if t >= i else 0 * chunk_BT[:, 0] for i in range(1, 10)] for t in range(T)]
    recent_BTn = torch.stack([torch.stack(some, -1) for some in recent], 1)[..., : model.reader.recent]
    order_BT = None
    if marked is not None:
        order_BT = torch.where(marked > 0, T * (marked - 1) + torch.arange(T), -1)
    queries = Queries(torch.full((1, T), known), torch.arange(T)[None], recent_BTn, order=order_BT)

    def only_tokens(give):
        return lambda h: torch.cat([torch.zeros_like(h[:, :m]), give(h[:, m:])], 1)

    residuals = [only_tokens(give) for give in model.reader.residuals(kept, queries)]
    x_BPW = torch.cat([model.reader.entries(memory_BKM[:, known - K :]).flatten(1, 2), x_BTW], 1)
    h_BTW = model.decoder(x_BPW, Layout(torch.tensor(positions), mask), residuals=residuals)[:, m:]
    logits_BTV = model.head(h_BTW)
    own_BT = logits_BTV.log_softmax(-1).gather(-1, chunk_BT[..., None])[..., 0]
    logp = [[own_BT[:, t - i] if t >= i else 0 * own_BT[:, 0] for i in range(1, 10)] for t in range(T)]
    logp_BTn = torch.stack([torch.stack(some, -1) for some in logp], 1)[..., : model.reader.recent]
    return model.reader.mix(logits_BTV, h_BTW, kept, replace(queries, logp=logp_BTn)).logits


built = lru_cache(maxsize=1)(build)  # of all examples of a shape


@pytest.mark.parametrize("shape", [s for s in SHAPES if isinstance(s, MemoryShape)], ids=ident)
def test_both_forms_are_the_loop_over_chunks(shape):
    model, rows = build(shape), 2
    for tokens in (T, 3 * T, 3 * T + 1, 2):
        x = ids(rows, tokens)
        marks = torch.rand(rows, -(-tokens // T), generator=torch.Generator().manual_seed(1)) < 0.5
        before = torch.randn(rows, 2, M, generator=torch.Generator().manual_seed(2))
        for asked in ({"marks": marks}, {"memories": before} if model.reader.reads else {}):
            truth = one_after_the_other(model, x, **asked)
            for model.form in ("packed", "folded"):
                torch.testing.assert_close(model(x, **asked).logits, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_future_and_padding_change_nothing(shape, data):
    """Change one token: what is predicted up to its own place stays bit-equal, in every form."""
    tokens = data.draw(st.integers(1, 4 * T))
    n = data.draw(st.integers(0, tokens - 1))
    model, x = built(shape), ids(2, tokens, seed=tokens)
    changed = x.clone()
    changed[:, n] = (changed[:, n] - 1) % (V - 2) + 2
    padded = torch.nn.functional.pad(x, (0, data.draw(st.integers(1, 3))))
    for model.form in ("packed", "folded"):
        before, after = model(x).logits, model(changed).logits
        assert torch.equal(before[:, : n + 1], after[:, : n + 1])
        torch.testing.assert_close(model(padded).logits[:, :tokens], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", READING, ids=ident)
def test_a_memory_reaches_every_later_chunk_and_only_those(shape):
    model, x = build(shape), ids(16, 4 * T)
    changed = x.clone()
    changed[:, T : 2 * T] = ids(16, T, seed=9)
    before, after = (model(z).logits.unflatten(1, (4, T)) for z in (x, changed))
    same = [torch.equal(before[:, c], after[:, c]) for c in range(4)]
    assert same == [True, False, False, False]
    unread = [model(z, read=False).logits.unflatten(1, (4, T)) for z in (x, changed)]
    assert [torch.equal(unread[0][:, c], unread[1][:, c]) for c in range(4)] == [True, False, True, True]


def test_rows_of_a_batch_do_not_see_each_other():
    model, x = build(READING[0]), ids(3, 3 * T)
    torch.testing.assert_close(model(x).logits[1:2], model(x[1:2]).logits, rtol=1e-5, atol=1e-5)


def test_memories_that_are_known_are_not_formed_again(monkeypatch):
    model, x = build(READING[0]), ids(2, 3 * T)
    out = model(x)
    monkeypatch.setattr(type(model.encoder), "forward", None)
    assert torch.equal(model(x, own_memories=out.memories).logits, out.logits)


def test_rows_that_are_told_from_their_own_memory_are_as_of_an_autoencoder():
    model = build(next(shape for shape in READING if shape.reader.kind == "pointer"))
    tokens_BN = ids(4, 3 * T)
    logits_BNV = model(tokens_BN, own_rows=2).logits
    torch.testing.assert_close(logits_BNV[2:], model(tokens_BN[2:]).logits)
    memory_XM = model.encode(tokens_BN[:2].unflatten(1, (3, T)).flatten(0, 1))
    torch.testing.assert_close(logits_BNV[:2].flatten(0, 1), model.recall(memory_XM).flatten(0, 1))


def test_a_reader_that_tells_no_tokens_cannot_be_asked_for_them():
    with pytest.raises(UsageError, match="reader pointer"):
        build(next(s for s in READING if s.reader.kind == "vector"))(ids(1, 2 * T), own_rows=1)


def test_a_model_that_reads_no_memories_is_given_none():
    for shape in BASELINES:
        with pytest.raises(UsageError, match="cannot be given memories"):
            build(shape)(ids(1, T), memories=torch.zeros(1, 1, M))


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_every_weight_that_is_there_learns_and_is_saved_to_the_bit(shape, tmp_path):
    model = build(shape).train()
    x = ids(2, 3 * T)
    marks = torch.tensor([[False, True, True]] * 2)
    own_rows = int("itself" in shape.meets)  # what teaches to recall, where tokens are copied and not read
    model(x, labels=x, marks=marks, own_rows=own_rows).loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert not idle
    model.eval().save_pretrained(tmp_path)
    for again in (AutoModel.from_pretrained(tmp_path).eval(), load_model(tmp_path)):
        assert torch.equal(again(x).logits, model(x).logits)
        assert again.config.read_shape() == shape


def test_without_memory_the_chunk_stands_where_it_stood():
    """`read=False` of a model that reads memories gives chunk 0 what it gets anyway."""
    for shape in READING:
        model, x = build(shape), ids(1, T)
        assert torch.equal(model(x, read=False).logits, model(x).logits)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MemoryShape(chunks=0),
        lambda: VectorReader(vectors=0),
        lambda: MemoryShape(decoder=replace(TRANSFORMER, causal=False)),
        lambda: MemoryShape(decoder=MIXER),
        lambda: MemoryShape(decoder=MIXER, reader=NoReader()),
        lambda: FullContextShape(decoder=MIXER),
        lambda: FullContextShape(chunk_tokens=0),
    ],
)
def test_impossible_shapes_are_refused_with_a_sentence(wrong):
    with pytest.raises(UsageError):
        wrong()


def test_more_memories_than_there_is_room_for_are_refused():
    shape = MemoryShape(chunks=2, encoder=ENCODERS[0], decoder=MIXER, positions="fixed")
    with pytest.raises(UsageError, match="room for 12 tokens"):
        build(shape)(ids(1, 4 * T))
