"""Every encoder, readout and bridge together: shapes, padding, exact save and load, bad files."""

from itertools import product

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from memlm.errors import UsageError
from memlm.loading import build_model, load_model
from memlm.memory.bridge import Unroll
from memlm.memory.encoder_shape import BRIDGES, READOUTS
from memlm.models.autoencoder import Autoencoder
from memlm.models.shapes import AutoencoderShape
from memlm.nn.config import StackConfig

T, M, V = 8, 16, 50
STACKS = [
    StackConfig(kind="mixer", width=12, layers=1, kernel=3),
    StackConfig(kind="mixer", width=12, layers=1, heads=2),
    StackConfig(kind="transformer", width=12, layers=1, heads=2),
    StackConfig(kind="pointwise", width=12, layers=0),
]
SHAPES = [
    AutoencoderShape(chunk_tokens=T, memory_dim=M, encoder=stack, decoder=stack, readout=readout, bridge=bridge)
    for stack, readout, bridge in product(STACKS, READOUTS, BRIDGES)
]


def ident(shape: AutoencoderShape) -> str:
    return f"{shape.encoder.kind}{shape.encoder.heads}-{shape.readout}-{shape.bridge}"


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, V, (3, T), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_shapes_gradients_and_padding(shape, ids):
    model = build_model(shape, V, seed=0)
    out = model(ids, labels=ids)
    assert out.memories.shape == (3, 1, M)
    assert out.logits is None  # in training the loss alone is asked for
    assert model(ids).logits.shape == (3, T, V)
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    short = ids[:, :5]
    padded = torch.cat([short, torch.zeros(3, 3, dtype=torch.long)], 1)
    torch.testing.assert_close(model.encode(short), model.encode(padded))


@pytest.mark.parametrize("shape", SHAPES[:: len(BRIDGES)], ids=ident)
def test_saved_and_loaded_to_the_bit(shape, ids, tmp_path):
    model = build_model(shape, V, seed=1).eval()
    model.save_pretrained(tmp_path)
    for again in (Autoencoder.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path), load_model(tmp_path)):
        assert torch.equal(again(ids).logits, model(ids).logits)
        assert again.fingerprint() == model.fingerprint()
    assert AutoConfig.from_pretrained(tmp_path).read_shape() == shape
    assert build_model(shape, V, seed=2).fingerprint() != model.fingerprint()


def test_the_memory_is_the_only_way_through(ids):
    """Two texts with the same memory give the same output: nothing passes beside it."""
    model = build_model(SHAPES[0], V, seed=0)
    assert torch.equal(model(ids).logits, model.decode(model.encode(ids)))


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = build_model(SHAPES[0], V, seed=7).fingerprint()
    assert torch.equal(torch.rand(2), expected)
    assert build_model(SHAPES[0], V, seed=7).fingerprint() == first


def test_unroll_is_the_papers_wrapped_window():
    torch.manual_seed(0)
    D = 6
    bridge = Unroll(9, D, D)
    memory = torch.randn(2, D)
    for t in range(9):
        window = torch.stack([memory[:, (t % D + i) % D] for i in range(D // 2)], 1)
        torch.testing.assert_close(bridge(memory)[:, t], bridge.project(window))


@pytest.mark.parametrize("damage", ["absent", "empty", "no-model", "unknown-kind", "truncated", "missing-weight"])
def test_what_cannot_be_loaded_is_refused_with_a_sentence(damage, tmp_path):
    folder = tmp_path / "model"
    build_model(SHAPES[0], V, seed=0).save_pretrained(folder)
    weights = folder / "model.safetensors"
    if damage == "absent":
        folder = tmp_path / "nowhere"
    elif damage == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
    elif damage == "no-model":
        weights.unlink()
    elif damage == "unknown-kind":
        (folder / "config.json").write_text('{"model_type": "llama"}')
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        tensors = load_file(weights)
        tensors.pop("decoder.head.weight")
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UsageError) as error:
        load_model(folder)
    assert str(error.value).count("\n") == 0
