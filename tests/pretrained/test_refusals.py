"""What cannot be the decoder of a memory model is told so in one sentence."""

import sys

import pytest
import torch
from tiny_models import FAMILIES, SPECIAL
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaForCausalLM, T5Config

from memlm.errors import UsageError
from memlm.pretrained.adapter import Adapter
from memlm.pretrained.base import check


def tiny(kind=AutoModelForCausalLM):
    torch.manual_seed(0)
    return kind.from_config(FAMILIES["llama"]).eval()


def test_an_encoder_decoder():
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, **SPECIAL)
    with pytest.raises(UsageError, match="has an encoder of its own"):
        check(AutoModelForSeq2SeqLM.from_config(config), "t5")


def test_a_model_that_takes_tokens_alone(monkeypatch):
    lm = tiny()
    monkeypatch.setattr(lm.base_model, "forward", lambda input_ids: input_ids)
    with pytest.raises(UsageError, match="takes no vectors"):
        check(lm, "tokens")


def test_a_model_that_does_not_heed_masks(monkeypatch):
    lm = tiny()
    forward = lm.base_model.forward
    monkeypatch.setattr(
        lm.base_model,
        "forward",
        lambda inputs_embeds=None, attention_mask=None, **given: forward(inputs_embeds=inputs_embeds, **given),
    )
    with pytest.raises(UsageError, match="does not heed the masks"):
        check(lm, "blind")


def test_logits_made_in_another_way(monkeypatch):
    lm = tiny()
    forward = LlamaForCausalLM.forward

    def doubled(self, **given):
        out = forward(self, **given)
        out.logits = 2 * out.logits
        return out

    monkeypatch.setattr(LlamaForCausalLM, "forward", doubled)
    with pytest.raises(UsageError, match="logits in a way"):
        check(lm, "doubled")


def test_an_ordinary_one_passes_and_stays_as_it_was():
    lm, ids = tiny(), torch.arange(6)[None]
    before = lm(ids).logits
    check(lm, "llama")
    assert torch.equal(lm(ids).logits, before)


def test_peft_is_asked_for_only_where_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match="needs peft"):
        Adapter(tiny(), 2)


def test_an_adapter_for_layers_that_are_not_there():
    with pytest.raises(UsageError, match="change lora_targets"):
        Adapter(tiny(), 2, ("nowhere",))
