"""The optimisers: Muon's direction, the rate's course, state that survives a round trip."""

import math
from itertools import pairwise

import pytest
import torch

from memlm.errors import UsageError
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.muon import Muon, orthogonalise
from memlm.train.optim import build_optimizers, learning_rate, load_optimizer_tensors, optimizer_tensors


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (24, 24)])
def test_the_direction_is_orthogonal_and_keeps_the_singular_vectors(shape):
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    direction = orthogonalise(u * (s + 1) @ v)
    values = (u.T @ direction @ v.T).diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(u * values @ v, direction, rtol=1e-3, atol=1e-3)


def test_the_short_form_is_five_newton_schulz_steps():
    torch.manual_seed(0)
    gradient = torch.randn(40, 12)
    x = gradient / gradient.norm()
    for _ in range(5):
        gram = x.T @ x
        x = 3.4445 * x + x @ (-4.7750 * gram + 2.0315 * gram @ gram)
    torch.testing.assert_close(orthogonalise(gradient), x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 10, 24), (24, 10)])
def test_blocks_of_the_shorter_side_have_directions_of_their_own(shape):
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    side = -2 if shape[-2] < shape[-1] else -1
    by_block = torch.cat([orthogonalise(one) for one in gradient.split(4, side)], side)
    assert torch.equal(orthogonalise(gradient, 4), by_block)
    assert not torch.allclose(by_block, orthogonalise(gradient), atol=0.01)
    for block in (0, 10, 24):
        assert torch.equal(orthogonalise(gradient, block), orthogonalise(gradient))


def test_no_gradient_is_no_direction():
    assert torch.equal(orthogonalise(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_muon_goes_down():
    torch.manual_seed(0)
    weight, target = torch.nn.Parameter(torch.zeros(8, 8)), torch.randn(8, 8)
    optimizer = Muon([weight], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert (weight - target).square().mean() < 0.1


def test_the_rate_rises_stays_and_falls():
    config = OptimConfig(warmup=10, decay_from=0.5, final=0.1)
    course = [learning_rate(config, step, 100) for step in range(100)]
    assert course[0] == pytest.approx(0.1)
    assert course[9:51] == [1.0] * 42
    assert all(a > b for a, b in pairwise(course[50:]))
    assert course[-1] == pytest.approx(0.1 + 0.9 / 50)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_survives_a_round_trip_exactly(kind):
    def make():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3))
        return model, build_optimizers(model, OptimConfig(kind=kind))

    def step(model, optimizers):
        model(torch.ones(2, 6)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    model, optimizers = make()
    for _ in range(3):
        step(model, optimizers)
    weights, moments = {k: v.clone() for k, v in model.state_dict().items()}, optimizer_tensors(optimizers)
    moments = {k: v.clone() for k, v in moments.items()}
    step(model, optimizers)

    again, fresh = make()
    again.load_state_dict(weights)
    load_optimizer_tensors(fresh, moments)
    step(again, fresh)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in ("lr", "matrix_lr") for value in (0.0, -1.0, math.nan, math.inf)),
        *((name, value) for name in ("clip", "weight_decay") for value in (-1.0, math.nan, math.inf)),
        *((name, value) for name in ("beta1", "beta2") for value in (-0.1, 1.0, 1.5, math.nan)),
        ("warmup", -1),
    ],
)
def test_numbers_out_of_range_are_refused_by_their_name(field, value):
    with pytest.raises(UsageError, match=field):
        OptimConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_seconds", 0.0), ("max_seconds", -5.0), ("max_seconds", math.nan), ("seed", -1), ("seed", 10**23)],
)
def test_so_are_those_of_a_run(field, value):
    with pytest.raises(UsageError, match=field):
        TrainConfig(**{field: value})
