"""One text read with its own memories, with none, with those of another text; what is right of it, place by place.

- `own`: as the model always reads;
- `none`: `read=False`, nothing of earlier chunks;
- `other`: what comes before a chunk is another text, the chunk is its own. It tells what memories say about this very
  text from what any memory would bring about.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.models.model import Generative, TextMemory, chunked
from memlm.nn.loss import IGNORED
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import Batch

Array = np.ndarray
Memory = Literal["own", "none", "other"]
MEMORIES: tuple[Memory, ...] = ("own", "none", "other")
LOGITS = 2**24  # numbers of logits at a time: what bounds the memory of a batch
LOWER_IS_BETTER = ("cross_entropy", "bits_per_byte")


@dataclass(frozen=True)
class PlaceScores:
    """Scores of B examples of N places; what is not scored has neither nats nor a right answer."""

    nats_BN: Array  # cross-entropy
    right_BN: Array  # bool: the most likely token is the right one
    scored_BN: Array  # bool

    def at(self, where_BN: Array) -> "PlaceScores":
        """The same scores of some places alone."""
        return PlaceScores(self.nats_BN * where_BN, self.right_BN & where_BN, self.scored_BN & where_BN)

    def sums(self, metric: str, bytes_BN: Array, chunk_tokens: int) -> Array:
        """What a figure is made of [B, 2]: the sum of the first over the sum of the second, which can be resampled.

        `cross_entropy` (nats a token), `bits_per_byte`, `token_accuracy`, `exact_match` (the share of examples in which
        everything scored is right) or `chunk_match` (the same of chunks). `bytes_BN`: of text, at every scored place.
        """
        nats_BN, right_BN, scored_BN = self.nats_BN, self.right_BN, self.scored_BN
        if metric in ("exact_match", "chunk_match"):
            starts = np.arange(0, scored_BN.shape[1], scored_BN.shape[1] if metric == "exact_match" else chunk_tokens)
            asked_BC, right_BC = (np.add.reduceat(x.astype(int), starts, 1) for x in (scored_BN, right_BN & scored_BN))
            pair = ((right_BC == asked_BC) & (asked_BC > 0)).sum(1), (asked_BC > 0).sum(1)
        elif metric == "bits_per_byte":
            pair = nats_BN.sum(1) / math.log(2), (bytes_BN * scored_BN).sum(1)
        else:
            pair = {"cross_entropy": nats_BN, "token_accuracy": right_BN}[metric].sum(1), scored_BN.sum(1)
        return np.stack(pair, 1).astype(float)


def readable(model: TextMemory) -> TypeGuard[Generative]:
    """Whether a model reads text chunk by chunk, so that its access to memory can be measured."""
    return isinstance(model, Generative) and model.reads_chunks


def memories_read(model: Generative, chunk: Array, memory: Memory) -> Array:
    """How many memories tokens of a chunk of this number can read; tokens of earlier chunks are no memories."""
    return np.zeros_like(chunk) if memory == "none" else model.memories_before(chunk)


def logits_of(
    model: Generative, ids_BN: Tensor, marks_BC: Tensor | None, memory: Memory, others_BN: Tensor | None = None
) -> Tensor:
    """Logits [B, N, V] of a text; `others_BN` are the texts whose memories are read where `memory` is `other`."""
    if memory != "other" or not model.reads_earlier:
        return model(ids_BN, marks=marks_BC, read=memory != "none").logits
    assert others_BN is not None
    if model.reads_given_memories:
        # Its memories are of single chunks, so that those of the other text can be handed over as they are.
        other_BCT = chunked(others_BN, model.chunk_tokens)
        return model(ids_BN, marks=marks_BC, own_memories=model.encode_chunks(other_BCT[:, :-1])).logits
    return spliced(model, ids_BN, marks_BC, others_BN)


def spliced(model: Generative, ids_BN: Tensor, marks_BC: Tensor | None, others_BN: Tensor) -> Tensor:
    """Logits [B, N, V] of every chunk read after the other text up to there: what `other` means for any model."""
    T, out = model.chunk_tokens, []
    for c, start in enumerate(range(0, ids_BN.shape[1], T)):
        text_Bn = torch.cat([others_BN[:, :start], ids_BN[:, start : start + T]], 1)
        out.append(model(text_Bn, marks=None if marks_BC is None else marks_BC[:, : c + 1]).logits[:, start:])
    return torch.cat(out, 1)


@torch.inference_mode()
def score_places(
    model: Generative, batch: Batch, memory: Memory, shuffled_B: Array, device: torch.device
) -> PlaceScores:
    """Score every labelled place of a batch on the CPU, the model being shown the tokens before it.

    `shuffled_B`: of each example, the one whose memories it gets under `other`.
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


@torch.inference_mode()
def write_marked(model: Generative, ids_BN: Tensor, marks_BC: Tensor, memory: Memory = "own") -> Tensor:
    """A text whose last chunks are marked -> the same text with those written by the model, greedily [B, N].

    The model reads its own predictions and forms memories of the chunks that it wrote; what stands in the marked
    chunks, the same ones in every row, is not looked at. `memory` is `own` or `none`. Only a copy that shows tokens has
    to be run so: a blank copy reads blanks whatever was predicted before.
    """
    T, first = model.chunk_tokens, int((~marks_BC[0]).sum())
    out_BN = ids_BN.clone()
    out_BN[:, first * T :] = PAD
    # A memory model needs a chunk's tokens and the memories before it; any other one reads all again for every token.
    by_chunk = model.reads_given_memories and memory == "own"
    for c in range(first, marks_BC.shape[1]):
        known_BcM = model.encode_chunks(out_BN[:, : c * T].unflatten(1, (-1, T))) if by_chunk else None
        for n in range(c * T, min((c + 1) * T, out_BN.shape[1])):
            if known_BcM is None:
                logits_BnV = logits_of(model, out_BN[:, : n + 1], marks_BC[:, : c + 1], memory)
            else:
                asked = {"marks": marks_BC[:, c : c + 1], "memories": known_BcM, "own_memories": known_BcM[:, :0]}
                logits_BnV = model(out_BN[:, c * T : n + 1], **asked).logits
            out_BN[:, n] = logits_BnV[:, -1].argmax(-1)
    return out_BN
