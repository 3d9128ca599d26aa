"""Held-out figures of a model under its own objective."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from memlm.nn.compiled import uncompiled
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Objective
from memlm.train.ranks import ALONE, Ranks


@dataclass(frozen=True)
class HeldOut:
    """Figures over whole chunks: nats a token, share of tokens and of whole chunks that are right."""

    cross_entropy: float
    token_accuracy: float
    exact_match: float

    @property
    def finite(self) -> bool:
        """Whether the cross-entropy is a number."""
        return math.isfinite(self.cross_entropy)


@torch.no_grad()  # inference mode would leave FSDP weights that cannot be trained on
def evaluate(
    model: nn.Module,
    objective: Objective,
    tokens_NW: np.ndarray,
    chunk_tokens: int,
    device: torch.device,
    rows: int = 256,
    ranks: Ranks = ALONE,
    **options: Any,
) -> HeldOut:
    """HeldOut windows of held-out tokens [N, window], N >= 1.

    Args:
        model: any of ours.
        objective: what is scored.
        tokens_NW: the windows.
        chunk_tokens: T.
        device: where.
        rows: windows at once, of all processes.
        ranks: processes that share them; all get the figures of all.
        options: more arguments for the model's forward pass, such as `read=False`.
    """
    training = model.training
    model.eval()
    found = torch.zeros(4, dtype=torch.float64)
    for tokens_BW in np.array_split(tokens_NW, math.ceil(len(tokens_NW) / rows)):
        made = objective(torch.from_numpy(tokens_BW.astype(np.int64)), chunk_tokens).share(ranks.rank, ranks.world)
        batch = made.to(device)
        with uncompiled():
            logits_BTV = model(**batch.asked(), **options).logits.float()
        labels_BT = batch.labels[:, batch.remembered * chunk_tokens :]
        mask_BT = labels_BT != IGNORED
        right_BT = (logits_BTV.argmax(-1) == labels_BT) & mask_BT
        nats = F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum")
        whole = (right_BT | ~mask_BT).all(1) & mask_BT.any(1)
        found += torch.stack([x.double() for x in (nats, right_BT.sum(), whole.sum(), mask_BT.sum())]).cpu()
    model.train(training)
    nats, right, whole, scored = ranks.sum(found.to(device)).tolist()
    return HeldOut(nats / scored, right / scored, whole / len(tokens_NW))
