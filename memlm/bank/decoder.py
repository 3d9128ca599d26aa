"""What turns a model's memories back into tokens.

No token is told to a decoder: what comes out was in the memories. A memory model has a decoder of one memory if its
reader copies words; else it recalls as in its blank copy (paper, Objectives), half of a training example at a time, and
well only where it was trained to.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memlm.bank.kept import padded
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.vocabulary import PAD


class Decoder(NamedTuple):
    """What turns a model's memories back into text.

    Args:
        decode: memories [B, M] -> logits [B, T, V].
        together: how many consecutive memories of a text are decoded as one; 1: each by itself.
        by: how, in words.
    """

    decode: Callable[[Tensor], Tensor]
    together: int
    by: str


def own_decoder(model: TextMemory) -> Decoder:
    """A model's own way from memories to text.

    Raises:
        UsageError: the model has none.
    """
    if (decode := model.recall) is not None:
        return Decoder(decode, 1, "decoder")
    if model.reads_own_memories and _half(model):
        return Decoder(lambda memory_BM: _blank_copy(model, memory_BM), _half(model), "blank copy")
    raise UsageError(
        "this model has no decoder that turns its memories back into text: name with --model an autoencoder with the "
        "same encoder."
    )


@torch.inference_mode()
def decoded(model: TextMemory, vectors_KM: np.ndarray, batch: int = 256) -> Iterator[Tensor]:
    """Logits of memories, so many at a time [B, T, V]; those that are nested may be cut to any of their sizes."""
    decode, together, _ = own_decoder(model)
    whole_KM = torch.from_numpy(np.ascontiguousarray(padded(vectors_KM, model.memory_dim)))
    for vectors_BM in whole_KM.split(-(-batch // together) * together) if len(whole_KM) else ():
        yield decode(vectors_BM.to(model.device)).float()


@torch.inference_mode()
def likeliest(model: TextMemory, vectors_KM: np.ndarray, most: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """So many of the likeliest tokens at each place of memories, and the logs of their probabilities, [K, T, C]."""
    empty = torch.empty(0, model.chunk_tokens, C := min(most, model.config.vocab_size))
    ids, logs = [empty.long()], [empty.double()]
    for logits_BTV in decoded(model, vectors_KM):
        best = logits_BTV.log_softmax(-1).topk(C, -1)  # exact near 0, where a difference of logits is not
        ids.append(best.indices.cpu())
        logs.append(best.values.double().cpu())
    return torch.cat(ids).numpy(), torch.cat(logs).numpy()


def _half(model: TextMemory) -> int:
    """H, the chunks that a copy repeats: half of a training example."""
    return model.config.read_shape().chunks // 2


def _blank_copy(model: TextMemory, memory_BM: Tensor) -> Tensor:
    """Memories of consecutive chunks [B, M] -> logits [B, T, V], H chunks to an example.

    What is missing to a whole example is filled with memories of empty chunks.
    """
    H, T, B = _half(model), model.chunk_tokens, len(memory_BM)
    empty_1M = model.encode(torch.full((1, T), PAD, device=memory_BM.device))
    groups_GHM = torch.cat([memory_BM, empty_1M.expand(-B % H, -1)]).unflatten(0, (-1, H))
    blanks_GN = torch.full((len(groups_GHM), H * T), PAD, device=memory_BM.device)
    marks_GH = torch.ones(len(groups_GHM), H, dtype=torch.bool, device=memory_BM.device)
    logits_GNV = model(input_ids=blanks_GN, marks=marks_GH, memories=groups_GHM).logits
    return logits_GNV.unflatten(1, (H, T)).flatten(0, 1)[:B]
