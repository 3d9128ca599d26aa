"""A copy without a teacher: the model reads its own predictions, and forms memories of the chunks that it wrote.

Only a copy that shows tokens has to be run so. A blank copy reads blanks whatever was predicted before, so that its
free-running figures are its teacher-forced ones.
"""

import torch
from torch import Tensor

from memlm.measure.reading import Memory, logits_of
from memlm.models.model import Generative
from memlm.nn.vocabulary import PAD


@torch.inference_mode()
def write_marked(model: Generative, ids_BN: Tensor, marks_BC: Tensor, memory: Memory = "own") -> Tensor:
    """A text whose last chunks are marked -> the same text with those written by the model, greedily [B, N].

    Args:
        model: one that reads chunks.
        ids_BN: the text; what stands in the marked chunks is not looked at.
        marks_BC: bool, the same for every row: some chunks, then marked ones to the end.
        memory: `own` or `none`.
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
                logits_BnV = model(
                    out_BN[:, c * T : n + 1],
                    marks=marks_BC[:, c : c + 1],
                    memories=known_BcM,
                    own_memories=known_BcM[:, :0],
                ).logits
            out_BN[:, n] = logits_BnV[:, -1].argmax(-1)
    return out_BN
