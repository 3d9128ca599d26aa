"""Training throughput of the masked mixer against the plain form: nn.Conv1d layers, one a head, masked each time."""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from memlm.bench.form import Options, Report
from memlm.bench.timing import in_turn, pair_ratio
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch or (64 if device.type == "cpu" else 1024)
    rows, ratios, raw = [], {}, {}
    for case, (heads, kernel) in CASES.items():
        config = StackConfig(width=WIDTH, layers=LAYERS, heads=heads, kernel=kernel)
        ours = Mixer(config, TOKENS).to(device)
        plain = Mixer(config, TOKENS).to(device)
        for block in plain.blocks:
            block.mixing = PlainMixing(config, TOKENS).to(device)
        x_BTD = torch.randn(batch, TOKENS, WIDTH, device=device)
        sides = {"ours": _step(ours, x_BTD), "plain": _step(plain, x_BTD)}
        once = sum(t[0] for t in in_turn(sides, rounds=1).values())
        times = in_turn(sides, rounds=max(5, int((options.seconds or 60) / len(CASES) / once)))
        rate = {side: batch * TOKENS / median(t) for side, t in times.items()}
        ratios[f"throughput, {case}, ours / plain (at least 1)"] = pair_ratio(times["plain"], times["ours"])
        rows.append((case, rate["ours"], rate["plain"], ratios[f"throughput, {case}, ours / plain (at least 1)"]))
        raw[case] = times
    return Report(
        name="mixer",
        claim=(
            "Training throughput (forward and backward) of the masked mixer against the plain form: one nn.Conv1d a "
            "head, its weight overwritten by its lower triangle at every forward pass."
        ),
        columns=("form", "ours, tokens/s", "plain, tokens/s", "ratio (median of pairs)"),
        rows=rows,
        ratios=ratios,
        setting=f"{LAYERS} layers, width {WIDTH}, {TOKENS} tokens, batch {batch}, fp32",
        device=device.type,
        raw={"seconds": raw},
    )


def _step(stack: Mixer, x_BTD: Tensor) -> Callable[[], None]:
    def step() -> None:
        stack.zero_grad(set_to_none=True)
        stack(x_BTD).square().mean().backward()
        if x_BTD.is_cuda:
            torch.cuda.synchronize()

    return step
