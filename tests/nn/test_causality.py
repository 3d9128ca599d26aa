"""Every stack in the registry is exactly causal: changing token t leaves every earlier output bit-equal."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memlm.nn.config import StackConfig
from memlm.nn.stack import build_stack

STACKS = [
    StackConfig(kind="mixer", width=16, layers=2, kernel=1),
    StackConfig(kind="mixer", width=16, layers=2, kernel=4),
    StackConfig(kind="mixer", width=16, layers=2, heads=4),
    StackConfig(kind="transformer", width=16, layers=2, heads=2),
    StackConfig(kind="pointwise", width=16, layers=2),
]
T = 12


def ident(config: StackConfig) -> str:
    return f"{config.kind}-k{config.kernel}-h{config.heads}"


@pytest.mark.parametrize("config", STACKS, ids=ident)
@settings(max_examples=15, deadline=None)
@given(t=st.integers(0, T - 1), seed=st.integers(0, 1000), size=st.sampled_from([1e-3, 1.0, 1e4]))
def test_a_changed_token_leaves_earlier_outputs_bit_equal(config, t, seed, size):
    torch.manual_seed(seed)
    stack = build_stack(config, T)
    x = torch.randn(3, T, config.width)
    changed = x.clone()
    changed[:, t] += size * torch.randn(3, config.width)
    before, after = stack(x), stack(changed)
    assert torch.equal(before[:, :t], after[:, :t])
    assert not torch.equal(before[:, t], after[:, t])


@pytest.mark.parametrize("config", [c for c in STACKS if c.kind != "pointwise"], ids=ident)
def test_the_last_position_sees_the_first(config):
    torch.manual_seed(0)
    stack = build_stack(config, T)
    x = torch.randn(1, T, config.width, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x)[0, -1, 0], x)
    assert (gradient[0, 0] != 0).any()


@pytest.mark.parametrize("config", STACKS, ids=ident)
def test_a_shorter_sequence_is_a_prefix(config):
    torch.manual_seed(0)
    stack = build_stack(config, T)
    x = torch.randn(2, T, config.width)
    torch.testing.assert_close(stack(x[:, :5]), stack(x)[:, :5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [c for c in STACKS if c.kind != "pointwise"], ids=ident)
def test_without_causality_the_future_is_seen(config):
    torch.manual_seed(0)
    stack = build_stack(replace(config, causal=False), T)
    x = torch.randn(1, T, config.width, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x)[0, 0, 0], x)
    assert (gradient[0, -1] != 0).any()
