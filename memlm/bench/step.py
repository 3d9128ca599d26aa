"""What share of a GPU's matrix rate training (compiled) and encoding (compiled and as it is written) use, at the
paper's sizes.

On a CPU the first of them at a thousandth of its size, which only shows that it works.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from memlm import ui
from memlm.bench.form import Options, Report
from memlm.bench.timing import in_turn
from memlm.loading import build_model
from memlm.models.model import TextMemory
from memlm.nn.compiled import compile_parts, compiled_twin
from memlm.nn.config import StackConfig
from memlm.objectives.batch import Batch
from memlm.objectives.registry import build_objective
from memlm.precision import computing
from memlm.presets import preset
from memlm.train.config import TrainConfig
from memlm.train.optim import build_optimizers

CASES = (("paper-mixer", 128), ("paper-memory", 24), ("paper-transformer", 128))  # presets, and rows that fit 80 GB
VOCABULARY, TINY = 8000, 64  # the paper's; and on a CPU
SIDE = 8192  # of the matrices whose product in bf16 is the rate that shares are of
ASKED = 0.5
STEP, ENCODE, ENCODE_PLAIN, PRODUCT = "step", "encode", "encode, plain", "matrix product"
SECONDS = 4.0  # of timing, a case
AT_ONCE = 4  # steps that are timed together: a run does not wait for the device after each either


@dataclass(frozen=True)
class Case:
    """A model and its batch on the device."""

    model: TextMemory
    batch: Batch
    ids_ET: Tensor  # the chunks that are encoded

    @property
    def tokens(self) -> int:
        """Tokens that a step reads."""
        return self.batch.input_ids.numel()


def run(options: Options, *, cases: tuple[tuple[str, int], ...] = CASES) -> Report:
    """Time whole training steps (forward, backward, clipping, optimiser) and encoding, in turn with a product."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = cases if device.type == "cuda" else cases[:1]
    rows, ratios, raw = [], {}, {}
    for name, batch in cases:
        ui.say(name)
        raw[name] = one = _measure(preset(name), batch if device.type == "cuda" else 2, device, options.seconds)
        for side in (STEP, ENCODE, ENCODE_PLAIN):
            rows.append((name, side, *(one[side][key] for key in ("tokens/s", "TFLOP/s", "share, %")), one["peak, GB"]))
        ratios[f"{name}, share of the bf16 rate (asked, at least {ASKED:g})"] = one[STEP]["share, %"] / 100
        ratios[f"{name}, encoding, share of the bf16 rate"] = one[ENCODE]["share, %"] / 100
        ratios[f"{name}, encoding, compiled / plain"] = one[ENCODE]["tokens/s"] / one[ENCODE_PLAIN]["tokens/s"]
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return Report(
        name="step",
        claim=(
            "A training step (forward, backward, clipping, AdamW) and encoding at the paper's sizes: tokens a second, "
            f"and the share of the rate at which this machine multiplies two {SIDE} x {SIDE} bf16 matrices in the same "
            "turn. Compiled, but what is called plain."
        ),
        columns=("preset", "side", "tokens/s", "TFLOP/s", "share of the rate, %", "peak of the step, GB"),
        rows=rows,
        ratios=ratios,
        setting=f"vocabulary {VOCABULARY}, random tokens, rows {dict(cases)}, autocast in bf16; in turn, "
        f"{AT_ONCE} steps at a time",
        device=device.type,
        notes=[
            "Operations are three times those of a forward pass, counted as its matrix products and convolutions are "
            "executed: a masked half counts, scores outside of a group do not, what is computed anew does not.",
            *(
                f"{name}: {one['first, s']:.1f} s to the first step, {one['first encoding, s']:.1f} to the first "
                f"encoded chunks, of {one['chunks']} at once, which differ from plain ones by {one['apart']:.1g} of "
                "their length"
                for name, one in raw.items()
            ),
        ],
        raw={"measured": raw},
    )


def _measure(config: TrainConfig, batch: int, device: torch.device, seconds: float | None) -> dict[str, Any]:
    config = config if device.type == "cuda" else small(config)
    case = made(config, batch, device)
    training, encoding = operations(case)
    side = SIDE if device.type == "cuda" else 64
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in "ab")
    product = _waiting(lambda: [torch.mm(a, b) for _ in range(8)], device)
    backend = "inductor" if device.type == "cuda" else "eager"
    one = stepping(config, case)
    step, steps = _waiting(one, device), _waiting(lambda: [one() for _ in range(AT_ONCE)], device)
    plain, twin = case.model, compiled_twin(case.model, backend)
    encode, encode_plain = (_waiting(_encoding(model, case.ids_ET), device) for model in (twin, plain))
    first_encoding = _seconds(encode)
    apart = _apart(_encoding(twin, case.ids_ET)(), _encoding(plain, case.ids_ET)())
    times = _timed({ENCODE: encode, ENCODE_PLAIN: encode_plain}, seconds)
    compile_parts(plain, backend)
    first = _seconds(step)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times |= _timed({STEP: steps, PRODUCT: product}, seconds)
    times[STEP] = [time / AT_ONCE for time in times[STEP]]
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    rate = 8 * 2 * side**3 / median(times[PRODUCT])
    done = {STEP: (case.tokens, training)}
    done |= {name: (case.ids_ET.numel(), encoding) for name in (ENCODE, ENCODE_PLAIN)}
    out: dict[str, Any] = {
        name: {
            "tokens/s": tokens / median(times[name]),
            "TFLOP/s": each * tokens / median(times[name]) / 1e12,
            "share, %": 100 * each * tokens / median(times[name]) / rate,
            "operations a token": each,
        }
        for name, (tokens, each) in done.items()
    }
    return out | {
        "peak, GB": peak,
        "kernels": _kernels(step, device),
        "first, s": first,
        "first encoding, s": first_encoding,
        "apart": apart,
        "rate, TFLOP/s": rate / 1e12,
        "seconds": times,
        "rows": batch,
        "chunks": len(case.ids_ET),
    }


def made(config: TrainConfig, rows: int, device: torch.device) -> Case:
    """The model of a config, and a batch of random tokens."""
    V = VOCABULARY if device.type == "cuda" else TINY
    model = build_model(config.model, V, 0).train()
    model.to(device)  # pyright: ignore[reportArgumentType]
    objective = build_objective(config.objective, V)
    ids_BW = torch.randint(2, V, (rows, objective.window(config.model.window_tokens)))
    batch = objective(ids_BW, config.model.chunk_tokens)
    on_device = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, Tensor)}
    ids_ET = torch.randint(2, V, (4 * rows, config.model.chunk_tokens), device=device)
    return Case(model, replace(batch, **on_device), ids_ET)


def stepping(config: TrainConfig, case: Case) -> Callable[[], Tensor]:
    """What the loop does with a batch; gives its loss."""
    model, optimizers = case.model, build_optimizers(case.model, config.optim)

    def step() -> Tensor:
        with computing(model.device, config.precision):
            loss = model(**case.batch.inputs()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return step


def _timed(calls: dict[str, Callable[[], None]], seconds: float | None) -> dict[str, list[float]]:
    """Times in turn, of as many rounds as fit."""
    in_turn(calls, rounds=0, warm_up=2)
    once = sum(t[0] for t in in_turn(calls, rounds=1, warm_up=0).values())
    return in_turn(calls, rounds=max(3, min(20, int((seconds or SECONDS) / once))), warm_up=0)


def _encoding(model: TextMemory, ids_ET: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def call() -> Tensor:
        with computing(model.device):
            return model.encode(ids_ET)

    return call


def _kernels(step: Callable[[], object], device: torch.device, most: int = 12) -> dict[str, Any]:
    """The kernels of a step that take most (on a CPU: operations), and how long all of them take, in milliseconds."""
    on_gpu, steps = device.type == "cuda", 2
    step()
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    took = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [(getattr(one, took) / 1000 / steps, one.count / steps, one.key[:100]) for one in profiled.key_averages()]
    top = sorted(rows, reverse=True)[:most]
    return {"ms": sum(ms for ms, *_ in rows), "most": [{"ms": ms, "calls": n, "kernel": name} for ms, n, name in top]}


def _apart(memory_EM: Tensor, other_EM: Tensor) -> float:
    return float((memory_EM - other_EM).norm() / other_EM.norm())


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _waiting(call: Callable[[], Any], device: torch.device) -> Callable[[], None]:
    def waited() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return waited


def operations(case: Case) -> tuple[float, float]:
    """Operations a token of a training step and of encoding."""
    first = {k: v[:1] if isinstance(v, Tensor) else min(v, 1) for k, v in case.batch.inputs().items() if v is not None}
    tokens, counted = case.batch.input_ids[:1].numel(), []
    for call, count in (
        (lambda: case.model(**first), tokens / 3),
        (lambda: case.model.encode(case.ids_ET[:1]), case.ids_ET[:1].numel()),
    ):
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            call()
        counted.append(counter.get_total_flops() / count)
    return counted[0], counted[1]


def small(config: TrainConfig) -> TrainConfig:
    """The same with hardly any width, layers or tokens."""

    def shrunk(value: Any) -> Any:
        if isinstance(value, StackConfig):
            return replace(value, width=8 * value.heads, layers=1)
        changes = {k: shrunk(v) for k, v in vars(value).items() if hasattr(v, "__dataclass_fields__")}
        for field, size in (("chunk_tokens", 16), ("memory_dim", 64)):
            if field in value.__dataclass_fields__:
                changes[field] = size
        return replace(value, **changes)

    return replace(config, model=shrunk(config.model))
