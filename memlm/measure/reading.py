"""One text read in three ways: with its own memories, with none, with those of another text.

- `own`: as the model always reads;
- `none`: `read=False`, nothing of earlier chunks;
- `other`: what comes before a chunk is another text, the chunk is its own. It tells what memories say about this very
  text from what any memory would bring about.
"""

from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.measure.figures import PlaceScores
from memlm.models.model import Generative, TextMemory, chunked
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch

Memory = Literal["own", "none", "other"]
MEMORIES: tuple[Memory, ...] = ("own", "none", "other")
LOGITS = 2**24  # numbers of logits at a time: what bounds the memory of a batch


def memories_read(model: Generative, chunk: np.ndarray, memory: Memory) -> np.ndarray:
    """How many memories tokens of a chunk of this number can read; tokens of earlier chunks are no memories."""
    return np.zeros_like(chunk) if memory == "none" else model.memories_before(chunk)


def logits_of(
    model: Generative, ids_BN: Tensor, marks_BC: Tensor | None, memory: Memory, others_BN: Tensor | None = None
) -> Tensor:
    """Logits [B, N, V] of a text.

    Args:
        model: one that reads chunks.
        ids_BN: the text.
        marks_BC: chunks that are to be answered from memory.
        memory: whose memories it reads.
        others_BN: the texts whose memories are read where `memory` is `other`.
    """
    asked: dict[str, Any] = {} if marks_BC is None else {"marks": marks_BC}
    if memory != "other" or not model.reads_earlier:
        return model(ids_BN, read=memory != "none", **asked).logits
    assert others_BN is not None
    if model.reads_given_memories:
        # Its memories are of single chunks, so that those of the other text can be handed over as they are.
        other_BCT = chunked(others_BN, model.chunk_tokens)
        return model(ids_BN, own_memories=model.encode_chunks(other_BCT[:, :-1]), **asked).logits
    return spliced(model, ids_BN, marks_BC, others_BN)


def spliced(model: Generative, ids_BN: Tensor, marks_BC: Tensor | None, others_BN: Tensor) -> Tensor:
    """Logits [B, N, V] of every chunk read after the other text up to there: what `other` means for any model."""
    T, out = model.chunk_tokens, []
    for c, start in enumerate(range(0, ids_BN.shape[1], T)):
        text_Bn = torch.cat([others_BN[:, :start], ids_BN[:, start : start + T]], 1)
        asked = {} if marks_BC is None else {"marks": marks_BC[:, : c + 1]}
        out.append(model(text_Bn, **asked).logits[:, start:])
    return torch.cat(out, 1)


@torch.inference_mode()
def score_places(
    model: Generative, batch: Batch, memory: Memory, shuffled_B: np.ndarray, device: torch.device
) -> PlaceScores:
    """Score every labelled place of a batch, the model being shown the tokens before it.

    Args:
        model: one that reads chunks.
        batch: all examples, on the CPU.
        memory: whose memories it reads.
        shuffled_B: of each example, the one whose memories it gets under `other`.
        device: where the model is.
    """
    rows, N = batch.input_ids.shape
    step = max(1, LOGITS // (N * model.config.vocab_size))
    nats_BN, right_BN = torch.zeros(rows, N), torch.zeros(rows, N, dtype=torch.bool)
    others_BN = batch.input_ids[torch.from_numpy(shuffled_B)]
    for i in range(0, rows, step):
        part = slice(i, i + step)
        marks_BC = None if batch.marks is None else batch.marks[part].to(device)
        logits_BNV = logits_of(model, batch.input_ids[part].to(device), marks_BC, memory, others_BN[part].to(device))
        labels_BN = batch.labels[part].to(device)
        scored_BN = labels_BN != IGNORED
        logits_KV, labels_K = logits_BNV[scored_BN].float(), labels_BN[scored_BN]
        nats_BN[part][scored_BN.cpu()] = F.cross_entropy(logits_KV, labels_K, reduction="none").cpu()
        right_BN[part][scored_BN.cpu()] = (logits_KV.argmax(-1) == labels_K).cpu()
    return PlaceScores(nats_BN.double().numpy(), right_BN.numpy(), (batch.labels != IGNORED).numpy())


def readable(model: TextMemory) -> TypeGuard[Generative]:
    """Whether a model reads text chunk by chunk, so that its access to memory can be measured."""
    return isinstance(model, Generative) and model.reads_chunks
