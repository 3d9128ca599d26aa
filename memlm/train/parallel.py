"""One model in several processes: DDP, where each has all of it, or FSDP2, where each keeps its share of every weight.

A process's loss is its share of a sum over the whole batch (`Batch.share`), and gradients come back as means over
processes: of `world` times the losses that is the gradient of the sum.
"""

import warnings
from contextlib import nullcontext
from typing import Any, Literal

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from memlm.errors import UsageError
from memlm.nn.rows import shared_by
from memlm.nn.stack import blocks_of
from memlm.train.ranks import Ranks

Parallel = Literal["ddp", "fsdp"]


class Spread:
    """The loss of a model that is on its device, in training; without a group of processes it is the model's own.

    A group of one, which torchrun makes too, is spread as any other.

    Raises:
        UsageError: the model draws dropout, which would depend on how many processes there are, or cannot be divided.
    """

    def __init__(self, model: nn.Module, parallel: Parallel, ranks: Ranks):
        self.ranks, self.model = ranks, model.train()
        self.module: nn.Module = _Loss(model)
        if not dist.is_initialized():
            return
        if ranks.world > 1 and any(_drops(module) for module in model.modules()):
            raise UsageError("dropout depends on the number of processes: train this model with one.")
        device = next(model.parameters()).device
        if parallel == "fsdp":
            warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # of outputs that nothing here changes in place
            mesh = init_device_mesh(device.type, (ranks.world,))
            refuse_single_numbers(model)
            for block in [*blocks_of(model), model]:
                fully_shard(block, mesh=mesh)
        else:  # a part may be idle in a step: a reader that no example asks
            ids = [device] if device.type == "cuda" else None
            self.module = DistributedDataParallel(self.module, device_ids=ids, find_unused_parameters=True)

    def __call__(self, inputs: dict[str, Any], last: bool) -> Tensor:
        """This process's share of the loss.

        Args:
            inputs: arguments of the model's forward pass, and whether its rows are an `even` share (`Batch`).
            last: whether gradients are wanted after it, or more is accumulated first.
        """
        rows = len(inputs["input_ids"])
        rows *= inputs.pop("even") and inputs["own_rows"] in (0, rows)
        module = self.module
        if isinstance(model := self.model, FSDPModule):
            model.set_requires_gradient_sync(last)
        waits = module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()
        with waits, shared_by(self.ranks.rank, self.ranks.world, rows):
            return module(**inputs)


def refuse_single_numbers(model: nn.Module) -> None:
    """Refuse a model with a parameter that is a number by itself, as the reader `pointer` has: FSDP divides none.

    Raises:
        UsageError: it has one.
    """
    if single := next((name for name, weight in model.named_parameters() if not weight.dim()), None):
        raise UsageError(f"FSDP cannot divide {single}, which is a single number: train it with --parallel ddp.")


class _Loss(nn.Module):
    """The loss alone: DDP waits for the gradients of all that it sees."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Tensor:
        return self.model(**inputs).loss


def gathered(model: nn.Module, ranks: Ranks) -> dict[str, Tensor] | None:
    """The weights that processes share, whole, on the CPU, in the first process; None where each has all of them."""
    if not isinstance(model, FSDPModule):
        return None
    found = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.first:
            found[name] = tensor.cpu()
    return found


def _drops(module: nn.Module) -> bool:
    shares = (getattr(module, "p", 0) if isinstance(module, nn.Dropout) else 0, getattr(module, "attention_dropout", 0))
    return module.training and any(isinstance(share, float) and share > 0 for share in shares)
