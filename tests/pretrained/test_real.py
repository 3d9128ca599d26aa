"""The claims of this room on a real model; `-m real` runs them."""

import pytest
import torch

from memlm.loading import build_model
from memlm.nn.vocabulary import END
from memlm.pretrained.opening import open_pretrained
from memlm.pretrained.shapes import PretrainedShape
from memlm.pretrained.transplant import SHIFT, tokenizer_for


@pytest.mark.real
def test_smollm2_is_unchanged_to_the_bit_without_memories():
    tokenizer = tokenizer_for("smollm2")
    model = build_model(PretrainedShape(), tokenizer.get_vocab_size(), 0).eval()
    ids = torch.tensor([tokenizer.encode("It was a bright cold day in April, and the clocks were striking").ids[:16]])
    lm = open_pretrained("smollm2", head=True).model
    own = torch.cat([torch.full((1, 1), lm.config.bos_token_id), ids[:, :-1] - SHIFT], 1)
    with torch.inference_mode():
        ours, theirs = model(ids).logits, lm(own).logits
    end = lm.config.eos_token_id
    assert torch.equal(ours[..., SHIFT + end + 1 :], theirs[..., end + 1 :])
    assert torch.equal(ours[..., END], theirs[..., end])
