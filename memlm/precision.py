"""One policy of precision for training, encoding, generating, measuring and evaluating.

On a GPU matrix products are computed in bf16 (autocast: weights, norms, softmax and losses stay in fp32), and those
that are not in TF32; on a CPU everything is in fp32. fp16 would be unstable for autoencoders (paper). Probes and models
of others are outside of it (`exact`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from memlm.cpu import tune_cpu
from memlm.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]  # auto: bf16 on a GPU, fp32 on a CPU
Device = Literal["auto", "cpu", "cuda"]  # auto: a GPU where there is one


def device_of(wanted: Device) -> torch.device:
    """The device that is asked for.

    Raises:
        UsageError: there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here: leave --device at auto, or install a CUDA build of torch.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def computing(device: torch.device, precision: Precision = "auto") -> torch.autocast:
    """A block in which forward passes on `device` follow the policy; backward passes need none of it."""
    bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def settle(device: torch.device) -> None:
    """Let this whole process follow the policy: for commands that only run models forward on `device`."""
    tune_cpu()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_cache_enabled(False)  # which only the end of a block would clear
        torch.set_autocast_enabled("cuda", True)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """A block in plain fp32 on any device: probes, which are instruments, and models of others, as they were saved."""
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(products)


@contextmanager
def restored() -> Iterator[None]:
    """A block that may `settle`, after which the process is as it was: for what a program of somebody else's calls."""
    products, cached = torch.get_float32_matmul_precision(), torch.is_autocast_cache_enabled()
    enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.set_autocast_cache_enabled(cached)
        torch.set_autocast_enabled("cuda", enabled)
        torch.set_autocast_dtype("cuda", dtype)
