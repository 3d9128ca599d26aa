"""All kinds of models there are: importing this makes every one of them known. No torch here."""

from memlm.models.kind import ModelShape
from memlm.models.shapes import (
    AutoencoderShape,
    CausalShape,
    FullContextShape,
    MemoryShape,
    OracleShape,
    RecurrentShape,
)
from memlm.pretrained.shapes import CopyingShape, PretrainedShape, SoftAutoencoderShape

__all__ = [
    "AutoencoderShape",
    "CausalShape",
    "CopyingShape",
    "FullContextShape",
    "MemoryShape",
    "ModelShape",
    "OracleShape",
    "PretrainedShape",
    "RecurrentShape",
    "SoftAutoencoderShape",
]
