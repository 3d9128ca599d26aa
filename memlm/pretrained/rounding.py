"""Weights rounded to 8 or 4 bits: what a model costs less to keep, and perhaps to remember.

Every linear layer's weight is rounded to the nearest of 2^bits - 1 evenly spaced values around 0: with one scale a row
(8 bits) or one for 32 weights of a row (4 bits), as GGUF's Q8 and Q4 do with blocks. Products are computed in the
model's own precision: it saves memory and no time. Nothing is calibrated, so that better methods lose less.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GROUP = 32


class RoundedLinear(nn.Module):
    """A linear layer with a rounded weight; 4-bit values stand two in a byte."""

    codes: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear, bits: int):
        super().__init__()
        weight_OI = linear.weight.detach()
        self.shape, self.bits, self.bias = weight_OI.shape, bits, linear.bias
        self.groups = weight_OI.shape[1] // _GROUP if bits == 4 and weight_OI.shape[1] % _GROUP == 0 else 1
        weight_OGI = weight_OI.unflatten(1, (self.groups, -1))
        most = 2 ** (bits - 1) - 1
        self.register_buffer("scale", (weight_OGI.abs().amax(-1, keepdim=True) / most).clamp(min=1e-12))
        codes_OI = (weight_OGI / self.scale).round().to(torch.int8).flatten(1)
        if bits == 4 and codes_OI.shape[1] % 2 == 0:
            codes_OI = (codes_OI[:, ::2] & 0xF) | (codes_OI[:, 1::2] << 4)
        self.register_buffer("codes", codes_OI)

    def weight(self) -> Tensor:
        """The weight [out, in] as it is used."""
        codes_OI = self.codes
        if codes_OI.shape[1] < self.shape[1]:  # two in a byte: the arithmetic shift brings the sign along
            codes_OI = torch.stack([(codes_OI << 4) >> 4, codes_OI >> 4], -1).flatten(1)
        return (codes_OI.unflatten(1, (self.groups, -1)) * self.scale).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight(), self.bias)


def round_weights(model: nn.Module, bits: int) -> None:
    """Put a `RoundedLinear` in the place of every linear layer, in place; embeddings and what is tied to them stay."""
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and id(child.weight) not in tied:
                setattr(parent, name, RoundedLinear(child, bits))
