"""Every objective against tensors written out by hand."""

import pytest
import torch

from memlm.objectives import OBJECTIVES

# objective: (window of a chunk of 4, tokens, what is read, what is scored); 1 begins a text
EXPECTED = {
    "autoencode": (4, [[5, 6, 7, 8]], [[5, 6, 7, 8]], [[5, 6, 7, 8]]),
    "causal": (5, [[5, 6, 7, 8, 9]], [[1, 5, 6, 7, 8]], [[5, 6, 7, 8, 9]]),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_by_hand(name):
    window, tokens, inputs, labels = EXPECTED[name]
    assert OBJECTIVES[name].window(4) == window
    batch = OBJECTIVES[name](torch.tensor(tokens))
    assert batch.input_ids.tolist() == inputs
    assert batch.labels.tolist() == labels
