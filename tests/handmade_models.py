"""Models whose access to memory is known because it was written down, not learnt."""

from typing import Literal

import torch

from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.memory_model import MemoryModel
from memlm.models.model import MemoryOutput, TextMemory, chunked
from memlm.models.recurrent import RecurrentMemory
from memlm.models.shapes import FullContextShape, MemoryShape, RecurrentShape
from memlm.nn.config import StackConfig
from memlm.objectives.symbols import symbols
from memlm.readers.config import NoReader, PointerReader, VectorReader

T, C = 4, 4
TINY = StackConfig(kind="mixer", width=8, layers=1)
TRANSFORMER = StackConfig(kind="transformer", width=8, layers=1, heads=2)
ENCODER = EncoderShape(chunk_tokens=T, memory_dim=T, stack=TINY)
WRONG = 2  # what a hand-made model says where it does not know
Kind = Literal[
    "copies", "copies if on the way", "repeats the last chunk", "looks up", "guesses", "guesses a told value"
]


READERS = {
    "vector": VectorReader(),
    "several": VectorReader(vectors=T),
    "pointer": PointerReader(unroll=StackConfig(kind="pointwise", width=6, layers=1), word_dim=8, key_dim=8, top=4),
    "none": NoReader(),
}


def shape(reader: str = "vector", chunks: int = C, encoder: EncoderShape = ENCODER) -> MemoryShape | FullContextShape:
    if reader == "full":
        return FullContextShape(chunks=chunks, chunk_tokens=encoder.chunk_tokens, decoder=TRANSFORMER)
    return MemoryShape(chunks=chunks, reader=READERS[reader], encoder=encoder, decoder=TRANSFORMER)


class Verbatim(MemoryModel):
    """A memory model whose memory of a chunk is its token ids, and which does with them what it is told."""

    kind: Kind = "copies"
    half = C // 2

    def encode_chunks(self, ids_BCT):
        return ids_BCT.float()

    def forward(
        self, input_ids, *, marks=None, own_rows=0, remembered=0, memories=None, own_memories=None, read=True
    ) -> MemoryOutput:
        ids_BCT = chunked(input_ids, T)
        own_BCT = self.encode_chunks(ids_BCT[:, :-1]) if own_memories is None else own_memories
        held_BKT = (own_BCT if memories is None else torch.cat([memories, own_BCT], 1)).long()
        if self.placing.hidden is not None:
            held_BKT[:, self.placing.hidden] = WRONG
        before = held_BKT.shape[1] - own_BCT.shape[1]
        said_BCT = torch.full_like(ids_BCT, WRONG)
        for c in range(ids_BCT.shape[1]):
            if read and marks is not None and bool(marks[:, c].all()):
                said_BCT[:, c] = self.answer(ids_BCT[:, c], held_BKT[:, : before + c])
        said_BN = said_BCT.flatten(1)[:, remembered * T : input_ids.shape[1]]
        return MemoryOutput(logits=20.0 * torch.nn.functional.one_hot(said_BN, self.config.vocab_size))

    def answer(self, chunk_BT, held_BKT):
        if self.kind == "guesses":
            symbols_S = symbols(self.config.vocab_size, "unseen")
            return symbols_S[torch.randint(len(symbols_S), chunk_BT.shape)]
        if self.kind == "guesses a told value":
            values = held_BKT.flatten(1)[:, 1::2]
            return values.gather(1, torch.randint(values.shape[1], chunk_BT.shape))
        if self.kind == "repeats the last chunk":
            return held_BKT[:, -1]
        if self.kind == "looks up":
            keys, values = held_BKT.flatten(1)[:, ::2], held_BKT.flatten(1)[:, 1::2]
            said = torch.full_like(chunk_BT, WRONG)
            found = chunk_BT[:, :-1:2, None] == keys[:, None]
            said[:, 1::2] = torch.where(found.any(-1), values.gather(1, found.int().argmax(-1)), WRONG)
            return said
        source = held_BKT[:, -self.half]  # the chunk as far back as the copy is long
        if self.kind == "copies":
            return source
        known = torch.nn.functional.pad(chunk_BT[:, :-1] == source[:, :-1], (1, 0))
        return torch.where(known, source, WRONG)


def verbatim(kind: Kind, vocab_size: int) -> Verbatim:
    model = Verbatim(MemoryModel.config_class.of(shape(), vocab_size)).eval()
    model.kind = kind
    return model


class Carrier(RecurrentMemory):
    """Carries, so to say, all it has read, and copies from it: any model is asked in the same way."""

    def forward(self, input_ids, *, marks=None, own_rows=0, remembered=0, read=True) -> MemoryOutput:
        ids_BCT, said_BCT = chunked(input_ids, T), chunked(torch.full_like(input_ids, WRONG), T)
        for c in range(C // 2, ids_BCT.shape[1]):
            if read and marks is not None and bool(marks[:, c].all()):
                said_BCT[:, c] = ids_BCT[:, c - C // 2]
        said_BN = said_BCT.flatten(1)[:, remembered * T : input_ids.shape[1]]
        return MemoryOutput(logits=20.0 * torch.nn.functional.one_hot(said_BN, self.config.vocab_size))


def recurrent_shape() -> RecurrentShape:
    encoder = EncoderShape(chunk_tokens=T, memory_dim=T, stack=TINY, begins=True)
    return RecurrentShape(chunks=C, encoder=encoder, decoder=TRANSFORMER)


def carrier(vocab_size: int) -> Carrier:
    return Carrier(RecurrentMemory.config_class.of(recurrent_shape(), vocab_size)).eval()


def ordinary(any_shape, vocab_size: int) -> TextMemory:
    """A model with random weights of ordinary size, so that every connection has an effect."""
    model, generator = build_model(any_shape, vocab_size, 0).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


def text(rows, tokens, vocab_size=300, seed=0):
    return torch.randint(2, vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(seed))
