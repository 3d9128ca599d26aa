"""What of a model is compiled: each block of its stacks, and its loss; all else stays as it is.

Blocks of one kind share one compiled graph for each shape, so that 32 layers take no longer than one: 24 s to the first
step of the paper's memory model on an H100, where the model as a whole took 109 s. What depends on the shape alone is
made outside of blocks (`Stack.given`). Evaluation runs uncompiled: its batches have shapes of their own.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from memlm.nn.stack import blocks_of

WORTHWHILE = 2_000  # batches of a run from which on compiling pays its half a minute back


class HasLoss(Protocol):
    """A model that scores its logits."""

    token_loss: Callable[..., Tensor]

    def modules(self) -> Any:
        """As of `nn.Module`."""
        ...


def compile_parts(model: HasLoss, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile blocks and loss, each anew for every shape that comes."""
    torch.compiler.reset()  # what earlier runs of this process have compiled counts against a limit
    for block in blocks_of(model):
        block.compile(backend=backend, dynamic=False)
    model.token_loss = torch.compile(model.token_loss, backend=backend, dynamic=False)


def uncompiled() -> AbstractContextManager[Any]:
    """A block in which what is compiled runs as it is written."""
    return torch.compiler.set_stance("force_eager")
