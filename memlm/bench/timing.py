"""Sides timed in turn, A B A B: what drifts in a shared machine drifts for all of them."""

import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SIDE = 2048
PRODUCT_FLOPS = 2 * _SIDE**3  # of one `matrix_product`

Sides = Mapping[str, Callable[[], object]]


def in_turn(sides: Sides, *, rounds: int = 9, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each call of each side, a call of every side in each round; a GPU has done its part when it ends."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for r in range(-warm_up, rounds):
        for name, call in sides.items():
            started = time.perf_counter()
            call()
            torch = sys.modules.get("torch")  # what times processes does without it
            if torch is not None and torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if r >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rounds_for(sides: Sides, seconds: float) -> int:
    """How many rounds take about `seconds` for each of the sides; at least three, found by calling each twice."""
    once = sum(t[0] for t in in_turn(sides, rounds=1).values())
    return max(3, int(seconds * len(sides) / once))


def for_seconds(sides: Sides, seconds: float) -> dict[str, list[float]]:
    """`in_turn` for about `seconds` a side."""
    return in_turn(sides, rounds=rounds_for(sides, seconds), warm_up=0)


def pair_ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times faster we are: the median over rounds of their time by ours in that same round."""
    return median(t / o for t, o in zip(theirs, ours, strict=True))


def matrix_product(device: "torch.device") -> Callable[[], object]:
    """A call that multiplies two 2048 x 2048 fp32 matrices: what the machine can do with its arithmetic at best."""
    import torch

    a, b, out = (torch.randn(_SIDE, _SIDE, device=device) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def matrix_rate(device: "torch.device", rounds: int = 3) -> float:
    """Floating-point operations a second of `matrix_product` now, the median of a few."""
    return PRODUCT_FLOPS / median(in_turn({"product": matrix_product(device)}, rounds=rounds)["product"])
