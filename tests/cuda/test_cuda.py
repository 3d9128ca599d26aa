"""The same properties on a GPU; run by benchmarks/gpu.sh with -m cuda."""

from dataclasses import replace

import pytest
import torch
from memory_models import READING, T, build, ident, ids
from torch.nn import functional as F

from memlm.loading import build_model
from memlm.measure.config import ProbeConfig
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import MemoryShape
from memlm.nn.chunks import Chunks
from memlm.nn.config import StackConfig
from memlm.nn.stack import build_stack
from memlm.presets import slots
from memlm.train.loop import train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
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
    config = replace(config, data=data, model=model, steps=300, device="cuda", optim=ProbeConfig().optim)
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
    from memlm.nn.flex import in_one_kernel

    device = torch.device("cuda")
    tensors = [torch.randn(2, 4, rule.entries, 32, device=device, requires_grad=True) for _ in "qkv"]
    weight = torch.randn(2, 4, rule.entries, 32, device=device)
    ways = {
        "mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=rule.mask(device)),
        "kernel": lambda q, k, v: in_one_kernel(q, k, v, rule),
        "groups": lambda q, k, v: by_groups(q, k, v, rule, 512),
    }
    read = {name: way(*tensors) for name, way in ways.items()}
    gradients = {name: torch.autograd.grad((out * weight).sum(), tensors) for name, out in read.items()}
    for name in ("kernel", "groups"):
        torch.testing.assert_close(read[name], read["mask"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradients[name], gradients["mask"], rtol=1e-4, atol=1e-4)


def test_a_model_over_a_long_text_trains_in_one_kernel_and_learns_what_groups_teach(monkeypatch):
    from memlm.nn import attention, flex

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
        model.zero_grad()
        loss = model(x, labels=x).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert len(calls) == shape.decoder.layers
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)
