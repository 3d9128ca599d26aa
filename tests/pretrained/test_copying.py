"""A language model of others over remembered text: itself where nothing is found, cached as recomputed, unchanged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from banks import autoencoder, tokenizer
from copying_models import WORDS, T, V, folder, tiny

import memlm
from memlm.bank.bank import Bank
from memlm.bank.decoder import own_decoder
from memlm.bank.encode import encode_documents
from memlm.bank.passages import passages_of
from memlm.cli import main
from memlm.decoding.cached import Prompt
from memlm.errors import UsageError
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import Scorer, Text, conditions_of
from memlm.loading import build_model, load_model, save_model
from memlm.pretrained import copying
from memlm.pretrained.copying import apart, in_passages, opened_words
from memlm.tokens.tokenizer import tokenise_pieces
from memlm.train import adapt as training
from memlm.train.adapt import Adapting, adapt


def text(*shape: int, low: int = 2, high: int = 150, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def test_its_texts_become_no_memories_when_it_is_evaluated():
    model, ids = tiny(), text(9).tolist()
    assert conditions_of(model) == ("own",)
    (score,) = Scorer(model, "own", ChunkMemories(model)).score([Text(ids, 4)])
    logp_NV = model(text(1, 9)).logits[0].log_softmax(-1)
    assert score.loglikelihood == pytest.approx(sum(logp_NV[i, ids[i]].item() for i in range(4, 9)), abs=1e-4)


def test_it_recalls_no_memories_and_says_so():
    with pytest.raises(UsageError, match="no decoder that turns its memories back"):
        own_decoder(tiny())


@torch.no_grad()
def test_where_nothing_is_found_it_is_the_base_to_the_bit():
    model, ids_BN = tiny(), text(2, 12, high=100)
    alone = model(ids_BN).logits
    own = model.lm(input_ids=model.base.own(model.begun(ids_BN)[:, :-1])).logits
    assert torch.equal(alone, model.base.ours(own))
    strange_BKT = torch.arange(150, 174).view(1, 6, T).expand(2, -1, -1)  # no word of the text, none twice
    assert torch.equal(model(ids_BN, memories=strange_BKT).logits, alone)
    found = model(ids_BN, memories=in_passages(ids_BN[0], T)[None].expand(2, -1, -1)).logits
    assert not torch.equal(found[0], alone[0])
    assert torch.equal(tiny(copies=False)(ids_BN, memories=strange_BKT).logits, alone)


@torch.no_grad()
def test_what_followed_the_same_words_is_copied():
    model, told_N = tiny(), text(40, seed=1).unique()[torch.randperm(30)]
    out = model(told_N[None, 10:20], memories=in_passages(told_N, T)[None])
    right_N = out.logits[0].argmax(-1) == told_N[10:20]
    assert right_N[3:].all()  # the words before the first are not known


@torch.no_grad()
@pytest.mark.parametrize("length", [0, 1, 3, 11])
def test_cached_equals_recomputed(length):
    model, words_KT = tiny(), text(30, T)
    ids_1N = torch.cat([words_KT.flatten()[20 : 20 + length], words_KT.flatten()[60:66]])[None]
    index = model.reader.index_words(words_KT, torch.zeros(0, 1))
    decoding = model.decoding(Prompt(ids_1N[:, :length], [length], index=index))
    whole = model(torch.cat([ids_1N, ids_1N[:, :1]], 1), memories=words_KT[None]).logits
    for n in range(length, ids_1N.shape[1]):
        torch.testing.assert_close(decoding.logits, whole[:, n], atol=2e-2, rtol=0)  # keys of 4 bits
        decoding.step(ids_1N[:, n])
    assert decoding.nbytes > index.nbytes
    again = model.generate(ids_1N, index=index, max_new_tokens=5, eos_token_id=None)
    assert again.shape == (1, ids_1N.shape[1] + 5)


@torch.no_grad()
def test_the_passages_that_hold_the_words_are_opened_and_read():
    model, words_KT = tiny(copies=False, opened=1), torch.arange(2, 2 + 30 * T).view(30, T)
    index = model.reader.index_words(words_KT, torch.zeros(0, 1))
    asked_N = words_KT[17]
    (number,) = model.reader.passages(index, asked_N, 1, 8)
    assert number in (16, 17)
    before_P = opened_words(index.words_KT, [number])
    assert before_P.tolist() == words_KT[number : number + 2].flatten().tolist()
    decoding = model.decoding(Prompt(asked_N[None], [T], index=index))
    read_1N = torch.cat([before_P, asked_N])[None]
    own_V = model.lm(input_ids=model.base.own(model.begun(read_1N))).logits[0, -1]
    torch.testing.assert_close(decoding.logits[0], model.base.ours(own_V))
    assert model.reader.passages(index, torch.tensor([250, 251]), 1, 8) == []  # none holds them
    for token in range(9):  # over a segment's end, where passages are chosen anew
        decoding.step(torch.tensor([20 + token]))
    assert decoding.rows[0].since == 1
    assert apart(torch.tensor([0.0, 3.0, 3.0, 1.0, 0.0, 2.0]), 9) == [2, 5]


def a_bank(path: Path, texts: dict[str, str]) -> Bank:
    model = autoencoder()
    save_model(model, tokenizer(), path / "auto")
    return encode_documents(model, tokenizer(), texts.items(), path / "bank", model_path=path / "auto")


TEXTS = {
    "sea": "the sea was calm and a cold wind came from the north " * 9,
    "empty": "",
    "bären": "Naïve Bären say <|end|>.",
}


def test_a_bank_is_read_in_the_models_own_words(tmp_path):
    bank, model = a_bank(tmp_path, TEXTS), tiny()
    passages = passages_of(bank, model, WORDS)
    parts = [np.concatenate([*tokenise_pieces(WORDS, [told])]) for told in TEXTS.values() if told]
    told_KT = torch.cat([in_passages(torch.from_numpy(part.astype(np.int64)), T) for part in parts])
    assert torch.equal(passages.index.words_KT.long(), told_KT)
    assert (np.diff(passages.memory_K) >= 0).all()
    first = len(in_passages(torch.from_numpy(parts[0].astype(np.int64)), T))
    assert [bank.place(int(n)) for n in passages.memory_K[[0, first - 1, first]]] == [
        ("sea", 0),
        ("sea", len(bank["sea"]) - 1),
        ("bären", 0),
    ]
    again = passages_of(Bank.open(bank.path), model, WORDS)  # from disk
    assert torch.equal(again.index.words_KT, passages.index.words_KT)
    (tmp_path / "auto").rename(tmp_path / "gone")
    assert len(passages_of(bank, model, WORDS).index) == len(told_KT)  # recalled already
    with pytest.raises(UsageError, match="not found: put it back, or encode the documents anew"):
        passages_of(bank, replace_passage(8), WORDS)


def replace_passage(passage: int) -> copying.Copying:
    return build_model(replace(tiny().shape, passage=passage), V, 0)


@pytest.fixture
def small(monkeypatch):
    for name, value in {"WINDOW": 64, "QUERIES": 16}.items():
        monkeypatch.setattr(training, name, value)


def test_a_head_is_trained_saved_and_read_again(data, tmp_path, small, capsys):
    config = Adapting(base=str(folder()), data=data, windows=8, steps=24, context=16, lr=2e-2)
    summary = adapt(config, tmp_path / "head")
    curve = [row["next"] for row in json.loads((tmp_path / "head" / "adapt.json").read_text())["curve"]]
    assert np.mean(curve[-6:]) < np.mean(curve[:6])
    model = load_model(tmp_path / "head")
    assert model.config.trained_chunks == 16
    assert model.base.fingerprint == tiny().base.fingerprint  # no weight of the base changed
    assert not any(name.startswith("lm.") for name in model.state_dict())
    kept = {path: path.stat().st_mtime_ns for path in (data / "states").rglob("*.npy")}
    assert adapt(config, tmp_path / "again")["losses"] == summary["losses"]
    assert {path: path.stat().st_mtime_ns for path in (data / "states").rglob("*.npy")} == kept
    for file in kept:  # a changed byte in any of them is found, in a copy of the data
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(data, tmp_path / "copy")
        spoilt = tmp_path / "copy" / file.relative_to(data)
        content = spoilt.read_bytes()
        assert main(["doctor", str(tmp_path / "copy")]) == 0
        spoilt.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        capsys.readouterr()
        assert main(["doctor", str(tmp_path / "copy")]) == 1
        assert file.name in capsys.readouterr().out
    bank = a_bank(tmp_path, TEXTS)
    call = ["--prompt", "the sea was", "--memory", str(bank.path), "--max-new-tokens", "3", "--show-memories"]
    assert main(["generate", str(tmp_path / "head"), *call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["read"][0]["document"] == "sea"
    assert "sea" in told["read"][0]["passage"]
    assert "copied" in told
    loaded = memlm.load(tmp_path / "head", device="cpu")
    assert loaded.generate("the sea was", memories=bank, max_new_tokens=3) == told["text"]
    assert main(["adapt", str(folder()), "--data", str(data), "--out", str(tmp_path / "x"), "--context", "99999"]) == 2
    assert "too few for contexts of" in capsys.readouterr().err
    assert main(["adapt", str(folder()), "--data", str(data), "--out", str(tmp_path / "head")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["measure", str(tmp_path / "head"), "--data", str(data), "--out", str(tmp_path / "x")]) == 2
    assert "forms no memories: measure " in capsys.readouterr().err


def test_without_any_training_passages_are_read(tmp_path, capsys):
    bank = a_bank(tmp_path, TEXTS)
    call = ["generate", str(folder()), "--prompt", "a cold wind", "--memory", str(bank.path), "--max-new-tokens", "2"]
    assert main([*call, "--show-memories"]) == 0
    assert "read before the text" in capsys.readouterr().out
    assert main([*call, "--document", "sea"]) == 2
    assert "reads all of a bank" in capsys.readouterr().err
    model = memlm.load(str(folder()), device="cpu")
    assert isinstance(model.generate("a cold wind", memories=bank, max_new_tokens=2), str)
    with pytest.raises(UsageError, match="a whole bank recalls, and no single memories"):
        model.generate("a", memories=bank["sea"])
