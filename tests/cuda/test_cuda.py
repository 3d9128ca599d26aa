"""The same properties on a GPU; run by benchmarks/gpu.sh with -m cuda."""

from dataclasses import replace

import pytest
import torch
from memory_models import READING, T, build, ident, ids

from memlm.measure.config import ProbeConfig
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
