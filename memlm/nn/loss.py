"""Cross-entropy over what is really scored."""

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a label that is not scored, the value torch and transformers use


def token_loss(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the labels that are not `IGNORED`; in fp32 whatever the logits are.

    Exactly zero, and differentiable, when nothing is scored.
    """
    total = F.cross_entropy(
        logits_BTV.flatten(0, -2).float(), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels_BT != IGNORED).sum().clamp(min=1)
