"""What of a model is compiled: each block of its stacks, and its loss; all else stays as it is.

Blocks of one kind share one compiled graph for each shape, so that 32 layers take no longer than one: 24 s to the first
step of the paper's memory model on an H100, where the model as a whole took 109 s. What depends on the shape alone is
made outside of blocks (`Stack.given`). Evaluation runs uncompiled: its batches have shapes of their own. Encoding is
compiled once much of it has come in one shape (`Encoding`).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from memlm.nn.stack import blocks_of

WORTHWHILE = 2_000  # batches of a run from which on compiling pays its half a minute back
ENCODED = 1e15  # operations of encoding chunks of one shape: 3 to 7 s of an H200, where compiling takes 2 to 6


class Encodes(Protocol):
    """A model that forms memories; all as of `TextMemory`."""

    encoder: Any
    device: Any
    memory_dim: int
    encode: Callable[..., Tensor]
    parameters: Callable[..., Any]
    buffers: Callable[..., Any]
    children: Callable[..., Any]


M = TypeVar("M", bound=Encodes)


class HasLoss(Protocol):
    """A model that scores its logits."""

    token_loss: Callable[..., Tensor]

    def modules(self) -> Any:
        """As of `nn.Module`."""
        ...


def compile_parts(model: HasLoss, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile blocks and loss, each anew for every shape that comes."""
    _compile(blocks_of(model), backend)
    model.token_loss = torch.compile(model.token_loss, backend=backend, dynamic=False)


def uncompiled() -> AbstractContextManager[Any]:
    """A block in which what is compiled runs as it is written."""
    return torch.compiler.set_stance("force_eager")


class Encoding:
    """`model.encode` for batches that follow one another, compiled once as much was encoded as compiling costs.

    So a handful of chunks is never compiled for, and a long stream takes at most twice what it had to. Counted are
    operations of one shape, not seconds: the same batches give the same bits. What is compiled is a twin with the same
    weights, so that whoever else runs the model, in whatever shapes, runs it as it is written.
    """

    def __init__(self, model: Encodes, backend: str | Callable[..., Any] = "inductor"):
        self.model, self.backend = model, backend
        self._twin: Encodes | None = None
        self._done: Counter[torch.Size] = Counter()  # operations, by shape

    def __call__(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] -> memories [B, M]."""
        if not pays(self._done[ids_BT.shape], ids_BT.device):
            weights = sum(p.numel() for block in blocks_of(self.model.encoder) for p in block.parameters())
            self._done[ids_BT.shape] += 2 * weights * ids_BT.numel()
            return self.model.encode(ids_BT)
        self._twin = self._twin or compiled_twin(self.model, self.backend)
        return self._twin.encode(ids_BT)

    @torch.inference_mode()
    def memories(self, ids_KT: np.ndarray, batch: int = 256) -> np.ndarray:
        """Chunks of token ids [K, T], so many at a time, -> memories in float32 [K, M]."""
        parts = [torch.empty(0, self.model.memory_dim)]
        for ids_BT in torch.from_numpy(ids_KT).split(batch) if len(ids_KT) else ():
            parts.append(self(ids_BT.to(self.model.device)).float().cpu())
        return torch.cat(parts).numpy()


def pays(done: float, device: torch.device) -> bool:
    """Whether encoding goes on compiled after so many operations in one shape; a CPU gains nothing by it."""
    return device.type == "cuda" and done >= ENCODED


def compiled_twin(model: M, backend: str | Callable[..., Any] = "inductor") -> M:
    """A copy of a model that shares all but its encoder, and all weights; its encoder's blocks are compiled."""
    others = [part for part in model.children() if part is not model.encoder]
    twin = deepcopy(model, {id(part): part for part in (*others, *model.parameters(), *model.buffers())})
    _compile(blocks_of(twin.encoder), backend)
    return twin


def _compile(blocks: Iterable[nn.Module], backend: str | Callable[..., Any]) -> None:
    torch.compiler.reset()  # what this process has compiled before counts against a limit
    for block in blocks:
        block.compile(backend=backend, dynamic=False)
