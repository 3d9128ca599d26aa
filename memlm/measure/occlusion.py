"""What the prediction of each token owes to memories: the same text with memories hidden (paper, Metrics).

All memories are hidden by `read=False`. One of them is hidden in the decoder's mask (readers/placing.py): everything
stands where it stood and nothing sees it, which is exactly what the decoder computes if it is not there. A vector of
zeros in its place would still be attended to.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.measure.reading import LOGITS, logits_of, predicted
from memlm.models.model import Generative
from memlm.readers.placing import Placed, hiding

Array = np.ndarray
METRICS = ("l1", "cosine", "loss")


@dataclass(frozen=True)
class Attribution:
    """Of B texts of N tokens: how far what predicts each token moves when memories are hidden.

    `l1` is the sum over the vocabulary of how far each logit moves, `cosine` 1 - cosine of the logits, `loss` by how
    much cross-entropy grows, in nats: below 0 where the memories mislead.
    """

    all: dict[str, Array]  # metric -> [B, N], all memories hidden
    each: dict[str, Array]  # metric -> [B, K, N], one of the K memories hidden; empty where single ones cannot be
    entropy_BN: Array  # of the prediction, in nats
    entropy_none_BN: Array  # of the prediction without memories
    # Of readers that choose: the memories that were looked into, and how much of the prediction is copied from each.
    opened: tuple[Array, Array] | None = None  # both [B, N, k]


@torch.inference_mode()
def attribute(model: Generative, ids_BN: Tensor, marks_BC: Tensor | None, device: torch.device) -> Attribution:
    """Attribute every token of texts that lie on the CPU; chunks that are marked are to be answered from memory."""
    step = max(1, LOGITS // (2 * ids_BN.shape[1] * model.config.vocab_size))
    parts = []
    for i in range(0, len(ids_BN), step):
        marks_bC = None if marks_BC is None else marks_BC[i : i + step].to(device)
        parts.append(_attribute(model, ids_BN[i : i + step].to(device), marks_bC))
    found = {name: torch.cat([part[name].cpu() for part in parts]).double().numpy() for name in parts[0]}
    each = {metric: found[f"{metric} each"] for metric in METRICS if f"{metric} each" in found}
    moved = {metric: found[metric] for metric in METRICS}
    opened = (found["opened"], found["shares"]) if "opened" in found else None
    return Attribution(moved, each, found["entropy"], found["entropy without"], opened)


def differences(own_BNV: Tensor, hidden_BNV: Tensor, ids_BN: Tensor) -> dict[str, Tensor]:
    """The three metrics [B, N] of logits with memories and without; each exactly 0 where these are equal."""
    # 1 - u.v of unit vectors is half their squared distance, which rounding leaves at 0 for equal ones.
    apart_BN = (F.normalize(own_BNV, dim=-1) - F.normalize(hidden_BNV, dim=-1)).square().sum(-1) / 2
    nats = [F.cross_entropy(z.transpose(1, 2), ids_BN, reduction="none") for z in (own_BNV, hidden_BNV)]
    return {"l1": (own_BNV - hidden_BNV).abs().sum(-1), "cosine": apart_BN, "loss": nats[1] - nats[0]}


def entropy(logits_BNV: Tensor) -> Tensor:
    """Entropy of each prediction in nats [B, N]."""
    log_BNV = logits_BNV.log_softmax(-1)
    return -(log_BNV.exp() * log_BNV).sum(-1)


def _attribute(model: Generative, ids_BN: Tensor, marks_BC: Tensor | None) -> dict[str, Tensor]:
    own = predicted(model, ids_BN, marks_BC, "own")
    assert own.logits is not None
    own_BNV = own.logits.float()
    none_BNV = logits_of(model, ids_BN, marks_BC, "none").float()
    found = differences(own_BNV, none_BNV, ids_BN)
    found |= {"entropy": entropy(own_BNV), "entropy without": entropy(none_BNV)}
    if own.opened is not None and own.shares is not None:
        found |= {"opened": own.opened, "shares": own.shares}
    memories = -(-ids_BN.shape[1] // model.chunk_tokens) - 1
    # Of a recurrent model there is but one memory, and baselines have none.
    if model.reads_given_memories and memories:
        own_BKM = model.encode_chunks(ids_BN[:, : memories * model.chunk_tokens].unflatten(1, (memories, -1)))
        each = []
        for k in range(memories):
            with hiding(cast(Placed, model), k):
                hidden_BNV = model(ids_BN, own_memories=own_BKM, marks=marks_BC).logits.float()
            each.append(differences(own_BNV, hidden_BNV, ids_BN))
        found |= {f"{metric} each": torch.stack([one[metric] for one in each], 1) for metric in METRICS}
    return found
