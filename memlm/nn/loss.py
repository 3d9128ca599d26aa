"""Cross-entropy over what is really scored."""

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a label that is not scored, the value torch and transformers use


def token_loss(logits_BTV: Tensor, labels_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats over the labels that are not `IGNORED`; in fp32 whatever the logits are.

    Its mean; or, with weights, the weighted sum, so that whoever made the weights has normalised them. Exactly zero,
    and differentiable, when nothing is scored.
    """
    logits_NV, labels_N = logits_BTV.flatten(0, -2).float(), labels_BT.flatten()
    if weights_BT is None:
        total = F.cross_entropy(logits_NV, labels_N, ignore_index=IGNORED, reduction="sum")
        return total / (labels_N != IGNORED).sum().clamp(min=1)
    nats_N = F.cross_entropy(logits_NV, labels_N, ignore_index=IGNORED, reduction="none")
    return (nats_N * weights_BT.flatten()).sum()


def weighted(nats_RT: Tensor, labels_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
    """The same of nats that are known, of the last R of B rows."""
    weights_BT = mean_of(labels_BT) if weights_BT is None else weights_BT
    return (nats_RT * weights_BT[len(labels_BT) - len(nats_RT) :]).sum()


def mean_of(labels_BT: Tensor) -> Tensor:
    """What each label counts in the mean over those that are scored: [B, T]."""
    return (labels_BT != IGNORED) / (labels_BT != IGNORED).sum().clamp(min=1)
