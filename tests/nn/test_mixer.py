"""The masked mixer against its formula written out as loops, and what masking must not do."""

import pytest
import torch

from memlm.errors import UsageError
from memlm.nn.config import StackConfig
from memlm.nn.mixer import FlatMixing, HeadedMixing, Mixer


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_flat_mixing_is_the_papers_sum(kernel):
    torch.manual_seed(kernel)
    B, T, D = 2, 5, 8
    mixing = FlatMixing(StackConfig(width=D, kernel=kernel), T)
    x = torch.randn(B, T, D)
    expected = torch.zeros(B, T, D)
    for b in range(B):
        for o in range(T):
            for c in range(D):
                total = mixing.bias[o].item()
                for i in range(o + 1):
                    for j in range(kernel):
                        place = c + j - (kernel - 1) // 2
                        if 0 <= place < D:
                            total += mixing.weight[o, i, j].item() * x[b, i, place].item()
                expected[b, o, c] = total
    torch.testing.assert_close(mixing(x), expected, rtol=1e-5, atol=1e-5)


def test_headed_mixing_is_one_plain_convolution_a_head():
    torch.manual_seed(0)
    B, T, D, H = 2, 6, 12, 3
    mixing = HeadedMixing(StackConfig(width=D, heads=H), T)
    x = torch.randn(B, T, D)
    heads = mixing.project_in(x).split(D // H, -1)
    mixed = [
        torch.nn.functional.conv1d(part, mixing.weight[h].tril()[:, :, None], mixing.bias[h])
        for h, part in enumerate(heads)
    ]
    torch.testing.assert_close(mixing(x), mixing.project_out(torch.cat(mixed, -1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [StackConfig(width=8, kernel=3), StackConfig(width=8, heads=2)])
def test_a_forward_pass_leaves_the_weights_alone_and_masked_ones_get_no_gradient(config):
    torch.manual_seed(0)
    stack = Mixer(config, 6)
    before = {name: p.clone() for name, p in stack.named_parameters()}
    stack(torch.randn(2, 6, 8)).square().sum().backward()
    for name, param in stack.named_parameters():
        assert torch.equal(param, before[name])
    for block in stack.blocks:
        gradient = block.mixing.weight.grad
        gradient = gradient.permute(2, 0, 1) if gradient.shape[-1] != gradient.shape[-2] else gradient
        assert torch.equal(gradient.tril(), gradient)


def test_inter_token_parameters_are_the_papers():
    flat = sum(p.numel() for p in FlatMixing(StackConfig(width=32, kernel=4), 16).parameters())
    assert flat == 4 * 16**2 + 16
    headed = sum(p.numel() for p in HeadedMixing(StackConfig(width=32, heads=4), 16).parameters())
    assert headed == 4 * 16**2 + 2 * 32**2 + (4 * 16 + 2 * 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "mixr"},
        {"width": 0},
        {"layers": -1},
        {"width": 10, "heads": 4},
        {"kernel": 2, "heads": 2},
        {"kind": "transformer", "kernel": 2},
        {"kind": "transformer", "width": 6, "heads": 2},
    ],
)
def test_impossible_stacks_are_refused_with_a_sentence(wrong):
    with pytest.raises(UsageError):
        StackConfig(**wrong)
