"""Models for banks, made without training: an autoencoder that is perfect by construction, and one that reads it."""

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer

from memlm.bank.bank import Bank
from memlm.bank.recall import recall_text
from memlm.loading import build_model
from memlm.models.autoencoder import Autoencoder
from memlm.models.memory_model import MemoryModel
from memlm.models.shapes import AutoencoderShape, MemoryShape
from memlm.nn.config import StackConfig
from memlm.readers.config import NoReader, PointerReader, VectorReader
from memlm.tokens.tokenizer import train_tokenizer

T, WIDTH, V = 8, 32, 300
IDENTITY = StackConfig(kind="pointwise", width=WIDTH, layers=0)
PERFECT = AutoencoderShape(
    chunk_tokens=T,
    memory_dim=T * WIDTH,
    memory_norm=False,
    encoder=IDENTITY,
    decoder=IDENTITY,
    readout="slots",
    bridge="slots",
)

READERS = {
    "vector": VectorReader(),
    "pointer": PointerReader(unroll=IDENTITY),
    "none": NoReader(),
}

TEXTS = {
    "sea": "the sea was calm and a cold wind came from the north " * 40,
    "brief": "a",
    "bären": "Naïve Bären in 東京 \U0001f30a say <|end|> and <|pad|>.\r\n\x00\ttail",
    "empty": "",
    "whole": "the sea was calm and a cold wind",
}


@cache
def tokenizer(vocab_size: int = V) -> Tokenizer:
    text = "the sea was calm and a cold wind came from the north, wasn't it?\n\nNaïve Bären, 東京 1984. " * 20
    return train_tokenizer([text], vocab_size)


def autoencoder(seed: int = 0) -> Autoencoder:
    """A memory is the chunk's token vectors side by side; the head finds each one's nearest: nothing is lost."""
    model = build_model(PERFECT, V, seed).eval().requires_grad_(False)
    assert isinstance(model, Autoencoder)
    with torch.no_grad():
        vectors_VD = torch.nn.functional.normalize(model.encoder.embed.weight, dim=1)
        model.encoder.embed.weight.copy_(vectors_VD)
        model.decoder.head.weight.copy_(vectors_VD)
        for linear in (model.encoder.readout.project, model.decoder.bridge.project):
            linear.weight.copy_(torch.eye(T * WIDTH))
            linear.bias.zero_()
    return model


def memory_model(encoder: Autoencoder, reader: str = "vector", chunks: int = 4) -> MemoryModel:
    """An untrained memory model with the encoder of an autoencoder."""
    decoder = StackConfig(kind="transformer", width=16, layers=1, heads=2)
    shape = MemoryShape(
        encoder=PERFECT.encoder_shape, decoder=decoder, reader=READERS[reader], chunks=chunks, positions="variable"
    )
    model = build_model(shape, V, 0).eval().requires_grad_(False)
    assert isinstance(model, MemoryModel)
    if reader != "none":
        model.encoder.load_state_dict(encoder.encoder.state_dict())
    if reader == "pointer":
        model.get_submodule("reader.text").load_state_dict(encoder.decoder.state_dict())
        with torch.no_grad():
            model.get_submodule("reader.gate").bias[0] = -12.0  # it copies, whatever the model says
    return model


def recalled(bank: Bank, model) -> dict[str, str]:
    return {entry.name: "".join(recall_text(bank, model, tokenizer(), entry.name)) for entry in bank.documents}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(bank: Bank) -> list:
    """All that a bank says: its documents, and the memory and the tokens of every row."""
    return [list(bank.documents), bank.memories().tolist(), bank.held().tolist()]
