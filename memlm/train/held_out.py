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


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    objective: Objective,
    tokens_NW: np.ndarray,
    chunk_tokens: int,
    device: torch.device,
    rows: int = 256,
    **options: Any,
) -> HeldOut:
    """HeldOut windows of held-out tokens [N, window], N >= 1.

    Args:
        model: any of ours.
        objective: what is scored.
        tokens_NW: the windows.
        chunk_tokens: T.
        device: where.
        rows: windows at once.
        options: more arguments for the model's forward pass, such as `read=False`.
    """
    training = model.training
    model.eval()
    nats = right = whole = scored = 0.0
    for tokens_BW in np.array_split(tokens_NW, math.ceil(len(tokens_NW) / rows)):
        batch = objective(torch.from_numpy(tokens_BW.astype(np.int64)).to(device), chunk_tokens)
        with uncompiled():
            logits_BTV = model(**batch.asked(), **options).logits.float()
        labels_BT = batch.labels[:, batch.remembered * chunk_tokens :]
        mask_BT = labels_BT != IGNORED
        right_BT = (logits_BTV.argmax(-1) == labels_BT) & mask_BT
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum")
        nats += loss.item()
        right += right_BT.sum().item()
        whole += (right_BT | ~mask_BT).all(1).sum().item()
        scored += mask_BT.sum().item()
    model.train(training)
    return HeldOut(nats / scored, right / scored, whole / len(tokens_NW))
