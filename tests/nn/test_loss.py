"""The loss is normalised by what is really scored."""

import torch
from torch.nn import functional as F

from memlm.nn.loss import IGNORED, token_loss


def test_mean_over_scored_labels_only():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 11), torch.randint(0, 11, (3, 5))
    labels[0, 2:] = IGNORED
    scored = labels != IGNORED
    torch.testing.assert_close(token_loss(logits, labels), F.cross_entropy(logits[scored], labels[scored]))


def test_nothing_scored_is_a_zero_that_can_be_differentiated():
    logits = torch.randn(1, 2, 3, requires_grad=True)
    loss = token_loss(logits, torch.full((1, 2), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
