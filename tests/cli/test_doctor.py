"""memlm doctor: damage to any file is named; what a run was made from is known by hash; what kills leave is cleared."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import memlm
from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.doctor import examine
from memlm.errors import UsageError

TRAIN = "train slots --data data --out run --steps 4 --batch 8 --eval-every 2 --checkpoint-every 2 --device cpu"
TRAIN += " --model.chunk-tokens 8 --model.memory-dim 16 --model.decoder.width 8 --model.encoder.width 8 --keep 2"
MEASURE = "measure run --data data --out measured --chunks 16 --probe.steps 2 --probe.train-chunks 32 --device cpu"
WROTE = {"data": "data set", "run": "run", "bank": "bank", "measured": "measurement", "page.html": "report"}


@pytest.fixture(scope="module")
def wrote(data, tmp_path_factory) -> Path:
    """One of everything, with its paths seen from this folder."""
    place = tmp_path_factory.mktemp("wrote")
    shutil.copytree(data, place / "data")
    shutil.copytree(data.parent / "source", place / "texts")
    here = Path.cwd()
    os.chdir(place)
    try:
        calls = [TRAIN, MEASURE, "encode run texts --out bank --device cpu", "report run measured --out page.html"]
        for call in calls:
            assert main(call.split()) == 0
    finally:
        os.chdir(here)
    return place


@pytest.fixture
def place(wrote, tmp_path, monkeypatch) -> Path:
    """A copy to spoil."""
    shutil.copytree(wrote, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def test_everything_is_known_and_whole(place, capsys):
    for name, kind in WROTE.items():
        capsys.readouterr()
        assert main(["doctor", name, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["kind"], told["whole"], told["leftovers"]) == (kind, True, [])
        assert kind == "report" or "sha256.json" in told["checked"].values() or kind in ("data set", "bank")
    assert main(["doctor", "texts"]) == 0
    assert "nothing of memlm's" in capsys.readouterr().out
    assert main(["doctor", "."]) == 0
    assert main(["doctor", "nowhere"]) == 2


@pytest.mark.parametrize("name", WROTE)
def test_a_changed_byte_in_any_file_is_found_and_the_file_is_named(place, name, capsys):
    files = [one for one in (place / name).rglob("*") if one.is_file()] or [place / name]
    for file in files:
        if file.parent.name in ("_transactions", "_versions"):
            continue  # Lance's own, which it reads in part: tests/bank/test_bank.py
        content = file.read_bytes()
        cut = content[:-9] if name == "page.html" else bytes([content[0] ^ 1]) + content[1:]
        file.write_bytes(cut)
        assert main(["doctor", name]) == 1, file
        out, err = capsys.readouterr()
        assert file.name in out or "memories.lance is damaged" in out
        assert "is not whole" in err
        file.write_bytes(content)
    assert main(["doctor", name]) == 0


def test_what_killed_writers_left_is_listed_and_cleaned(place, capsys):
    left = [place / ".bank.host~1~1~ab.partial", place / ".bank.abcd1234.partial", place / "bank" / ".x.77.partial"]
    for one in left:
        one.mkdir()
        os.utime(one, (0, 0))
    assert main(["doctor", "bank"]) == 0
    assert capsys.readouterr().out.count("--clean removes it") == 3
    assert all(one.exists() for one in left)
    assert main(["doctor", "bank", "--clean"]) == 0
    assert not any(one.exists() for one in left)
    assert examine(place / "bank").whole


def test_a_run_is_not_gone_on_with_on_other_data(place, capsys):
    then, config = Corpus.open("data").hash, (place / "run" / "environment.json").read_text()
    shutil.rmtree("run/model")
    (place / "run" / "summary.json").unlink()
    prepare = ["prepare", "texts", "--out", "data", "--vocab-size", "290", "--overwrite"]
    assert main(prepare) == 0
    now = Corpus.open("data").hash
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 2
    err = capsys.readouterr().err
    assert then[:12] in err
    assert now[:12] in err
    assert (place / "run" / "environment.json").read_text() == config
    assert main(["doctor", "run"]) == 1
    assert main([*MEASURE.split()]) == 2  # and of another vocabulary, told before anything is asked
    shutil.rmtree("data")
    assert examine(place / "run").whole  # what is gone has not changed


def test_a_bank_whose_run_was_trained_anew_is_not_added_to(place, capsys):
    shutil.rmtree("run")
    assert main([*TRAIN.split(), "--seed", "1"]) == 0
    (place / "more.txt").write_text("one more text")
    capsys.readouterr()
    assert main(["encode", "run", "more.txt", "--out", "bank", "--append"]) == 2
    assert "another encoder" in capsys.readouterr().err
    assert "not added to" in examine(place / "bank").next
    assert main(MEASURE.split()) == 2
    assert "run was " in capsys.readouterr().err


def test_a_run_knows_what_it_started_from(place, capsys):
    again = TRAIN.replace("--out run", "--out second --start run --seed 3")
    assert main(again.split()) == 0
    (place / "second" / "summary.json").unlink()
    shutil.rmtree("run")
    assert main(["train", "--resume", "second"]) == 0  # its checkpoints hold all weights
    assert main([*TRAIN.split(), "--seed", "1"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", "second"]) == 2
    assert "the model run" in capsys.readouterr().err


def test_a_newer_formats_writer_is_named(place, capsys):
    for file, call in {
        "data/data.json": TRAIN.replace("--out run", "--out other"),
        "bank/meta.json": "recall bank",
        "measured/results.json": MEASURE,
    }.items():
        told = json.loads((place / file).read_text())
        (place / file).write_text(json.dumps(told | {"format": 9, "memlm": "8.8"}))
        capsys.readouterr()
        assert main(call.split()) == 2
        assert "format 9, written by memlm" in capsys.readouterr().err


def test_a_newer_config_names_the_version_that_wrote_it(place, capsys):
    for folder, call in {"run": "train --resume run", "run/model": "encode run texts --out other"}.items():
        path = place / folder
        told = json.loads((path / "config.json").read_text())
        told["shape" if "shape" in told else "model"]["surprise"] = 1
        (path / "config.json").write_text(json.dumps(told))
        for beside in ("sha256.json", "environment.json"):
            if (path / beside).exists():
                (path / beside).write_text(json.dumps(json.loads((path / beside).read_text()) | {"memlm": "8.8"}))
        capsys.readouterr()
        assert main(call.split()) == 2
        assert "was written by memlm 8.8" in capsys.readouterr().err


def test_two_trainings_in_one_folder_and_sigterm(place, capsys):
    call = TRAIN.replace("--out run", "--out long").replace("--steps 4", "--steps 100000")
    call = call.replace("--eval-every 2", "--eval-every 50000")
    command = [sys.executable, "-m", "memlm"]
    said = place / "said"
    first = subprocess.Popen([*command, *call.split()], stderr=said.open("w"))
    try:
        while not list((place / "long" / "checkpoints").glob("step-*")):
            assert first.poll() is None
            time.sleep(0.05)
        capsys.readouterr()
        assert main(["train", "--resume", "long"]) == 2
        assert f"is being written by process {first.pid}" in capsys.readouterr().err
        assert (examine(place / "long").held_by or "").startswith(f"process {first.pid}")
        first.send_signal(signal.SIGTERM)
        first.wait(timeout=30)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 128 + signal.SIGTERM
    assert said.read_text().strip().splitlines()[-1] == "memlm: stopped."
    found = examine(place / "long")
    assert found.whole
    assert found.held_by is None
    assert not found.leftovers
    assert not list(place.rglob("*.partial")) and not list(place.rglob("*.lock"))  # noqa: PT018


def test_what_is_not_there_may_have_left_something(place):
    with pytest.raises(UsageError, match="is not there"):
        examine(place / "fresh")
    (place / ".fresh.host~1~1~x.partial").mkdir()
    assert examine(place / "fresh").kind == "nothing"
    assert len(examine(place / "fresh").leftovers) == 1


WRITING = {
    "data.json": "prepare texts --out link --vocab-size 300",
    "summary.json": TRAIN.replace("--out run", "--out link"),
    "meta.json": "encode run texts --out link --device cpu",
    "results.json": MEASURE.replace("--out measured", "--out link"),
    "tasks.json": "tasks data --tokens 120 --examples 2 --out link",
}


@pytest.mark.parametrize("file", WRITING)
def test_a_link_to_an_empty_folder_is_filled_where_it_leads(place, file, capsys):
    (place / "elsewhere").mkdir()
    (place / "link").symlink_to(place / "elsewhere")
    assert main(WRITING[file].split()) == 0
    assert (place / "link").is_symlink()
    assert (place / "elsewhere" / file).is_file()
    assert examine(place / "link").whole
    (place / "nowhere").symlink_to(place / "gone")
    capsys.readouterr()
    assert main(WRITING[file].replace("link", "nowhere").split()) == 2
    assert "which is not there" in capsys.readouterr().err
    assert not (place / "gone").exists()


def test_a_folder_where_nothing_can_be_renamed_over_is_filled(place, monkeypatch):
    for name in ("here", "there"):
        (place / name).mkdir()
    monkeypatch.chdir(place / "here")
    assert main(["prepare", "../texts", "--out", ".", "--vocab-size", "300"]) == 0
    assert main(["prepare", "../texts", "--out", ".", "--vocab-size", "290", "--overwrite"]) == 0
    assert Corpus.open(place / "here", verify=True).vocab_size == 290
    monkeypatch.chdir(place / "there")
    assert main(["encode", "../run", "../texts/document-0.txt", "--out", ".", "--device", "cpu"]) == 0
    assert main(["encode", "../run", "../texts/document-1.txt", "--out", ".", "--append", "--device", "cpu"]) == 0
    found = examine(place / "there")
    assert found.whole
    assert found.next.startswith("2 documents")


def test_without_a_path_it_tells_what_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path))
    monkeypatch.setattr("memlm.installed.EXTRAS", {"numpy": "core", "no_such_package": "some", "json": "some"})
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "book.txt").write_bytes(bytes(2_500_000))
    (tmp_path / "link").symlink_to(tmp_path / "corpus" / "book.txt")
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["caches"]["downloads"] == {"path": str(tmp_path), "bytes": 2_500_000}
    assert told["threads"] == torch.get_num_threads()
    assert told["packages"]["torch"] == torch.__version__
    assert told["extras"]["core"]["install"] is None
    assert told["extras"]["some"]["packages"]["no_such_package"] is None
    assert told["extras"]["some"]["install"] == "pip install 'memlm[some]'"
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"memlm {memlm.__version__}" in said
    assert f"downloads, 2.5 MB in {tmp_path}" in said
    assert "no_such_package missing, " in said
    assert main(["doctor", "--clean"]) == 2
    assert "needs a path" in capsys.readouterr().err
