"""Muon: momentum with all directions made equally long, for hidden matrices (kellerjordan.github.io/posts/muon).

An update G = U S V^T becomes nearly U V^T by five Newton-Schulz steps X <- (a + b XX^T + c (XX^T)^2) X. All these
factors are polynomials in the small Gram matrix of G, so they are multiplied up there: two products with the large
matrix in the place of ten, which on a CPU is the difference between a free and an expensive optimiser (LOG.md).
The length is AdamW's usual one, 0.2 a number (arXiv 2502.16982, section 2.2), so both share a range of rates.

A Gram matrix costs the square of the shorter side for each number of the longer: that of a memory of 1,024 numbers
takes eight times the model on a CPU. So wide matrices can be cut along their shorter side, and every block has a
direction of its own (LOG.md, section 31).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


def orthogonalise(gradient_XRC: Tensor, block: int = 0) -> Tensor:
    """The nearest matrices [..., R, C] with all singular values about 1 (0.7 to 1.2); zero stays zero.

    With a `block` that of every block of so many rows (or columns, of a tall matrix) by itself; 0: of the whole.
    """
    x_XRC = gradient_XRC.float()
    tall = x_XRC.shape[-2] > x_XRC.shape[-1]
    if block and block < min(x_XRC.shape[-2:]):
        side = -1 if tall else -2
        return torch.cat([orthogonalise(one, block) for one in gradient_XRC.split(block, side)], side)
    gram = x_XRC.mT @ x_XRC if tall else x_XRC @ x_XRC.mT
    # The trace is the squared Frobenius norm, a bound on every eigenvalue.
    scale = 1 / gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp(min=1e-30)
    gram = gram * scale
    eye = torch.eye(gram.shape[-1], device=gram.device)
    product = eye
    for step in range(_STEPS):
        factor = _A * eye + _B * gram + _C * (gram @ gram)
        product = factor if step == 0 else product @ factor
        if step < _STEPS - 1:
            gram = factor @ gram @ factor
    product = product * scale.sqrt()
    return (x_XRC @ product if tall else product @ x_XRC).to(gradient_XRC.dtype)


def directions(gradients: list[Tensor], block: int = 0) -> list[Tensor]:
    """`orthogonalise` of each matrix; on a GPU those of one shape at once (32 of 512 x 2,048: 5.3 ms, singly 20).

    Matrices that processes share are gathered, and each keeps its share of the directions.
    """
    if gradients and isinstance(gradients[0], DTensor):
        shares: list[Any] = gradients
        pairs = zip(directions([one.full_tensor() for one in shares], block), shares, strict=True)
        return [distribute_tensor(one, of.device_mesh, of.placements, src_data_rank=None) for one, of in pairs]
    if not gradients or not gradients[0].is_cuda:
        return [orthogonalise(one, block) for one in gradients]
    out = list(gradients)
    for shape in {one.shape for one in gradients}:
        same = [i for i, one in enumerate(gradients) if one.shape == shape]
        found = orthogonalise(torch.stack([gradients[i] for i in same]), block)
        for i, one in zip(same, found.unbind(), strict=True):
            out[i] = one
    return out


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for parameters of two dimensions.

    Args:
        params: matrices.
        lr: the step's root mean square is about 0.2 lr a number.
        momentum: of the running mean of gradients.
        weight_decay: decoupled, as AdamW's.
        block: as of `orthogonalise`.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0, block: int = 0
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "block": block})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            nesterov = []
            for param in params:
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                mean = state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                nesterov.append(param.grad.lerp(mean, group["momentum"]))
            for param, direction in zip(params, directions(nesterov, group["block"]), strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(direction, alpha=-0.2 * group["lr"] * max(param.shape) ** 0.5)
        return loss
