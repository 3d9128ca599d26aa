"""The same properties on a GPU; run by benchmarks/gpu.sh with -m cuda."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from memory_models import READING, T, build, ident, ids
from torch.nn import functional as F

from memlm.loading import build_model
from memlm.measure.config import DECODERS, FAMILIES, ProbeConfig
from memlm.measure.families import fit_families
from memlm.measure.probe import lesson
from memlm.measure.scores import score_chunks
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import MemoryShape
from memlm.nn.chunks import Chunks
from memlm.nn.compiled import compile_parts, compiled_twin
from memlm.nn.config import StackConfig
from memlm.nn.stack import build_stack
from memlm.precision import computing, exact, restored, settle
from memlm.presets import slots
from memlm.train.checkpoint import load_checkpoint, save_checkpoint
from memlm.train.loop import train
from memlm.train.muon import directions, orthogonalise

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.fixture(autouse=True)
def whole_precision():
    """A run settles the precision of its process, whatever was compared with the CPU before."""
    torch.set_float32_matmul_precision("highest")


STACKS = [
    StackConfig(kind="mixer", width=64, layers=2, kernel=4),
    StackConfig(kind="mixer", width=64, layers=2, heads=4),
    StackConfig(kind="transformer", width=64, layers=2, heads=4),
]


@pytest.mark.parametrize("config", STACKS, ids=lambda c: f"{c.kind}{c.heads}")
def test_causality_to_the_bit_and_the_cpus_numbers(config):
    torch.manual_seed(0)
    stack = build_stack(config, 32)
    x = torch.randn(4, 32, 64)
    on_cpu = stack(x)
    stack = stack.cuda()
    before = stack(x.cuda())
    torch.testing.assert_close(before.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    changed = x.cuda()
    changed[:, 20] += 1
    assert torch.equal(stack(changed)[:, :20], before[:, :20])


def test_a_run_learns_in_bf16(data, tmp_path):
    config = slots()
    model = replace(config.model, chunk_tokens=4, memory_dim=64)
    config = replace(config, data=data, model=model, steps=300, device="cuda", optim=DECODERS["slots"].optim)
    assert train(config, tmp_path / "run")["token_accuracy"] > 0.9


@pytest.mark.parametrize("shape", READING, ids=ident)
def test_memory_models_give_the_cpus_numbers_in_both_forms_and_with_a_cache(shape):
    model, x = build(shape), ids(2, 3 * T)
    on_cpu = model(x).logits
    model = model.cuda()
    for model.form in ("packed", "folded"):
        torch.testing.assert_close(model(x.cuda()).logits.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    cached, anew = (model.generate(x.cuda(), max_new_tokens=2 * T, use_cache=cache) for cache in (True, False))
    assert torch.equal(cached, anew)


@pytest.mark.parametrize(
    "rule", [Chunks(tokens=256, chunks=8, prefix=7), Chunks(tokens=100, chunks=9, prefix=900, block=100)]
)
def test_attention_in_one_kernel_and_by_groups_is_that_under_one_mask(rule):
    from memlm.nn.attention import by_groups
    from memlm.nn.flex import block_mask, in_one_kernel

    device, m = torch.device("cuda"), rule.prefix
    tensors = [torch.randn(2, 4, rule.entries, 32, device=device, requires_grad=True) for _ in "qkv"]
    weight = torch.randn(2, 4, rule.entries, 32, device=device)
    ways = {
        "mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=rule.mask(device)),
        "kernel": lambda q, k, v: in_one_kernel(*(z.roll(-m, 2) for z in (q, k, v)), block_mask(rule, device)).roll(
            m, 2
        ),
        "groups": lambda q, k, v: by_groups(q, k, v, rule, 512),
    }
    read = {name: way(*tensors) for name, way in ways.items()}
    gradients = {name: torch.autograd.grad((out * weight).sum(), tensors) for name, out in read.items()}
    for name in ("kernel", "groups"):
        torch.testing.assert_close(read[name], read["mask"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradients[name], gradients["mask"], rtol=1e-4, atol=1e-4)


def test_a_model_over_a_long_text_trains_in_one_kernel_and_learns_what_groups_teach(monkeypatch):
    from memlm.nn import attention, flex
    from memlm.readers.placing import packed

    shape = MemoryShape(
        chunks=40,
        encoder=EncoderShape(chunk_tokens=64, memory_dim=64, stack=StackConfig(kind="transformer", width=64, heads=4)),
        decoder=StackConfig(kind="transformer", width=64, layers=2, heads=4),
    )
    model = build_model(shape, 50, 0).cuda().train()
    x = torch.randint(2, 50, (2, 40 * 64), device="cuda")
    kernel, calls, losses, gradients = flex.in_one_kernel, [], [], []
    monkeypatch.setattr(flex, "in_one_kernel", lambda *given: calls.append(1) or kernel(*given))
    for long in (attention.LONG, 10**9):
        monkeypatch.setattr(attention, "LONG", long)
        packed.cache_clear()  # whose layouts remember how they were followed
        model.zero_grad()
        loss = model(x, labels=x).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert len(calls) == shape.decoder.layers
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("chunks", [2, 20], ids=["by groups", "in one kernel"])
@pytest.mark.parametrize("kind", ["transformer", "mixer"])
def test_compiled_blocks_learn_what_plain_ones_do_in_a_graph_a_shape(kind, chunks):
    from torch._dynamo.utils import counters

    stack = StackConfig(kind=kind, width=64, layers=3, heads=2)
    shape = MemoryShape(
        chunks=chunks,
        encoder=EncoderShape(chunk_tokens=64, memory_dim=64, stack=stack),
        decoder=stack,
        positions="fixed",
    )
    model = build_model(shape, 50, 0).cuda().train()
    x = torch.randint(2, 50, (2, chunks * 64), device="cuda")

    def step():
        model.zero_grad()
        with computing(x.device):
            loss = model(x, labels=x).loss
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in model.named_parameters()}

    plain_loss, plain = step()
    compile_parts(model)
    counters.clear()
    for _ in range(3):
        loss, gradients = step()
    assert counters["stats"]["unique_graphs"] == 3  # encoder's blocks, decoder's, the loss
    assert not counters["graph_break"]
    torch.testing.assert_close(loss, plain_loss, rtol=1e-2, atol=1e-2)
    for name in plain:
        assert (gradients[name] - plain[name]).norm() <= 0.1 * plain[name].norm() + 1e-3, name


@pytest.mark.parametrize("stack", STACKS[::2], ids=lambda c: c.kind)
def test_encoding_compiled_is_close_to_encoding_as_it_is_written(stack):
    encoder = EncoderShape(chunk_tokens=64, memory_dim=64, stack=stack)
    model = build_model(MemoryShape(chunks=4, encoder=encoder, decoder=stack, positions="fixed"), 50, 0).cuda().eval()
    for p in model.encoder.parameters():
        torch.nn.init.normal_(p, std=0.05)  # some start as zero
    x = torch.randint(2, 50, (32, 64), device="cuda")
    with torch.inference_mode(), computing(x.device):
        plain, ours = model.encode(x), compiled_twin(model).encode(x)
    assert (ours - plain).norm() <= 0.02 * plain.norm()


def test_a_checkpoint_brings_back_the_devices_generator(tmp_path):
    torch.randn(3, device="cuda")
    path = save_checkpoint(tmp_path, 1, {"w": torch.zeros(1)}, {}, {}, keep=1)
    expected = torch.randn(5, device="cuda")
    load_checkpoint(path)
    assert torch.equal(torch.randn(5, device="cuda"), expected)


def test_muon_takes_matrices_of_one_shape_at_once():
    matrices = [torch.randn(shape, device="cuda") for shape in ((32, 64), (64, 32), (32, 64))]
    for ours, one in zip(directions(matrices), matrices, strict=True):
        torch.testing.assert_close(ours, orthogonalise(one), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_probes_are_the_same_instrument_on_both_devices(family):
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, 20, (1200, 4))
    vectors = np.eye(20, dtype=np.float32)[tokens[:, 0]] + rng.normal(0, 0.3, (1200, 20)).astype(np.float32)
    one = lesson(tokens[:800], np.arange(800) // 10, 32, seed=0)
    nats = {}
    for name in ("cpu", "cuda"):
        device = torch.device(name)
        with restored():
            settle(device)
            with exact(device):
                config = ProbeConfig(families=(family,), steps=60, batch=32)
                probe = fit_families(vectors[:800], one, device, config, "test")[family]
                nats[name] = float(score_chunks(probe, vectors[800:], tokens[800:], device).nats_N.mean())
    assert nats["cuda"] == pytest.approx(nats["cpu"], abs=0.02)
