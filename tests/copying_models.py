"""A tiny language model of others over remembered text, whose head copies as if it had been trained."""

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from tiny_models import own_tokenizer, save_tiny

from memlm.loading import build_model
from memlm.pretrained import copying
from memlm.pretrained.shapes import CopyingShape
from memlm.pretrained.transplant import SHIFT, transplant
from memlm.readers.config import PointerReader

T, V = 4, own_tokenizer().get_vocab_size() + SHIFT
WORDS = transplant(own_tokenizer(), "tiny")


@lru_cache
def folder() -> Path:
    return save_tiny("llama", Path(mkdtemp()) / "llama")


def tiny(
    copies: bool = True, opened: int = 0, segment: int = 8, lora: int = 0, lora_layers: int = 12
) -> copying.Copying:
    """A model whose head copies what it finds, as if it had been trained."""
    reader = PointerReader(window=0, word_dim=16, key_dim=16, top=4)
    shape = CopyingShape(
        base=str(folder()),
        passage=T,
        opened=opened,
        segment=segment,
        reader=reader,
        lora_rank=lora,
        lora_layers=lora_layers,
    )
    model = build_model(shape, V, 0).eval().requires_grad_(False)
    if copies:
        model.config.trained_chunks = 8
        model.reader.gate.bias.copy_(torch.tensor([-4.0, 4.0, 0.0]))
    return model
