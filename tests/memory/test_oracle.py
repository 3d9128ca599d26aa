"""The oracle: it is told the future by its memory, and by nothing else."""

from itertools import product

import pytest
import torch
from transformers import AutoModel

from memlm.errors import UsageError
from memlm.loading import build_model, load_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.oracle import Oracle
from memlm.models.shapes import OracleShape
from memlm.nn.config import StackConfig

T, M, V = 6, 10, 40
MIXER = StackConfig(kind="mixer", width=8, layers=2, kernel=3)
TRANSFORMER = StackConfig(kind="transformer", width=8, layers=2, heads=2)
SHAPES = [
    OracleShape(encoder=EncoderShape(chunk_tokens=T, memory_dim=M, stack=MIXER), decoder=decoder, given=given)
    for decoder, given in product((MIXER, TRANSFORMER), ("token", "embedding", "sum"))
]


def ident(shape: OracleShape) -> str:
    return f"{shape.decoder.kind}-{shape.given}"


def build(shape: OracleShape) -> Oracle:
    """Weights of ordinary size: zero-initialised ones would hide what is connected."""
    model, generator = build_model(shape, V, 0).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


def ids(rows: int = 2, tokens: int = T) -> torch.Tensor:
    return torch.randint(2, V, (rows, tokens), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_it_is_told_later_tokens_by_its_memory_alone(shape):
    model, x = build(shape), ids()
    for n in range(T):
        changed = x.clone()
        changed[:, n] = (changed[:, n] - 1) % (V - 2) + 2
        told, silent = ([model(z, read=read).logits for z in (x, changed)] for read in (True, False))
        assert all(not torch.equal(told[0][:, place], told[1][:, place]) for place in range(T))
        assert [torch.equal(silent[0][:, p], silent[1][:, p]) for p in range(T)] == [p <= n for p in range(T)]


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_a_shorter_text_is_read_and_scored_as_it_is(shape):
    model, x = build(shape), ids(tokens=T - 2)
    out = model(x, labels=x)
    assert out.logits.shape == (2, T - 2, V)
    assert out.memories.shape == (2, 1, M)
    torch.testing.assert_close(out.memories[:, 0], model.encode(x))
    assert out.loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), x.flatten()).item()
    )


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_it_learns_everywhere_and_is_saved_to_the_bit(shape, tmp_path):
    model, x = build(shape), ids()
    model(x, labels=x).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.save_pretrained(tmp_path)
    for again in (AutoModel.from_pretrained(tmp_path).eval(), load_model(tmp_path)):
        assert torch.equal(again(x).logits, model(x).logits)
        assert again.config.read_shape() == shape


def test_a_decoder_that_sees_ahead_is_refused():
    with pytest.raises(UsageError, match="causal"):
        OracleShape(decoder=StackConfig(kind="transformer", width=8, heads=2, causal=False))
