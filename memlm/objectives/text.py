"""The paper's objectives over plain text (paper, Objectives)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.errors import UsageError
from memlm.nn.loss import IGNORED
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import BLANK, Batch, Objective, same_chunks


class Same(Objective):
    """x -> x: every token from those before it, or with `own` every chunk from its own memory."""

    def __init__(self, own: bool):
        self.own = own

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Input and labels are the same tokens."""
        chunks = -(-tokens_BW.shape[1] // chunk_tokens)
        sources = same_chunks(len(tokens_BW), chunks, tokens_BW.device)
        return Batch(tokens_BW, tokens_BW, sources=sources, own_rows=len(tokens_BW) if self.own else 0)


class Copy(Objective):
    """[h, h] -> the second half; its chunks are marked. After chunks that are only remembered what is repeated is the
    text from the first of these on.

    With `blank` the second half is read as blanks, so that only memories can tell what was there; without, a chunk's
    own earlier tokens are shown, and much of it could be guessed from them.
    """

    def __init__(self, blank: bool):
        self.blank = blank

    def window(self, tokens: int) -> int:
        """The first half."""
        return tokens // 2

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """As `__call__` without chunks that are only remembered."""
        return self(tokens_BW, chunk_tokens)

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int, remembered: int = 0) -> Batch:
        """Read once, then its beginning again, or blanks; that is scored."""
        rows, chunks = len(tokens_BW), tokens_BW.shape[1] // chunk_tokens
        half = tokens_BW.shape[1] - remembered * chunk_tokens
        if half % chunk_tokens:
            raise UsageError("a copy needs an even number of chunks: change --model.chunks.")
        told_Bh = tokens_BW[:, :half]
        again_Bh = torch.full_like(told_Bh, PAD) if self.blank else told_Bh
        labels = torch.cat([torch.full_like(tokens_BW, IGNORED), told_Bh], 1)
        first_BC = same_chunks(rows, chunks, tokens_BW.device)
        second_BC = first_BC[:, : chunks - remembered]
        marks = F.pad(torch.ones_like(second_BC).bool(), (chunks, 0))
        sources = torch.cat([first_BC, torch.full_like(second_BC, BLANK) if self.blank else second_BC], 1)
        ids_BN = torch.cat([tokens_BW, again_Bh], 1)
        return Batch(ids_BN, labels, marks, sources=sources, remembered=remembered)


def autoencode(vocab_size: int) -> Same:
    """Every chunk from its own memory."""
    return Same(own=True)


def causal(vocab_size: int) -> Same:
    """Every token from those before it."""
    return Same(own=False)


def copy(vocab_size: int) -> Copy:
    """The second half, shown token by token."""
    return Copy(blank=False)


def blank(vocab_size: int) -> Copy:
    """The second half at the places of blanks."""
    return Copy(blank=True)
