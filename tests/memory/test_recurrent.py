"""The recurrent baseline: a plain loop over chunks; nothing sees the future; errors flow back through time."""

import pytest
import torch
from transformers import AutoModel

from memlm.errors import UsageError
from memlm.loading import build_model, load_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.recurrent import RecurrentMemory
from memlm.models.shapes import RecurrentShape
from memlm.nn.config import StackConfig

T, M, C, V = 4, 12, 4, 40
MIXER = StackConfig(kind="mixer", width=8, layers=2, kernel=3)
TRANSFORMER = StackConfig(kind="transformer", width=8, layers=2, heads=2)
SHAPES = [
    RecurrentShape(
        chunks=C,
        encoder=EncoderShape(chunk_tokens=T, memory_dim=M, stack=encoder, readout=readout, begins=True),
        decoder=decoder,
    )
    for encoder, decoder, readout in (
        (MIXER, MIXER, "last"),
        (TRANSFORMER, TRANSFORMER, "last"),
        (MIXER, TRANSFORMER, "mean"),
        (TRANSFORMER, MIXER, "slots"),
    )
]


def ident(shape: RecurrentShape) -> str:
    return f"{shape.encoder.stack.kind}-{shape.encoder.readout}-{shape.decoder.kind}"


def build(shape: RecurrentShape) -> RecurrentMemory:
    """Weights of ordinary size: zero-initialised ones would hide what is connected."""
    model, generator = build_model(shape, V, 0).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


def ids(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, V, (rows, tokens), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_it_is_a_plain_loop_over_chunks(shape):
    model, x = build(shape), ids(3, C * T)
    marks = torch.rand(3, C, generator=torch.Generator().manual_seed(1)) < 0.5
    memory, logits, memories = torch.zeros(3, M), [], []
    for c in range(C):
        chunk = x[:, c * T : (c + 1) * T]
        slot = model.start(marks[:, c].long())[:, None]
        inside = torch.cat([slot, model.embed(chunk[:, :-1])], 1) + model.place.weight
        logits.append(model.head(model.decoder(torch.cat([model.read(memory)[:, None], inside], 1))[:, 1:]))
        seen = model.encoder.stack(torch.cat([model.carry(memory)[:, None], model.encoder.embed(chunk)], 1))
        memory = model.encoder.norm(model.encoder.readout(seen, torch.ones(3, T + 1, dtype=torch.bool)))
        memories.append(memory)
    out = model(x, marks=marks)
    torch.testing.assert_close(out.logits, torch.cat(logits, 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.memories, torch.stack(memories[:-1], 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.encode(x[:, :T]), memories[0], rtol=1e-5, atol=1e-5)
    # Going on from a memory is the same as going through.
    torch.testing.assert_close(model.carried(x.unflatten(1, (C, T))[:, 2:], memories[1])[:, -1], memories[-1])


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_a_changed_token_changes_nothing_up_to_its_own_place(shape):
    model, x = build(shape), ids(2, 3 * T + 1)
    before = model(x).logits
    for n in range(x.shape[1]):
        changed = x.clone()
        changed[:, n] = (changed[:, n] - 1) % (V - 2) + 2
        after = model(changed).logits
        assert torch.equal(before[:, : n + 1], after[:, : n + 1])
        if (n + 1) % T and n + 1 < x.shape[1]:
            assert not torch.equal(before[:, n + 1], after[:, n + 1])


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_every_chunk_reaches_all_later_ones_and_none_without_memory(shape):
    model, x = build(shape), ids(1, C * T)
    for c in range(C - 1):
        changed = x.clone()
        changed[:, c * T : (c + 1) * T] = ids(1, T, seed=9 + c)
        for read in (True, False):
            before, after = (model(z, read=read).logits.unflatten(1, (C, T)) for z in (x, changed))
            same = [torch.equal(before[:, d], after[:, d]) for d in range(C)]
            assert same == [d < c or (d > c and not read) for d in range(C)]


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_the_last_chunks_loss_reaches_the_first_chunks_embeddings(shape):
    model, x, embedded = build(shape), ids(2, C * T), []
    model.encoder.embed.register_forward_hook(lambda *call: call[-1].retain_grad() or embedded.append(call[-1]))
    labels = torch.full_like(x, -100)
    labels[:, -T:] = x[:, -T:]
    model(x, labels=labels).loss.backward()
    assert len(embedded) == C - 1  # the last chunk's memory would be read by nobody
    for x_BTD in embedded:
        assert (x_BTD.grad.abs().amax(-1) > 1e-8).all()


def test_it_is_saved_to_the_bit(tmp_path):
    for i, shape in enumerate(SHAPES):
        model, x = build(shape), ids(2, C * T)
        model.save_pretrained(tmp_path / str(i))
        for again in (AutoModel.from_pretrained(tmp_path / str(i)).eval(), load_model(tmp_path / str(i))):
            assert torch.equal(again(x).logits, model(x).logits)
            assert again.config.read_shape() == shape


def test_impossible_shapes_are_refused():
    with pytest.raises(UsageError, match="begins"):
        RecurrentShape(encoder=EncoderShape(chunk_tokens=T, stack=MIXER))
    with pytest.raises(UsageError, match="chunks must be at least 1"):
        RecurrentShape(chunks=0, encoder=SHAPES[0].encoder)
