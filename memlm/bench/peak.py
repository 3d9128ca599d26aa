"""What a training step takes: seconds, and memory beyond what is there before it.

On a CPU each measurement has a process of its own, so that nothing that ran before has left room in the heap.
"""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import psutil
import torch

from memlm.cpu import tune_cpu
from memlm.errors import WorkError
from memlm.loading import build_model
from memlm.models.model import TextMemory
from memlm.models.shapes import FullContextShape, MemoryShape, RecurrentShape

_AGAIN = 2.0  # seconds; a first step that took less is followed by three others, whose least time counts


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a step took."""

    seconds: float
    peak_bytes: int  # activations and gradients at their most


@dataclass(frozen=True, kw_only=True)
class Step:
    """Forward and backward over random tokens, one row."""

    shape: MemoryShape | FullContextShape | RecurrentShape  # of a model with random weights
    vocab_size: int
    tokens: int  # N, whole chunks
    kept: bool = False  # memories are given, and the encoder that formed them is frozen


def step_cost(step: Step, device: torch.device) -> StepCost:
    """Take the step a few times.

    Raises:
        WorkError: it does not fit into this machine's memory.
    """
    try:
        if device.type == "cuda":
            return _measured(step, device)
        # A server that has imported and done nothing else, and forks itself for every call. A process started by
        # ourselves would be told our own peak as its first (Linux keeps ru_maxrss over exec).
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_measured, step, device, torch.get_num_threads()).result()
    except (BrokenProcessPool, torch.OutOfMemoryError, MemoryError):
        raise WorkError(f"a step over {step.tokens:,} tokens does not fit into memory.") from None


def room(device: torch.device) -> int:
    """Bytes of memory that are free on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _measured(step: Step, device: torch.device, threads: int | None = None) -> StepCost:
    """The step's cost in this process, after another one, for which libraries allocate what they need once."""
    if threads:
        tune_cpu()  # as in training
        torch.set_num_threads(threads)
    on_gpu = device.type == "cuda"
    _take(*_made(step if on_gpu else _narrow(step), device))  # a CPU's peak cannot be reset
    made = _made(step, device)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    before = _peak(device)
    seconds = _take(*made)
    peak = _peak(device) - before
    if seconds <= _AGAIN:
        seconds = min(_take(*made) for _ in range(3))
    return StepCost(seconds=seconds, peak_bytes=peak)


def _made(step: Step, device: torch.device) -> tuple[TextMemory, dict[str, torch.Tensor]]:
    """The model, and what it is given."""
    model = build_model(step.shape, step.vocab_size, 0).train()
    model.to(device)  # pyright: ignore[reportArgumentType]
    ids_BN = torch.randint(2, step.vocab_size, (1, step.tokens), device=device)
    given = {"input_ids": ids_BN, "labels": ids_BN}
    if step.kept:
        model.encoder.requires_grad_(False)
        known = step.tokens // model.chunk_tokens - 1
        given["own_memories"] = torch.randn(1, known, model.memory_dim, device=device)
    return model, given


def _take(model: TextMemory, given: dict[str, torch.Tensor]) -> float:
    """Seconds of one step."""
    started = time.perf_counter()
    model.zero_grad(set_to_none=True)
    model(**given).loss.backward()
    if given["input_ids"].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _narrow(step: Step) -> Step:
    """The same step over two chunks, hardly any width."""
    shape: Any = replace(step.shape, decoder=replace(step.shape.decoder, width=2 * step.shape.decoder.heads))
    if step.shape.encoder_shape is not None:
        stack = replace(shape.encoder.stack, width=2 * shape.encoder.stack.heads)
        shape = replace(shape, encoder=replace(shape.encoder, stack=stack, memory_dim=stack.width))
    return replace(step, shape=shape, tokens=2 * shape.chunk_tokens)


def _peak(device: torch.device) -> int:
    """The most bytes that this process has had in memory so far; a GPU counts what tensors hold, since it was reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
