"""Attention of memories and chunks, forward and backward: by groups of queries, each with the keys that it sees,
against one mask over the whole sequence; on a GPU, one kernel beside them; and, for what it would cost to read all
tokens in the place of memories, plain causal attention over as many tokens.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.bench.form import Options, Report
from memlm.bench.timing import for_seconds
from memlm.nn.attention import LONG, attend, by_groups, rows_of
from memlm.nn.chunks import Chunks

HEADS, WIDTH = 4, 64  # of a head
SMALL = ((4, 16), (32, 16), (4, 64), (16, 64), (16, 256))  # chunks, tokens of each
CASES = {"vector": (*SMALL, (64, 256)), "soft-tokens": SMALL}  # by reader
MASKED = 6_000  # entries up to which one mask is tried on a CPU, and twice as many on a GPU
GROUPS, MASK, ALL, KERNEL = "by groups", "one mask", "all tokens, causal", "one kernel"
SECONDS = 3.0  # a side of each case
SAME = 1e-4  # how far the sides may be apart, relative to the largest


def run(options: Options, *, cases: Mapping[str, Sequence[tuple[int, int]]] = CASES) -> Report:
    """Time all sides of each case in turn, after they have been seen to compute the same."""
    device = options.device
    batch = 1 if device.type == "cpu" else 4
    report = Report(
        name="attention",
        columns=("what", "side", "ms (median)", "times by groups (median of pairs)"),
        setting=(
            f"{HEADS} heads of width {WIDTH}, batch {batch}, fp32; a memory of every chunk but the last: one "
            "entry (vector) or one for each token (soft-tokens); groups of "
            f"{rows_of(device)} queries, or of one chunk; in turn"
        ),
        device=device.type,
        notes=[f"The sides' values and gradients agreed to {SAME:g} before anything was timed."],
    )
    for reader, chunks, tokens in ((reader, *size) for reader, sizes in cases.items() for size in sizes):
        block = 1 if reader == "vector" else tokens
        rule = Chunks(tokens=tokens, chunks=chunks, prefix=(chunks - 1) * block, block=block)
        qkv = [torch.randn(batch, HEADS, rule.entries, WIDTH, device=device, requires_grad=True) for _ in "qkv"]
        calls = {name: _step(side, qkv) for name, side in sides_of(rule, qkv).items()}
        compare({name: call() for name, call in calls.items() if name != ALL})
        times = for_seconds(calls, options.seconds or SECONDS)
        report.compare(case := f"{chunks} x {tokens} tokens, reader {reader}", times, GROUPS, unit=1000)
        for name in times:
            if name not in (GROUPS, ALL):
                report.ratio(case, times, name, GROUPS)
    return report


def sides_of(rule: Chunks, qkv: list[Tensor]) -> dict[str, Callable[[], Tensor]]:
    """The ways to compute what the rule says, and plain attention over as many tokens."""
    q, k, v = qkv
    q_tokens, k_tokens, v_tokens = (z[:, :, rule.prefix :] for z in qkv)
    on_gpu = q.is_cuda
    sides = {GROUPS: lambda: by_groups(q, k, v, rule, rows_of(q.device))}
    if rule.entries <= MASKED * (1 + on_gpu):
        mask = rule.mask(q.device)
        sides[MASK] = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if on_gpu and rule.entries >= LONG:
        from memlm.nn.flex import block_mask, in_one_kernel

        blocks, m = block_mask(rule, q.device), rule.prefix
        sides[KERNEL] = lambda: in_one_kernel(q.roll(-m, 2), k.roll(-m, 2), v.roll(-m, 2), blocks).roll(m, 2)
    sides[ALL] = lambda: attend(q_tokens, k_tokens, v_tokens, Chunks(tokens=rule.entries - rule.prefix))
    return sides


def compare(results: Mapping[str, list[Tensor]]) -> None:
    """See that all sides have the same value and gradients.

    Raises:
        AssertionError: they have not.
    """
    first, *others = results.values()
    for other in others:
        apart = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(first, other, strict=True))
        assert apart <= SAME, f"the sides are {apart:g} apart"


def _step(side: Callable[[], Tensor], qkv: list[Tensor]) -> Callable[[], list[Tensor]]:
    def call() -> list[Tensor]:
        read = side()
        return [read.detach(), *torch.autograd.grad(read.square().mean(), qkv)]

    return call
