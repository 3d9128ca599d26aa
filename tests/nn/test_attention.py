"""Attention by the rule of chunks: what the mask over the whole sequence gives, without it; nothing unseen leaks."""

import pytest
import torch
from torch.nn import functional as F

from memlm.nn import attention
from memlm.nn.attention import attend, by_groups
from memlm.nn.chunks import Chunks
from memlm.nn.config import StackConfig
from memlm.nn.layout import Layout
from memlm.nn.stack import build_stack

RULES = {
    "causal": Chunks(tokens=9),
    "chunks alone": Chunks(tokens=4, chunks=3),
    "vectors": Chunks(tokens=4, chunks=5, prefix=4),
    "vectors, one for the last chunk too": Chunks(tokens=4, chunks=3, prefix=5, first=3),
    "two vectors each": Chunks(tokens=4, chunks=5, prefix=12, block=2, first=4),
    "slots": Chunks(tokens=4, chunks=5, prefix=16, block=4),
    "prefix alone": Chunks(chunks=0, prefix=9, block=3),
    "vectors alone": Chunks(chunks=0, prefix=7),
    "wide": Chunks(tokens=300, chunks=3, prefix=1200, block=600),
}
ROWS = (1, 8, 12, 1024)  # of T = 4: one chunk, two, three, all


def made(rule: Chunks) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, rule.entries, 8, generator=generator, requires_grad=True) for _ in "qkv"]


def by_hand(rule: Chunks) -> torch.Tensor:
    """The rule, an entry at a time."""
    mask = torch.zeros(rule.entries, rule.entries, dtype=torch.bool)
    for q in range(rule.prefix):
        mask[q, : (q // rule.block + 1) * rule.block] = True
    for c in range(rule.chunks):
        for t in range(rule.tokens):
            q = rule.prefix + c * rule.tokens + t
            mask[q, : min(rule.first + c * rule.block, rule.prefix)] = True
            mask[q, q - t : q + 1] = True
    return mask


def assert_same(attended, tensors, expected):
    torch.testing.assert_close(attended, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.autograd.grad((z * weight).sum(), tensors, retain_graph=True) for z in (attended, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_mask_is_the_rule(rule):
    assert torch.equal(rule.mask(torch.device("cpu")), by_hand(rule))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_values_and_gradients_are_those_under_the_mask(rule):
    tensors = made(rule)
    expected = F.scaled_dot_product_attention(*tensors, attn_mask=by_hand(rule))
    assert_same(attend(*tensors, rule), tensors, expected)
    for rows in ROWS if rule.prefix else ():
        assert_same(by_groups(*tensors, rule, rows), tensors, expected)


@pytest.mark.parametrize("rule", [RULES["vectors"], RULES["two vectors each"], RULES["slots"]])
def test_what_an_entry_does_not_see_changes_nothing_to_the_bit(rule):
    q, k, v = (z.detach() for z in made(rule))
    mask = rule.mask(torch.device("cpu"))
    for rows in ROWS:
        before = by_groups(q, k, v, rule, rows)
        for p in range(rule.entries):
            k_changed, v_changed = k.clone(), v.clone()
            k_changed[:, :, p] += 1
            v_changed[:, :, p] -= 1
            after = by_groups(q, k_changed, v_changed, rule, rows)
            same = (before == after).all(3).all(1).all(0)
            assert torch.equal(same, ~mask[:, p])


def test_no_tensor_is_as_large_as_a_mask_over_all(monkeypatch):
    rule, sizes = Chunks(tokens=64, chunks=32, prefix=31), []
    attended = F.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None, is_causal=False):
        sizes.append(q.shape[2] * k.shape[2])
        return attended(q, k, v, attn_mask=attn_mask, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    by_groups(*made(rule), rule, 64)
    assert max(sizes) <= 64 * (31 + 64)
    assert sum(sizes) < rule.entries**2 / 20


@pytest.mark.parametrize("rule", [*RULES.values(), Chunks(tokens=100, chunks=8, prefix=7)])
def test_the_one_kernel_visits_the_blocks_that_are_seen_of_entries_turned_by_the_prefix(rule):
    from torch.nn.attention.flex_attention import create_block_mask

    from memlm.nn.flex import block_mask

    P = rule.entries
    ours = block_mask(rule, torch.device("cpu"))
    seen_PP = rule.mask(torch.device("cpu")).roll((-rule.prefix, -rule.prefix), (0, 1))
    torchs = create_block_mask(lambda b, h, q, p: seen_PP[q % P, p % P], None, None, P, P, "cpu")
    assert torch.equal(ours.to_dense(), torchs.to_dense())
    assert torch.equal(ours.full_kv_num_blocks, torchs.full_kv_num_blocks)
    assert ours.seq_lengths == torchs.seq_lengths == (P, P)


def test_chunks_of_whole_blocks_begin_on_the_edge_of_one():
    from memlm.nn.flex import block_mask

    blocks = block_mask(Chunks(tokens=256, chunks=4, prefix=3), torch.device("cpu"))
    assert (int(blocks.kv_num_blocks.sum()), int(blocks.full_kv_num_blocks.sum())) == (15, 4)  # 27 and 0 unturned


@pytest.mark.parametrize("residuals", [False, True])
def test_a_transformer_in_one_kernel_gives_what_it_gives_by_groups(monkeypatch, residuals):
    from torch.nn.attention.flex_attention import flex_attention

    from memlm.nn import flex

    torch.manual_seed(0)
    config, rule = StackConfig(kind="transformer", width=32, layers=2, heads=2), Chunks(tokens=100, chunks=4, prefix=3)
    stack, P = build_stack(config, rule.entries).requires_grad_(False), rule.entries
    x_BPD, moved_BPD = torch.randn(2, P, 32), torch.randn(2, P, 32)
    added = [lambda h_BPD: h_BPD.cos() * moved_BPD] * 2 if residuals else []
    layout = [Layout(torch.arange(P), rule) for _ in range(2)]
    by_groups = stack(x_BPD, layout[0], residuals=added)
    make = attention._sight
    monkeypatch.setattr(attention, "_sight", lambda *given: make(*given[:-1], True))  # as on a GPU, in training
    monkeypatch.setattr(attention, "LONG", P)
    monkeypatch.setattr(flex, "_compiled", lambda: flex_attention)
    read = stack(x_BPD, layout[1], residuals=added)
    assert next(iter(layout[1].made.values())).blocks is not None
    torch.testing.assert_close(read, by_groups, rtol=1e-4, atol=1e-5)


def test_biases_that_were_made_while_evaluating_serve_training():
    attention.biases_of.cache_clear()
    tensors = made(RULES["slots"])
    with torch.inference_mode():
        evaluated = attend(*tensors, RULES["slots"])
    trained = attend(*tensors, RULES["slots"])
    trained.square().sum().backward()
    assert torch.equal(trained, evaluated)
    assert all(tensor.grad.abs().sum() > 0 for tensor in tensors)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_rows_are_attended_to_as_well(rule):
    assert attend(*(z[:0] for z in made(rule)), rule).shape == (0, 2, rule.entries, 8)
