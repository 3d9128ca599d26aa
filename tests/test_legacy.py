"""Runs and models that memlm 0.1 saved: read as they were, or refused with a sentence. Files made by 0.1 itself."""

import json
from pathlib import Path

import pytest
import torch
from banks import autoencoder, memory_model, tokenizer
from safetensors.torch import load_file, save_file

from memlm.errors import UsageError
from memlm.kinds import ModelShape
from memlm.legacy import modern_config
from memlm.loading import load_model, save_model
from memlm.models.shapes import RecurrentShape
from memlm.presets import memory
from memlm.records import from_dict, to_dict
from memlm.train.config import Curriculum, TrainConfig

OLD = Path(__file__).parent / "old_models"
TOLD = json.loads((OLD / "told.json").read_text())
LEFT = "slots", "soft"  # readers that are not there any more
KINDS = {"vector": "memory", "none": "memory"}  # the others are called as their folders


@pytest.mark.parametrize("name", [name for name in TOLD if name not in LEFT])
def test_a_model_of_before_predicts_what_it_predicted(name):
    model, told = load_model(OLD / name), TOLD[name]
    with torch.no_grad():
        logits = model(torch.tensor(told["ids"])).logits[:, -2:]
    torch.testing.assert_close(logits, torch.tensor(told["logits"]), rtol=1e-5, atol=1e-5)
    assert model.config.read_shape().kind == KINDS.get(name, name)


@pytest.mark.parametrize("name", [name for name in TOLD if name not in LEFT])
def test_a_run_of_before_is_a_run_of_today(name):
    config = from_dict(TrainConfig, modern_config(TOLD[name]["run"], "config"), "config")
    assert config.model == load_model(OLD / name).config.read_shape()
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    stages = modern_config({"stages": {"one": TOLD[name]["run"]}}, "curriculum")
    assert from_dict(Curriculum, stages).stages == {"one": config}


@pytest.mark.parametrize("name", ["facts", "near-facts", "linked-facts"])
def test_three_objectives_that_asked_for_facts_are_one(name):
    told = to_dict(memory().stages["find"]) | {"objective": f"causal+0.4*{name}/2+0.1*quote/4"}
    config = from_dict(TrainConfig, modern_config(told, "config"), "config")
    assert config.objective == "causal+0.4*facts/2+0.1*quote/4"


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_there_any_more_is_refused_by_its_name(name):
    with pytest.raises(UsageError, match=rf"config\.model: the reader '{name}' left memlm: .*memlm train memory"):
        modern_config(TOLD[name]["run"], "config")


def test_a_reader_that_left_after_kinds_were_saved_is_refused_too(tmp_path):
    save_model(memory_model(autoencoder(), "vector"), tokenizer(), tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    told["shape"]["reader"] = {"kind": "soft", "bridge": "slots", "unroll": {}, "shift": True}
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match="shape: the reader 'soft' left memlm"):
        load_model(tmp_path)


def test_a_shape_is_not_guessed():
    told = to_dict(RecurrentShape())
    del told["decoder"]
    with pytest.raises(UsageError, match="shape lacks the field 'decoder'"):
        from_dict(ModelShape, told, "shape")
    del told["kind"]
    with pytest.raises(UsageError, match=r"config\.model lacks the field 'kind'"):
        modern_config({"model": told}, "config")


def test_a_pointer_of_before_marked_chunks_predicts_the_same(tmp_path):
    """What was saved without the weights of `order` and `marked` is the model whose are 0."""
    model = memory_model(autoencoder(), "pointer")
    for name, weight in model.reader.named_parameters():
        torch.nn.init.normal_(weight, std=0.1)
        if name.startswith(("order", "marked")):
            torch.nn.init.zeros_(weight)
    ids, marks = torch.randint(2, 300, (2, 32)), torch.ones(2, 4).bool()
    save_model(model, tokenizer(), tmp_path / "saved")
    file = tmp_path / "saved" / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if not k.startswith(("reader.order", "reader.marked"))}
    save_file(kept, file, {"format": "pt"})
    told = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert told["shape"]["reader"].pop("surprise") == 0  # a field that is younger still
    (tmp_path / "saved" / "config.json").write_text(json.dumps(told))
    again = load_model(tmp_path / "saved")
    with torch.no_grad():
        for asked in ({}, {"marks": marks}):
            assert torch.equal(again(ids, **asked).logits, model.eval()(ids, **asked).logits)
    del kept["reader.rare"]
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(UsageError, match="damaged"):
        load_model(tmp_path / "saved")
