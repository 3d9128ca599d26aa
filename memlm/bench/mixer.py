"""Training throughput (forward and backward) of the masked mixer against the plain form: one nn.Conv1d a head, its
weight overwritten by its lower triangle at every forward pass.
"""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from memlm.bench.form import Options, Report
from memlm.bench.timing import for_seconds, pair_ratio
from memlm.nn.config import StackConfig
from memlm.nn.mixer import Mixer

TOKENS, WIDTH, LAYERS = 64, 256, 2
CASES = {"flat, k=1": (1, 1), "flat, k=4": (1, 4), "4 heads": (4, 1)}  # heads, kernel


class PlainMixing(nn.Module):
    """The peer: per head one nn.Conv1d over positions whose weight is overwritten by its triangle before each use."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.heads, self.width = config.heads, config.width // config.heads
        if config.heads > 1:
            self.project_in = nn.ModuleList(nn.Linear(config.width, self.width) for _ in range(config.heads))
            self.project_out = nn.Linear(config.width, config.width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(tokens, tokens, config.kernel, padding="same") for _ in range(config.heads)
        )

    def forward(self, x_BTD: Tensor, layout: None = None, cache: None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]; knows neither layouts nor caches."""
        for conv in self.convolutions:
            weight = conv.weight
            assert isinstance(weight, Tensor)
            weight.data = weight.data.permute(2, 0, 1).tril().permute(1, 2, 0).contiguous()
        if self.heads == 1:
            return self.convolutions[0](x_BTD)
        parts = [conv(into(x_BTD)) for conv, into in zip(self.convolutions, self.project_in, strict=True)]
        return self.project_out(torch.cat(parts, -1))


def run(options: Options, *, batch: int | None = None) -> Report:
    """Time a training step (forward and backward) of a mixer stack in both forms, in turn."""
    device = options.device
    batch = batch or (64 if device.type == "cpu" else 1024)
    report = Report(
        name="mixer",
        columns=("form", "ours, tokens/s", "plain, tokens/s", "ratio (median of pairs)"),
        setting=f"{LAYERS} layers, width {WIDTH}, {TOKENS} tokens, batch {batch}, fp32",
        device=device.type,
        raw={"seconds": {}},
    )
    for case, (heads, kernel) in CASES.items():
        config = StackConfig(width=WIDTH, layers=LAYERS, heads=heads, kernel=kernel)
        ours, plain = (Mixer(config, TOKENS).to(device) for _ in range(2))
        for block in plain.blocks:
            block.mixing = PlainMixing(config, TOKENS).to(device)
        x_BTD = torch.randn(batch, TOKENS, WIDTH, device=device)
        sides = {"ours": _step(ours, x_BTD), "plain": _step(plain, x_BTD)}
        report.raw["seconds"][case] = times = for_seconds(sides, (options.seconds or 60) / len(CASES) / len(sides))
        ratio = pair_ratio(times["plain"], times["ours"])
        report.ratios[f"throughput, {case}, ours / plain (at least 1)"] = ratio
        report.rows.append((case, *(batch * TOKENS / median(times[side]) for side in sides), ratio))
    return report


def _step(stack: Mixer, x_BTD: Tensor) -> Callable[[], None]:
    def step() -> None:
        stack.zero_grad(set_to_none=True)
        stack(x_BTD).square().mean().backward()

    return step
