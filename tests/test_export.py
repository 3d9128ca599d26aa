"""memlm export: a folder that the hub's tools and every command take, equal to the byte whenever it is made."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from banks import PERFECT, TEXTS, autoencoder, files, memory_model, tokenizer
from huggingface_hub import ModelCard
from tiny_models import own_tokenizer, save_tiny
from transformers import AutoModel

import memlm
from memlm.cli import main
from memlm.data.corpora import CORPORA
from memlm.errors import UsageError
from memlm.export import export
from memlm.files import read_json, write_json
from memlm.loading import build_model, save_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.pretrained.shapes import BaseConfig, PretrainedShape, SoftTokens
from memlm.protocol import PROTOCOL
from memlm.train.config import TrainConfig
from memlm.train.loop import train

SLOTS = EncoderShape(chunk_tokens=8, memory_dim=16, stack=PERFECT.encoder, readout="slots")
MEASURE = "--chunks 16 --probe.steps 2 --probe.train-chunks 32 --device cpu"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run, and a measurement of it."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(TrainConfig(data=data, model=PERFECT, steps=2, batch=8, eval_chunks=8, device="cpu"), run)
    measured = ["measure", str(run), "--data", str(data), "--out", str(run.parent / "measured"), *MEASURE.split()]
    assert main(measured) == 0
    return run


@pytest.fixture
def perfect(tmp_path) -> Path:
    """A saved folder of an autoencoder that loses nothing."""
    save_model(autoencoder(), tokenizer(), tmp_path / "perfect")
    return tmp_path / "perfect"


def test_two_exports_are_equal_to_the_byte_and_the_weights_are_the_runs(run, tmp_path, capsys):
    told = []
    for name in ("one", "other"):
        call = ["export", str(run), "--out", str(tmp_path / name), "--measured", str(run.parent / "measured")]
        assert main([*call, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert files(tmp_path / "one") == files(tmp_path / "other")
    assert told[0]["sha256"] == told[1]["sha256"]
    assert {name: files(tmp_path / "one")[name] for name in files(run / "model") if name != "sha256.json"} == {
        name: content for name, content in files(run / "model").items() if name != "sha256.json"
    }
    assert export(run, tmp_path / "bare")["sha256"] != told[0]["sha256"]  # another card


def test_the_card_is_one_that_the_hub_reads(run, data, tmp_path):
    export(run, tmp_path / "out", [run.parent / "measured"], language="en")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.language, card.data.library_name) == ("mit", "en", "memlm")
    rows = [row for row in read_json(run.parent / "measured/results.json")["results"] if row["model"] == "tiny"]
    told = {(one.metric_type, one.metric_name): one.metric_value for one in card.data.eval_results}
    own = next(row for row in rows if row["training"] == "autoencoder" and row["decoder"] == "own")
    assert told["usable_bits_per_token", "usable bits by its own decoder"] == round(own["usable_bits_per_token"], 5)
    assert len(told) == 6
    meta, environment = read_json(data / "data.json"), read_json(run / "environment.json")
    by = f"By protocol {PROTOCOL}"
    for said in (meta["hash"], environment["commit"], "| steps | 2 |", by, "| train | 6 |", "no memory"):
        assert said in card.text
    assert str(run.parent) not in card.content  # no place of this machine
    assert str(data.parent) not in card.content


def test_every_command_takes_the_folder(perfect, run, data, tmp_path, capsys):
    out = str(tmp_path / "out")
    export(perfect, Path(out))
    model = memlm.load(out, device="cpu")
    assert model.decode(model.encode([*TEXTS.values()])) == [*TEXTS.values()]
    assert type(AutoModel.from_pretrained(out)).__name__ == "Autoencoder"
    (tmp_path / "sea.txt").write_text(TEXTS["sea"])
    export(run, tmp_path / "trained")
    save_model(memory_model(autoencoder(), "pointer"), tokenizer(), tmp_path / "reads")
    export(tmp_path / "reads", tmp_path / "reader")
    few = ["--data", str(data), *MEASURE.split()]
    for call in (
        ["doctor", out],
        ["encode", out, str(tmp_path / "sea.txt"), "--out", str(tmp_path / "bank")],
        ["recall", str(tmp_path / "bank"), "--model", out],
        ["generate", str(tmp_path / "reader"), "--prompt", "the sea", "--memory", str(tmp_path / "bank")],
        ["measure", str(tmp_path / "trained"), "--out", str(tmp_path / "measured"), *few],
        ["export", out, "--out", str(tmp_path / "again")],
    ):
        assert main(call) == 0, (call, capsys.readouterr())
    config = TrainConfig(data=data, model=PERFECT, steps=1, batch=2, eval_chunks=2, device="cpu")
    train(replace(config, start=tmp_path / "trained"), tmp_path / "started")
    assert "SHA-256" in capsys.readouterr().out


def test_a_corpus_known_by_name_is_told_in_words(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    told = read_json(copy / "config.json")
    shutil.copytree(told["data"], tmp_path / "data")
    meta = read_json(tmp_path / "data" / "data.json")
    meta["config"]["source"] = "gutenberg"
    write_json(tmp_path / "data" / "data.json", meta)
    write_json(copy / "config.json", told | {"data": str(tmp_path / "data")})
    export(copy, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.language == "en"
    assert CORPORA["gutenberg"].about in card.text
    write_json(tmp_path / "data" / "data.json", meta | {"hash": "0" * 64})  # other data than those of the run
    export(copy, tmp_path / "other")
    assert "gutenberg" not in (tmp_path / "other" / "README.md").read_text()


def test_what_cannot_be_shipped_is_one_sentence(run, perfect, tmp_path):
    with pytest.raises(UsageError, match="measured other models, or other weights"):
        export(perfect, tmp_path / "out", [run.parent / "measured"])
    with pytest.raises(UsageError, match="is not there"):
        export(run, tmp_path / "out", [tmp_path])
    with pytest.raises(UsageError, match="no language"):
        export(run, tmp_path / "out", language="English")
    tokens = perfect / "tokenizer.json"
    tokens.write_bytes(tokens.read_bytes().replace(b"the", b"hte", 1))
    with pytest.raises(UsageError, match=re.escape(f"{tokens} is damaged")):
        export(perfect, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export(run, tmp_path / "taken")


def test_weights_of_others_need_a_licence(tmp_path):
    base = str(save_tiny("llama", tmp_path / "base"))
    shape = PretrainedShape(reader=SoftTokens(width=6, hidden=10), encoder=SLOTS, decoder=BaseConfig(name=base))
    save_model(build_model(shape, 292, 0), own_tokenizer(), tmp_path / "soft")
    with pytest.raises(UsageError, match="--license"):
        export(tmp_path / "soft", tmp_path / "out")
    export(tmp_path / "soft", tmp_path / "out", license="apache-2.0")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0"
    assert "over `base`" in card.text
