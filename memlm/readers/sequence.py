"""Memories and chunks become sequences of a decoder, and come out as hidden states of the tokens.

Stands once: memory models, the recurrent baseline and decoders of others call `read_chunks`. Its two forms give the
same numbers (readers/placing.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.nn.stack import Residual
from memlm.readers.placing import Placing, folded, packed

Form = Literal["packed", "folded"]


def read_chunks(
    decoder: Callable[..., Tensor],
    placing: Placing,
    form: Form,
    x_BCTW: Tensor,
    entry_BKSW: Tensor | None,
    memories: int,
    residuals: Sequence[Residual] = (),
) -> Tensor:
    """Hidden states [B, N, W] of the tokens of C chunks.

    Args:
        decoder: a `Stack`, or a language model of others behind its face.
        placing: where everything stands.
        form: how it is laid out.
        x_BCTW: the chunks' inputs.
        entry_BKSW: entries of the memories; None: they are not read, and the tokens stand where they would.
        memories: K >= C - 1, of which the last C - 1 are the chunks' own.
        residuals: of the tokens [B, N, W], for each block.
    """
    B, C = x_BCTW.shape[:2]
    if not memories and placing.scheme != "fixed":  # read exactly as a text is that has no chunks
        return decoder(x_BCTW[:, 0], residuals=residuals)
    read = entry_BKSW is not None
    entry_BmW = x_BCTW[:, 0, :0] if entry_BKSW is None else entry_BKSW.flatten(1, 2)
    m, device = entry_BmW.shape[1], x_BCTW.device
    if form == "packed":
        layout = packed(placing, memories, C, device, read=read)
        added = [lambda h_BPW, give=give: F.pad(give(h_BPW[:, m:]), (0, 0, m, 0)) for give in residuals]
        return decoder(torch.cat([entry_BmW, x_BCTW.flatten(1, 2)], 1), layout, residuals=added)[:, m:]
    layout = folded(placing, memories, C, B, device, read=read)
    x_BCPW = torch.cat([entry_BmW[:, None].expand(-1, C, -1, -1), x_BCTW], 2)

    def of_chunks(give: Residual) -> Residual:
        def added(h_EPW: Tensor) -> Tensor:
            tokens_BNW = h_EPW[:, m:].unflatten(0, (B, C)).flatten(1, 2)
            return F.pad(give(tokens_BNW).unflatten(1, (C, -1)).flatten(0, 1), (0, 0, m, 0))

        return added

    h_EPW = decoder(x_BCPW.flatten(0, 1), layout, residuals=[of_chunks(give) for give in residuals])
    return h_EPW[:, m:].unflatten(0, (B, C)).flatten(1, 2)


def read_windows(
    decoder: Callable[..., Tensor],
    placing: Placing,
    form: Form,
    x_BCTW: Tensor,
    entry_BkSW: Tensor,
    memories: int,
    window: int,
) -> Tensor:
    """`read_chunks` of chunks that see the `window` newest memories alone: each is a sequence of its own after these.

    Entries are those of the last k of so many memories, as far back as the first chunk sees.
    """
    (B, C), k, hidden = x_BCTW.shape[:2], entry_BkSW.shape[1], placing.hidden
    read, c = [], 0
    while c < C:
        before = memories - C + 1 + c
        seen = min(before, window)
        alike = 1 if seen < window or hidden is not None else C - c  # chunks from here on that see as many
        first = k - memories + before - seen
        entry_XsSW = entry_BkSW.new_empty(B * alike, 0, *entry_BkSW.shape[2:])
        if seen:
            entry_BcSWs = entry_BkSW[:, first : first + seen + alike - 1].unfold(1, seen, 1)
            entry_XsSW = entry_BcSWs.flatten(0, 1).movedim(-1, 1)
        ablated = None if hidden is None or not before - seen <= hidden < before else hidden - before + seen
        x_X1TW = x_BCTW[:, c : c + alike].flatten(0, 1)[:, None]
        h_XTW = read_chunks(decoder, replace(placing, hidden=ablated), form, x_X1TW, entry_XsSW, seen)
        read.append(h_XTW.unflatten(0, (B, alike)).flatten(1, 2))
        c += alike
    return torch.cat(read, 1)
