"""Small memory models: of encoders, decoders with positions, and readers every two together, in few shapes."""

import torch
from pairwise import pairwise

from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.memory_model import MemoryModel
from memlm.models.shapes import MemoryShape
from memlm.nn.config import StackConfig
from memlm.readers.reader import READERS

T, M, V = 4, 12, 40
MIXER = StackConfig(kind="mixer", width=8, layers=2, kernel=3)
HEADS = StackConfig(kind="mixer", width=8, layers=2, heads=2)
TRANSFORMER = StackConfig(kind="transformer", width=8, layers=2, heads=2)
ENCODERS = [
    EncoderShape(chunk_tokens=T, memory_dim=M, stack=MIXER),
    EncoderShape(chunk_tokens=T, memory_dim=M, stack=TRANSFORMER, begins=True),
    EncoderShape(chunk_tokens=T, memory_dim=M, stack=StackConfig(kind="pointwise", width=8, layers=0), readout="slots"),
]


DECODERS = [(MIXER, "fixed"), (HEADS, "fixed"), *((TRANSFORMER, p) for p in ("original", "variable", "fixed"))]
# Of readers that read no memory, and so have no encoder, a shape or two tell all that they can do wrong.
BASELINES = [("none", *DECODERS[0]), ("none", TRANSFORMER, "original"), ("full", TRANSFORMER, "original")]


def shape_of(encoder, decoder, positions, reader) -> MemoryShape:
    return MemoryShape(
        chunks=6,
        encoder=encoder,
        decoder=decoder,
        positions=positions,
        reader=reader,
        vectors=2 if reader == "vector" and positions == "variable" else 1,
        bridge_width=6,
        key_width=6,
        select=0 if positions == "variable" else 2,
    )


READING = [
    shape_of(encoder, *decoder, reader)
    for encoder, decoder, reader in pairwise(ENCODERS, DECODERS, [name for name, kind in READERS.items() if kind.reads])
]
SHAPES = READING + [shape_of(ENCODERS[0], decoder, positions, reader) for reader, decoder, positions in BASELINES]


def ident(shape: MemoryShape) -> str:
    decoder = f"{shape.decoder.kind}{shape.decoder.heads}"
    return f"{shape.encoder.stack.kind}-{decoder}-{shape.reader}-{shape.positions}"


def build(shape: MemoryShape, seed: int = 0) -> MemoryModel:
    """A model whose weights are all of ordinary size: zero-initialised ones would hide what is connected."""
    model = build_model(shape, V, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


def ids(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, V, (rows, tokens), generator=torch.Generator().manual_seed(seed))
