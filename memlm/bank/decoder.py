"""What turns a model's memories back into tokens.

No token is told to a decoder: what comes out was in the memories. A memory model has a decoder of one memory if it
reads soft tokens; else it recalls as in its blank copy (paper, Objectives), half of a training example at a time, and
well only where it was trained to.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memlm.bank.kept import padded
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.vocabulary import PAD

MARGIN = 1e-2  # of logits


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
    if model.reads_given_memories and _half(model):
        return Decoder(lambda memory_BM: _blank_copy(model, memory_BM), _half(model), "blank copy")
    raise UsageError(
        "this model has no decoder that turns its memories back into text: name with --model an autoencoder with the "
        "same encoder."
    )


@torch.inference_mode()
def recalled(model: TextMemory, vectors_KM: np.ndarray, batch: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that memories hold, int64 [K, T], by a decoder of single ones, and of which it is sure, bool [K, T].

    It is sure where no other token is within `MARGIN`, so that another machine's rounding does not change it.
    """
    decode, ids, sure = own_decoder(model).decode, [], []
    for start in range(0, len(vectors_KM), batch):
        best = decoded(decode, model, vectors_KM[start : start + batch]).topk(2, -1)
        ids.append(best.indices[..., 0].cpu().numpy())
        sure.append((best.values[..., 0] - best.values[..., 1] > MARGIN).cpu().numpy())
    empty_0T = np.empty((0, model.chunk_tokens), np.int64)
    return np.concatenate(ids or [empty_0T]), np.concatenate(sure or [empty_0T.astype(bool)])


def decoded(decode: Callable[[Tensor], Tensor], model: TextMemory, vectors_KM: np.ndarray) -> Tensor:
    """Logits [K, T, V]; of a model with nested memories these may be cut to any of their sizes."""
    return decode(torch.from_numpy(np.ascontiguousarray(padded(vectors_KM, model.memory_dim))).to(model.device))


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
