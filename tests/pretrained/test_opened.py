"""An adapter for opened words: nothing where none is opened, nothing before training, learnt, stopped, saved, read."""

import json
import shutil

import numpy as np
import pytest
import torch
from banks import autoencoder, tokenizer
from copying_models import WORDS, T, folder, tiny
from torch.nn import functional as F

from memlm.cli import main
from memlm.decoding.cached import Prompt
from memlm.loading import load_model, save_model
from memlm.pretrained.copying import Copying, opened_words
from memlm.train import adapt as training
from memlm.train import opened
from memlm.train.adapt import Adapting, adapt


def adapted(gate: float = 1.0, opened: int = 1) -> Copying:
    """A model whose adapter adds something where it works."""
    model = tiny(copies=False, opened=opened, lora=2)
    model.gate.fill_(gate)
    for layer in model.lora():
        layer.weight.mul_(50)
    return model


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, 150, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_where_nothing_is_opened_it_is_the_base_to_the_bit():
    model, plain, ids_BN = adapted(), tiny(copies=False, opened=1), ids(2, 12)
    assert torch.equal(model(ids_BN).logits, plain(ids_BN).logits)
    base_BNW, base_cache = plain.states(ids_BN)
    none_BNW, none_cache = model.states(ids_BN, None, torch.tensor([0, 0]))
    assert torch.equal(none_BNW, base_BNW)
    some_BNW, _ = model.states(ids_BN, None, torch.tensor([0, 5]))
    assert torch.equal(some_BNW[0], base_BNW[0])
    assert not torch.equal(some_BNW[1, 1:], base_BNW[1, 1:])
    assert torch.equal(model.states(ids_BN[:, :1], none_cache)[0], plain.states(ids_BN[:, :1], base_cache)[0])
    index = model.reader.index_words(torch.arange(200, 224).view(6, T), torch.zeros(0, 1))  # no word of the prompt
    prompts = Prompt(ids_BN, [12, 12], index=index), Prompt(ids_BN, [12, 12], index=index)
    decodings = model.decoding(prompts[0]), plain.decoding(prompts[1])
    for token in range(9):
        assert torch.equal(decodings[0].logits, decodings[1].logits)
        for decoding in decodings:
            decoding.step(torch.tensor([20 + token, 90]))


@torch.no_grad()
def test_a_gate_of_zero_is_no_adapter():
    ids_1N, opened_1 = ids(1, 12), torch.tensor([5])
    plain_1NW = tiny().states(ids_1N)[0]
    assert torch.equal(tiny(lora=2).states(ids_1N, None, opened_1)[0], plain_1NW)  # as it begins
    assert torch.equal(adapted(0.0).states(ids_1N, None, opened_1)[0], plain_1NW)


@torch.no_grad()
def test_the_adapter_is_on_the_upper_layers_alone():
    blocks = adapted().base.lm.config.num_hidden_layers
    model = tiny(lora=2, lora_layers=1)
    names = [name for name, _ in model.lm.named_modules() if name.endswith("lora_B")]
    assert names
    assert all(f".{blocks - 1}." in name for name in names)


@torch.no_grad()
def test_read_by_the_adapter_cached_equals_recomputed():
    model, words_KT = adapted(), torch.arange(2, 2 + 30 * T).view(30, T)
    index, asked_N = model.reader.index_words(words_KT, torch.zeros(0, 1)), words_KT[17]
    decoding = model.decoding(Prompt(asked_N[None], [T], index=index))
    before_P = opened_words(index.words_KT, model.reader.passages(index, asked_N, 1, model.shape.segment))
    text_N = torch.cat([asked_N, torch.tensor([20, 21, 22])])
    for token in text_N[T:]:
        decoding.step(token[None])
    read_1P, opened_1 = torch.cat([before_P, text_N])[None], torch.tensor([len(before_P)])
    whole_1V = model.told(model.states(model.begun(read_1P), None, opened_1)[0][:, -1])
    torch.testing.assert_close(decoding.logits, whole_1V)
    assert not torch.allclose(whole_1V, model.told(model.states(model.begun(read_1P))[0][:, -1]))


@pytest.fixture
def small(monkeypatch):
    for name, value in {"WINDOW": 64, "QUERIES": 16}.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(opened, "KEEP", 2)


def test_it_is_learnt_stopped_saved_and_read_again(data, tmp_path, small, monkeypatch, capsys):
    data = shutil.copytree(data, tmp_path / "data")
    head = {"windows": 8, "steps": 1, "context": 16}
    adapt(Adapting(base=str(folder()), data=data, **head), tmp_path / "head")
    config = Adapting(base=str(tmp_path / "head"), data=data, context=16, lora=2, lora_steps=6, lora_lr=2e-2)
    summary = adapt(config, tmp_path / "whole")["adapter"]
    model = load_model(tmp_path / "whole")
    assert model.gates().abs().min() > 0.02
    assert summary["gates"]["text"] == model.gates()[1].item()
    given = load_model(tmp_path / "head")
    assert model.base.fingerprint == given.base.fingerprint
    assert all(torch.equal(t, model.reader.state_dict()[name]) for name, t in given.reader.state_dict().items())

    left, step = [0], opened.examples

    def stopped(*given):
        left[0] += 1
        if left[0] == 6:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(opened, "examples", stopped)
    with pytest.raises(KeyboardInterrupt):
        adapt(config, tmp_path / "resumed")
    assert [path.name for path in (data / "states").glob("*-lora/*")] == ["step-00000004"]
    assert adapt(config, tmp_path / "resumed")["adapter"]["losses"] == summary["losses"]
    assert left[0] == 6 + 2  # of six steps four were made before
    assert not list((data / "states").glob("*-lora"))
    again = load_model(tmp_path / "resumed")
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())

    call = ["adapt", str(tmp_path / "head"), "--data", str(data), "--out", str(tmp_path / "x")]
    assert main(call) == 2
    assert "set --lora to train an adapter beside it" in capsys.readouterr().err
    save_model(autoencoder(), tokenizer(), tmp_path / "auto")
    assert main(["adapt", str(tmp_path / "auto"), *call[2:], "--lora", "2"]) == 2
    assert "has no copy head" in capsys.readouterr().err
    old = json.loads((tmp_path / "head" / "config.json").read_text())
    old["shape"] = {name: value for name, value in old["shape"].items() if not name.startswith("lora")}
    (tmp_path / "head" / "config.json").write_text(json.dumps(old))
    assert load_model(tmp_path / "head").adapter is None  # as heads were saved before


@torch.no_grad()
def test_examples_ask_for_what_their_passages_tell():
    text_N = np.random.default_rng(0).integers(10, 200, 4000).astype(np.int32)
    model, told = tiny(opened=2, lora=2), 0
    for step in range(6):
        made = opened.examples(model, text_N, WORDS, 64, np.random.default_rng(step))
        assert made.keys() == opened.WEIGHTS.keys()
        (quote,) = made["quote"]
        words = quote.before_P.tolist()
        first = quote.text_N[-quote.predicted :][:2].tolist()
        told += any(words[i : i + 2] == first for i in range(len(words)))
        one = made["asked"][0]
        assert torch.isfinite(opened.nats_of(model, [one, quote]))
        alone = opened.nats_of(model, [one])
        torch.testing.assert_close(alone, label_nats(model, one))
    assert told >= 3  # by chance: none


def label_nats(model: Copying, one: opened.Example) -> torch.Tensor:
    """The same, of a text by itself."""
    ids_1N = torch.cat([one.before_P, one.text_N])[None]
    h_1NW = model.states(model.begun(ids_1N)[:, :-1])[0]
    return F.cross_entropy(model.told(h_1NW)[0, -one.predicted :], ids_1N[0, -one.predicted :])
