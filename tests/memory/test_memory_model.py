"""The memory model: two parallel forms equal to a plain loop over chunks; nothing sees what it must not."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import ENCODERS, MIXER, READING, SHAPES, TRANSFORMER, M, T, V, build, ident, ids
from torch.nn import functional as F
from transformers import AutoModel

from memlm.errors import UsageError
from memlm.loading import load_model
from memlm.models.memory_model import MemoryModel
from memlm.models.shapes import MemoryShape
from memlm.nn.layout import Layout
from memlm.readers.select import Look


def one_after_the_other(model: MemoryModel, input_ids: torch.Tensor, marks=None, memories=None) -> torch.Tensor:
    """The truth: chunk by chunk, each with the memories that there are by then and nothing that is masked."""
    known = [] if memories is None else list(memories.unbind(1))
    out = []
    for c, start in enumerate(range(0, input_ids.shape[1], T)):
        chunk = input_ids[:, start : start + T]
        real = chunk.shape[1]
        chunk = torch.nn.functional.pad(chunk, (0, T - real))
        marked = None if marks is None else marks[:, c : c + 1]
        x_BTW = model.embed_chunks(chunk[:, None], marked)
        held = torch.stack(known, 1) if known else None
        if held is None and model.reader.reads:
            held = torch.zeros(len(chunk), 0, M)
        out.append(model.head(decode_alone(model, x_BTW[:, 0], held, c))[:, :real])
        if model.reader.reads:
            known.append(model.encode(chunk))
    return torch.cat(out, 1)


def decode_alone(model: MemoryModel, x_BTW: torch.Tensor, memory_BKM: torch.Tensor | None, number: int) -> torch.Tensor:
    """One chunk with its memories, laid out by hand."""
    S, K = model.reader.vectors, number if memory_BKM is None else memory_BKM.shape[1]
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
    prefix = model.reader(memory_BKM).flatten(1, 2) if m else x_BTW[:, :0]
    beside = []
    if K and model.reader_kind == "select":
        beside = [lambda x_BTW, look=look: looked(model, look, x_BTW, memory_BKM) for look in model.reader.looks]
    layout = Layout(torch.tensor(positions), mask)
    return model.decoder(torch.cat([prefix, x_BTW], 1), layout, beside=beside)[:, m:]


def looked(model: MemoryModel, look: Look, x_BTW: torch.Tensor, memory_BKM: torch.Tensor) -> torch.Tensor:
    """What a chunk's entries read by the reader `select`: entry after entry, from the memories that it has chosen."""
    out, (B, K, _), H = torch.zeros_like(x_BTW), memory_BKM.shape, look.heads
    for b in range(B):
        keys, slots = [], []
        for m in range(K):
            slots_TS = model.reader.unroll(memory_BKM[b, m][None])[0]
            key_D = look.key_down(torch.nn.functional.gelu(look.key_up(slots_TS)).mean(0))
            keys.append((turned(length_one(key_D), m), [length_one(key_d) for key_d in look.slot_key(slots_TS)]))
            k_THE, v_THE = look.key_value(slots_TS + look.place).unflatten(-1, (2, H, -1)).unbind(1)
            slots.append((torch.stack([turned(k_HE, s) for s, k_HE in enumerate(k_THE)]), v_THE))
        for t in range(T):
            x_W = look.norm(x_BTW[b, t])
            find_D = turned(length_one(look.find(x_W)), K)
            find_d = look.find_slot(x_W)
            scores = [
                find_D @ key_D / len(key_D) ** 0.5 + sum(torch.exp(find_d @ key_d) for key_d in inside).log()
                for key_D, inside in keys
            ]
            q_HE = turned(look.query(x_W).unflatten(-1, (H, -1)), t)
            best = sorted(range(K), key=lambda m, scores=scores: -scores[m])[: look.top or K]
            share = torch.stack([look.nothing[0], *(scores[m] for m in best)]).softmax(0)
            for part, (k_THE, v_THE) in zip(share[1:], (slots[m] for m in best), strict=True):
                weight_TH1 = ((k_THE * q_HE).sum(-1, keepdim=True) / q_HE.shape[1] ** 0.5).softmax(0)
                out[b, t] += look.out(part * (weight_TH1 * v_THE).sum(0).flatten())
    return out


def length_one(x_D: torch.Tensor) -> torch.Tensor:
    return x_D / (x_D.pow(2).mean() + torch.finfo(x_D.dtype).eps).sqrt()


def turned(x_D: torch.Tensor, position: int) -> torch.Tensor:
    """Rotary positions [..., D] as a turn of complex numbers."""
    half = x_D.shape[-1] // 2
    angle = position * 10_000.0 ** (-torch.arange(half) / half)
    z = torch.complex(x_D[..., :half], x_D[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.reader != "full"], ids=ident)
@pytest.mark.parametrize("form", ["packed", "folded"])
def test_both_forms_are_the_loop_over_chunks(shape, form):
    model, rows = build(shape), 2
    model.form = form
    for tokens in (T, 3 * T, 3 * T + 1, 2):
        x = ids(rows, tokens)
        chunks = -(-tokens // T)
        marks = torch.rand(rows, chunks, generator=torch.Generator().manual_seed(1)) < 0.5
        torch.testing.assert_close(
            model(x, marks=marks).logits, one_after_the_other(model, x, marks), rtol=1e-5, atol=1e-5
        )
        if model.reader.reads:
            before = torch.randn(rows, 2, M, generator=torch.Generator().manual_seed(2))
            torch.testing.assert_close(
                model(x, memories=before).logits, one_after_the_other(model, x, memories=before), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_future_and_padding_change_nothing(shape, data):
    """Change one token: what is predicted up to its own place stays bit-equal, in every form."""
    tokens = data.draw(st.integers(1, 4 * T))
    n = data.draw(st.integers(0, tokens - 1))
    model, x = build(shape), ids(2, tokens, seed=tokens)
    changed = x.clone()
    changed[:, n] = (changed[:, n] - 1) % (V - 2) + 2
    padded = torch.nn.functional.pad(x, (0, data.draw(st.integers(1, 3))))
    for model.form in ("packed", "folded"):
        before, after = model(x).logits, model(changed).logits
        assert torch.equal(before[:, : n + 1], after[:, : n + 1])
        torch.testing.assert_close(model(padded).logits[:, :tokens], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", READING, ids=ident)
def test_a_memory_reaches_every_later_chunk_and_only_those(shape):
    model, x = build(shape), ids(1, 4 * T)
    changed = x.clone()
    changed[:, T : 2 * T] = ids(1, T, seed=9)
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


def test_soft_tokens_are_the_decoder_s_words_for_what_a_memory_holds():
    """Certain of the tokens, a memory is read as their vectors; the one before stands beside each."""
    model = build(next(shape for shape in READING if shape.reader == "soft"))
    tokens_BCT = ids(2, 3 * T).unflatten(1, (3, T))
    model.reader.text.forward = lambda _: 1e4 * F.one_hot(tokens_BCT.flatten(0, 1), V).float()
    words_BCTW = model.embed(tokens_BCT)
    before_BCTW = torch.cat([torch.zeros_like(words_BCTW[:, :, :1]), words_BCTW[:, :, :-1]], 2)
    read_BCTW = model.reader(torch.zeros(2, 3, M))
    torch.testing.assert_close(read_BCTW, words_BCTW + model.reader.before(before_BCTW) + model.reader.place.weight)


def test_rows_that_are_told_from_their_own_memory_are_as_of_an_autoencoder():
    model = build(next(shape for shape in READING if shape.reader == "soft"))
    tokens_BN, own_B = ids(4, 3 * T), torch.tensor([True, False, True, False])
    logits_BNV = model(tokens_BN, own=own_B).logits
    torch.testing.assert_close(logits_BNV[~own_B], model(tokens_BN[~own_B]).logits)
    memory_XM = model.encode(tokens_BN[own_B].unflatten(1, (3, T)).flatten(0, 1))
    torch.testing.assert_close(logits_BNV[own_B].flatten(0, 1), model.reader.text(memory_XM).flatten(0, 1))


def test_a_reader_that_tells_no_tokens_cannot_be_asked_for_them():
    with pytest.raises(UsageError, match="reader soft"):
        build(next(s for s in READING if s.reader == "vector"))(ids(1, 2 * T), own=torch.ones(1, dtype=torch.bool))


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_every_weight_that_is_there_learns_and_is_saved_to_the_bit(shape, tmp_path):
    model = build(shape).train()
    x = ids(2, 3 * T)
    marks = torch.tensor([[False, True, True]] * 2)
    model(x, labels=x, marks=marks).loss.backward()
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
        {"chunks": 0},
        {"vectors": 0},
        {"select": -1},
        {"key_width": 3},
        {"reader": "select", "decoder": replace(MIXER, width=9, layers=1), "positions": "fixed"},
        {"decoder": replace(TRANSFORMER, causal=False)},
        {"decoder": MIXER},
        {"decoder": MIXER, "positions": "fixed", "reader": "full"},
    ],
)
def test_impossible_shapes_are_refused_with_a_sentence(wrong):
    with pytest.raises(UsageError):
        MemoryShape(**wrong)


def test_more_memories_than_there_is_room_for_are_refused():
    shape = MemoryShape(chunks=2, encoder=ENCODERS[0], decoder=MIXER, positions="fixed")
    with pytest.raises(UsageError, match="room for 2 memories"):
        build(shape)(ids(1, 4 * T))
