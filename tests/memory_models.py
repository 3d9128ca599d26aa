"""Small memory models: of encoders, decoders with positions, and readers every two together, in few shapes."""

import torch
from pairwise import pairwise
from tiny_readers import EverythingReader

from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.chunk_model import ChunkModel
from memlm.models.shapes import FullContextShape, MemoryShape
from memlm.nn.config import StackConfig
from memlm.readers.config import NoReader, PointerReader, VectorReader

T, M, V = 4, 12, 40
MIXER = StackConfig(kind="mixer", width=8, layers=2, kernel=3)
HEADS = StackConfig(kind="mixer", width=8, layers=2, heads=2)
TRANSFORMER = StackConfig(kind="transformer", width=8, layers=2, heads=2)
POINTWISE = StackConfig(kind="pointwise", width=6, layers=1)
ENCODERS = [
    EncoderShape(chunk_tokens=T, memory_dim=M, stack=MIXER),
    EncoderShape(chunk_tokens=T, memory_dim=M, stack=TRANSFORMER, begins=True),
    EncoderShape(chunk_tokens=T, memory_dim=M, stack=StackConfig(kind="pointwise", width=8, layers=0), readout="slots"),
]
DECODERS = [(MIXER, "fixed"), (HEADS, "fixed"), *((TRANSFORMER, p) for p in ("original", "variable", "fixed"))]
READERS = [
    VectorReader(),
    VectorReader(vectors=T),
    PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=4, gate=8, window=0),
    PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=4, gate=8, window=2, surprise=4),
    EverythingReader(),
]


def shape_of(encoder, decoder, positions, reader) -> MemoryShape:
    return MemoryShape(chunks=6, encoder=encoder, decoder=decoder, positions=positions, reader=reader)


READING = [shape_of(encoder, *decoder, reader) for encoder, decoder, reader in pairwise(ENCODERS, DECODERS, READERS)]
# Of baselines that read no memory, and so have no encoder, a shape or two tell all that they can do wrong.
BASELINES = [
    shape_of(ENCODERS[0], *DECODERS[0], NoReader()),
    shape_of(ENCODERS[0], TRANSFORMER, "original", NoReader()),
    FullContextShape(chunks=6, chunk_tokens=T, decoder=TRANSFORMER),
]
SHAPES = READING + BASELINES


def ident(shape: MemoryShape | FullContextShape) -> str:
    if isinstance(shape, FullContextShape):
        return "full"
    decoder, reader = f"{shape.decoder.kind}{shape.decoder.heads}", shape.reader
    return f"{shape.encoder.stack.kind}-{decoder}-{reader.kind}{getattr(reader, 'vectors', '')}-{shape.positions}"


def build(shape: MemoryShape | FullContextShape, seed: int = 0) -> ChunkModel:
    """A model whose weights are all of ordinary size: zero-initialised ones would hide what is connected."""
    model = build_model(shape, V, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith("reader.text"):
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
            elif p.ndim > 1:  # what is recalled depends on the memory, and not on biases
                p.copy_(torch.randn(p.shape, generator=generator))
    return model


def ids(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, V, (rows, tokens), generator=torch.Generator().manual_seed(seed))
