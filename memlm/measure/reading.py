"""One text read with its own memories, with none, with those of another text; what is right of it, place by place.

- `own`: as the model always reads;
- `none`: `read=False`, nothing of earlier chunks;
- `other`: what comes before a chunk is another text, the chunk is its own. It tells what memories say about this very
  text from what any memory would bring about;
- `ids`: as `own`, and what memories would recall is given: the tokens themselves, of a reader of words alone.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.decoding.cached import numbered
from memlm.models.model import Generative, MemoryOutput, TextMemory, chunked
from memlm.nn.loss import IGNORED
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import Batch

Array = np.ndarray
Memory = Literal["own", "none", "other", "ids"]
MEMORIES: tuple[Memory, ...] = ("own", "none", "other")
LOGITS = 2**24  # numbers of logits at a time: what bounds the memory of a batch
LOWER_IS_BETTER = ("cross_entropy", "bits_per_byte")


@dataclass(frozen=True)
class PlaceScores:
    """Scores of B examples of N places; what is not scored has neither nats nor a right answer."""

    nats_BN: Array  # cross-entropy
    right_BN: Array  # bool: the most likely token is the right one
    scored_BN: Array  # bool
    found_BN: Array | None = None  # bool: the memory that tells what is asked was looked into; None: it is not known

    def at(self, where_BN: Array) -> "PlaceScores":
        """The same scores of some places alone."""
        found_BN = None if self.found_BN is None else self.found_BN & where_BN
        return PlaceScores(self.nats_BN * where_BN, self.right_BN & where_BN, self.scored_BN & where_BN, found_BN)

    def sums(self, metric: str, bytes_BN: Array, chunk_tokens: int) -> Array:
        """What a figure is made of [B, 2]: the sum of the first over the sum of the second, which can be resampled.

        `cross_entropy` (nats a token), `bits_per_byte`, `token_accuracy`, `found`, `exact_match` (the share of examples
        in which everything scored is right) or `chunk_match` (the same of chunks). `bytes_BN`: at scored places.
        """
        nats_BN, right_BN, scored_BN = self.nats_BN, self.right_BN, self.scored_BN
        if metric in ("exact_match", "chunk_match"):
            starts = np.arange(0, scored_BN.shape[1], scored_BN.shape[1] if metric == "exact_match" else chunk_tokens)
            asked_BC, right_BC = (np.add.reduceat(x.astype(int), starts, 1) for x in (scored_BN, right_BN & scored_BN))
            pair = ((right_BC == asked_BC) & (asked_BC > 0)).sum(1), (asked_BC > 0).sum(1)
        elif metric == "bits_per_byte":
            pair = nats_BN.sum(1) / math.log(2), (bytes_BN * scored_BN).sum(1)
        else:
            what = {"cross_entropy": nats_BN, "token_accuracy": right_BN, "found": self.found_BN}[metric]
            assert what is not None
            pair = what.sum(1), scored_BN.sum(1)
        return np.stack(pair, 1).astype(float)


def readable(model: TextMemory) -> TypeGuard[Generative]:
    """Whether a model reads text chunk by chunk, so that its access to memory can be measured."""
    return isinstance(model, Generative) and model.reads_chunks


def memories_read(model: Generative, chunk: Array, memory: Memory) -> Array:
    """How many memories tokens of a chunk of this number can read; tokens of earlier chunks are no memories."""
    return np.zeros_like(chunk) if memory == "none" else model.memories_before(chunk)


def predicted(
    model: Generative,
    ids_BN: Tensor,
    marks_BC: Tensor | None,
    memory: Memory,
    others_BN: Tensor | None = None,
    remembered: int = 0,
) -> MemoryOutput:
    """What a model predicts of a text after its first `remembered` chunks.

    `others_BN` are the texts whose memories are read where `memory` is `other`.
    """
    if memory == "ids":
        own_BCT = chunked(ids_BN, model.chunk_tokens)[:, :-1]
        return model(ids_BN, marks=marks_BC, own_memories=own_BCT, remembered=remembered)
    if memory != "other" or not model.reads_earlier:
        return model(ids_BN, marks=marks_BC, read=memory != "none", remembered=remembered)
    assert others_BN is not None
    if model.reads_given_memories:
        # Its memories are of single chunks, so that those of the other text can be handed over as they are.
        own_BCM = model.encode_chunks(chunked(others_BN, model.chunk_tokens)[:, :-1])
        return model(ids_BN, marks=marks_BC, own_memories=own_BCM, remembered=remembered)
    return MemoryOutput(logits=spliced(model, ids_BN, marks_BC, others_BN, remembered))


def logits_of(model: Generative, *args: Any) -> Tensor:
    """`predicted`'s logits [B, N, V]."""
    logits = predicted(model, *args).logits
    assert logits is not None
    return logits


def spliced(
    model: Generative, ids_BN: Tensor, marks_BC: Tensor | None, others_BN: Tensor, remembered: int = 0
) -> Tensor:
    """Logits [B, N, V] of every chunk read after the other text up to there: what `other` means for any model."""
    T, out = model.chunk_tokens, []
    for c in range(remembered, -(-ids_BN.shape[1] // T)):
        start = c * T
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
    # Chunks before the first that is scored need not be predicted.
    remembered = int((batch.labels != IGNORED).any(0).int().argmax()) // model.chunk_tokens
    skipped = remembered * model.chunk_tokens
    step = max(1, LOGITS // (N * model.config.vocab_size))
    nats_BN, right_BN, found_BN = torch.zeros(rows, N), *torch.zeros(2, rows, N, dtype=torch.bool)
    chosen = False
    others_BN = batch.input_ids[torch.from_numpy(shuffled_B)]
    for i in range(0, rows, step):
        part = slice(i, i + step)
        marks_BC = None if batch.marks is None else batch.marks[part].to(device)
        ids_BN, own_BN = batch.input_ids[part].to(device), others_BN[part].to(device)
        out = predicted(model, ids_BN, marks_BC, memory, own_BN, remembered)
        labels_Bn, rest = batch.labels[part, skipped:].to(device), (part, slice(skipped, None))
        scored_Bn = labels_Bn != IGNORED
        assert out.logits is not None
        logits_KV, labels_K = out.logits[scored_Bn].float(), labels_Bn[scored_Bn]
        nats_BN[rest][scored_Bn.cpu()] = F.cross_entropy(logits_KV, labels_K, reduction="none").cpu()
        right_BN[rest][scored_Bn.cpu()] = (logits_KV.argmax(-1) == labels_K).cpu()
        if out.opened is not None and batch.holders is not None:
            found_Bn = (out.opened == batch.holders[rest][..., None].to(device)).any(-1)
            found_BN[rest], chosen = (found_Bn & scored_Bn).cpu(), True
    scored_BN, found = (batch.labels != IGNORED).numpy(), found_BN.numpy() if chosen or memory == "none" else None
    return PlaceScores(nats_BN.double().numpy(), right_BN.numpy(), scored_BN, found)


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
    by_chunk, number_BC = model.reads_given_memories and memory == "own", numbered(marks_BC)
    for c in range(first, marks_BC.shape[1]):
        known_BcM = model.encode_chunks(out_BN[:, : c * T].unflatten(1, (-1, T))) if by_chunk else None
        for n in range(c * T, min((c + 1) * T, out_BN.shape[1])):
            if known_BcM is None:
                logits_BnV = logits_of(model, out_BN[:, : n + 1], marks_BC[:, : c + 1], memory)
            else:
                asked = {"marks": number_BC[:, c : c + 1], "memories": known_BcM, "own_memories": known_BcM[:, :0]}
                logits_BnV = model(out_BN[:, c * T : n + 1], **asked).logits
            out_BN[:, n] = logits_BnV[:, -1].argmax(-1)
    return out_BN
