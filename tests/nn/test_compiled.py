"""What is compiled: one graph a kind of block and shape, the eager numbers, and no mask, bias or table made again."""

import pytest
import torch

from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import AutoencoderShape, MemoryShape
from memlm.nn import attention, compiled
from memlm.nn.chunks import Chunks
from memlm.nn.compiled import Encoding, compile_parts, pays, uncompiled
from memlm.nn.config import StackConfig

V, T = 40, 8
TRANSFORMER = StackConfig(kind="transformer", width=16, layers=3, heads=2)
MIXER = StackConfig(kind="mixer", width=16, layers=3, kernel=2)


def memory_model(decoder: StackConfig, encoder: StackConfig = TRANSFORMER):
    forms = EncoderShape(chunk_tokens=T, memory_dim=16, stack=encoder)
    shape = MemoryShape(chunks=4, encoder=forms, decoder=decoder, positions="fixed")
    return build_model(shape, V, 0).train()


# With how many graphs there are for a shape: of each kind of block and form of its input (a memory that is repeated has
# strides of its own), and of the loss.
MODELS = {
    "transformers": (lambda: memory_model(TRANSFORMER), 3),
    "mixers": (lambda: memory_model(MIXER, MIXER), 3),
    "autoencoder": (lambda: build_model(AutoencoderShape(chunk_tokens=4 * T, encoder=MIXER, decoder=MIXER), V, 0), 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_a_shape_and_nothing_made_twice(name, monkeypatch):
    make, expected = MODELS[name]
    model, graphs, rules = make().train(), [], []

    def counted(module, inputs):
        graphs.append(module)
        return module

    def step(rows: int, tokens: int) -> float:
        ids = torch.randint(2, V, (rows, tokens), generator=torch.Generator().manual_seed(tokens))
        model.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        return loss.item()

    eager = step(2, 4 * T), step(3, 4 * T)
    seen = Chunks.sees
    monkeypatch.setattr(Chunks, "sees", lambda *given: rules.append(given) or seen(*given))
    tables = attention.rotary_tables
    monkeypatch.setattr(attention, "rotary_tables", lambda *given: rules.append(given) or tables(*given))
    compile_parts(model, counted)
    compiled = step(2, 4 * T), step(3, 4 * T)
    assert compiled == pytest.approx(eager, rel=1e-5)
    assert len(graphs) == 2 * expected
    assert not rules
    for _ in range(2):
        step(2, 4 * T), step(3, 4 * T)
    with torch.inference_mode(), uncompiled():
        model.eval()(torch.full((5, 4 * T), 3))
    model.train()
    step(2, 4 * T)
    assert len(graphs) == 2 * expected


@pytest.mark.parametrize("stack", [TRANSFORMER, MIXER], ids=lambda stack: stack.kind)
def test_encoding_is_compiled_once_for_what_came_often_in_one_shape(stack, monkeypatch):
    model, graphs = memory_model(stack, stack).eval(), []

    def counted(module, inputs):
        graphs.append(module)
        return module

    many, few = (torch.randint(2, V, (rows, T)) for rows in (6, 2))
    weights = sum(p.numel() for block in model.encoder.stack.blocks for p in block.parameters())
    monkeypatch.setattr(compiled, "pays", lambda done, device: done >= 4 * weights * many.numel())
    encode = Encoding(model, counted)
    with torch.inference_mode():
        plain = model.encode(many)
        for _ in range(2):
            assert torch.equal(encode(many), plain)
        assert not graphs
        for _ in range(3):
            torch.testing.assert_close(encode(many), plain)
            encode(few[:1])  # a handful, of a shape that is rare
            model.encode(few), model(torch.cat([many, many], 1))  # whoever else runs the model
        assert len(graphs) == 1
    for p in model.parameters():
        p.data.mul_(0.5)
    with torch.inference_mode():
        torch.testing.assert_close(encode(many), model.encode(many))
    assert len(graphs) == 1


def test_a_cpu_and_a_handful_of_chunks_encode_uncompiled():
    assert pays(compiled.ENCODED, torch.device("cuda"))
    assert not pays(compiled.ENCODED - 1, torch.device("cuda"))
    assert not pays(1e30, torch.device("cpu"))
