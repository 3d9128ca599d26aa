"""The causal model: no logit sees its own label, and the state that is read out has read the whole chunk."""

import torch
from transformers import AutoModelForCausalLM

from memlm.loading import build_model
from memlm.models.shapes import CausalShape
from memlm.nn.config import StackConfig

T, V = 8, 50
MODEL = build_model(CausalShape(chunk_tokens=T, stack=StackConfig(kind="transformer", width=16, heads=2)), V, 0).eval()


def test_a_label_never_reaches_its_own_logit():
    tokens = torch.randint(2, V, (2, T + 1), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] - 1) % (V - 2) + 2
    before, after = (MODEL(x).logits for x in (tokens, changed))
    assert torch.equal(before[:, :5], after[:, :5])  # up to the one that predicts token 4
    assert not torch.equal(before[:, 5], after[:, 5])


def test_the_memory_has_read_every_token():
    ids = torch.randint(2, V, (1, T), generator=torch.Generator().manual_seed(0))
    for t in range(T):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] - 1) % (V - 2) + 2
        assert not torch.equal(MODEL.encode(ids), MODEL.encode(changed))


def test_padding_never_changes_a_memory():
    ids = torch.randint(2, V, (2, 5), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([ids, torch.zeros(2, 3, dtype=torch.long)], 1)
    torch.testing.assert_close(MODEL.encode(ids), MODEL.encode(padded))


def test_registered_for_causal_language_modelling(tmp_path):
    MODEL.save_pretrained(tmp_path)
    ids = torch.randint(2, V, (1, T), generator=torch.Generator().manual_seed(0))
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(ids).logits, MODEL(ids).logits)
