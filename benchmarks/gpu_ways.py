"""Where a training step's time goes on a GPU, and what other ways of computing it take; a part of gpu.py.

    gpu_ways.py OUT [--seconds 2] [--rehearsal]

Of each preset: the kernels that take most, then whole steps by every way, from the same weights with the same batch, in
turn with a product of matrices. OUT/ways.json grows by every way, so that what ends early leaves what it had.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch._functorch.config as functorch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from memlm.bench import step as bench
from memlm.bench.timing import in_turn
from memlm.nn import short_prefix
from memlm.nn.compiled import compile_parts
from memlm.nn.stack import Stack
from memlm.presets import preset
from memlm.readers.placing import packed

TOP = 12
KINDS = {  # of kernels, by what their names hold
    "attention": ("flash", "fmha", "attention", "flex", "sdpa"),
    "products": ("gemm", "cutlass", "nvjet", "xmma", "cublas", "splitk", "conv"),
    "compiled": ("triton",),
}


@contextmanager
def as_it_is(model: Any) -> Iterator[None]:
    """Nothing else."""
    yield


@contextmanager
def short(model: Any) -> Iterator[None]:
    """A few memories beside the flash kernel."""
    before, short_prefix.SHORT = short_prefix.SHORT, 8
    packed.cache_clear()  # whose layouts remember how they were followed
    try:
        yield
    finally:
        short_prefix.SHORT = before
        packed.cache_clear()


@contextmanager
def cudnn(model: Any) -> Iterator[None]:
    """cuDNN's attention, where torch would take its own flash kernel."""
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield


@contextmanager
def narrow(model: Any) -> Iterator[None]:
    """Residuals of all stacks in bf16."""
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, Stack):
                hook = module.register_forward_pre_hook(lambda _, given: (given[0].bfloat16(), *given[1:]))
                hooks.callback(hook.remove)
        yield


def together(*ways: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several at once."""

    @contextmanager
    def all_of(model: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for way in ways:
                stack.enter_context(way(model))
            yield

    return all_of


WAYS = {
    "paper-memory": {
        "as it is": as_it_is,
        "short prefix": short,
        "short prefix, residuals in bf16": together(short, narrow),
    },
    "paper-transformer": {
        "as it is": as_it_is,
        "cuDNN's attention": cudnn,
        "cuDNN's attention, residuals in bf16": together(cudnn, narrow),
    },
}


def kernels(step: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """The kernels of two steps that take most, and all by kind: milliseconds a step."""
    on_gpu, steps = device.type == "cuda", 2
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        if on_gpu:
            torch.cuda.synchronize()
        wall = 1000 * (time.perf_counter() - started) / steps
    took = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [(getattr(one, took) / 1000 / steps, one.count / steps, one.key) for one in profiled.key_averages()]
    rows.sort(reverse=True)
    kinds: dict[str, float] = defaultdict(float)
    for ms, _, name in rows:
        kinds[next((kind for kind, words in KINDS.items() if any(w in name.lower() for w in words)), "other")] += ms
    top = [{"ms": round(ms, 3), "calls": calls, "kernel": name[:100]} for ms, calls, name in rows[:TOP]]
    return {"wall, ms": wall, "kernels, ms": sum(kinds.values()), "by kind, ms": kinds, "most": top}


def measured(name: str, rows: int, seconds: float, device: torch.device, save: Callable[[str, Any], None]) -> None:
    """All ways of one preset."""
    on_gpu = device.type == "cuda"
    config = preset(name) if on_gpu else replace(bench.small(preset(name)), precision="bf16")
    torch.manual_seed(0)
    case = bench.made(config, rows if on_gpu else 2, device)
    operations, _ = bench.operations(case)
    begun = {key: tensor.clone() for key, tensor in case.model.state_dict().items()}
    side = bench.SIDE if on_gpu else 64
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in "ab")
    for way, made in WAYS[name].items():
        case.model.load_state_dict(begun)
        compile_parts(case.model, "inductor" if on_gpu else "eager")
        step = bench.stepping(config, case)
        with made(case.model):
            started = time.perf_counter()
            losses = [float(step())]
            first = time.perf_counter() - started
            losses += [float(step()) for _ in range(3)]
            started = time.perf_counter()
            float(step())
            rounds = max(3, min(20, int(seconds / (time.perf_counter() - started))))
            times = in_turn({way: step, "product": lambda: torch.mm(a, b)}, rounds=rounds)
            found = {
                "tokens/s": case.tokens / median(times[way]),
                "share of the rate": operations
                * case.tokens
                / median(times[way])
                / (2 * side**3 / median(times["product"])),
                "ms": 1000 * median(times[way]),
                "first, s": first,
                "losses": losses,
            }
            save(f"{name}, {way}", found)
            if made is as_it_is:
                with suppress(RuntimeError):  # a machine may not let its kernels be watched
                    save(f"{name}, {way}", found | {"profile": kernels(step, device)})


def main() -> None:
    """All ways of all presets that have some."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rehearsal", action="store_true")
    call = parser.parse_args()
    device = torch.device("cpu" if call.rehearsal else "cuda")
    functorch.enable_autograd_cache = False  # which knows nothing of attention's kernels
    found: dict[str, Any] = {}

    def save(what: str, one: Any) -> None:
        found[what] = one
        (call.out / "ways.json").write_text(json.dumps(found, indent=1))
        print(f"{what}: {one['tokens/s']:,.0f} tokens/s, {one['share of the rate']:.1%}", flush=True)

    for name, rows in bench.CASES:
        if name in [*WAYS][: 1 if call.rehearsal else None]:
            measured(name, rows, call.seconds, device, save)


if __name__ == "__main__":
    main()
