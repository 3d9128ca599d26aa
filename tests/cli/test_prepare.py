import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memlm.cli import main
from memlm.data.packing import TokenWriter


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("Some words that make a text.\n\n" * 100)
    return path


def test_people_get_a_summary_and_programs_one_object(
    text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = ["prepare", str(text), "--out", str(tmp_path / "data"), "--vocab-size", "300"]
    assert main(call) == 0
    out = capfd.readouterr().out
    assert "tokens of 1 documents to train on" in out
    assert "a draw of 0.05 of the text, seed 0" in out
    assert main([*call, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["path"] == str(tmp_path / "data")
    assert told["vocab_size"] <= 300


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.txt", "--out", "data"], 2, "is not there"),
        (["{text}", "--out", "{text}"], 2, "is a file"),
        (["{text}", "--out", "{text}/below"], 2, "is no folder"),
        (["{text}", "--out", "data", "--test", "other"], 2, "there are text"),
        (["{text}", "--out", "data", "--vocab-size", "3"], 2, "258"),
    ],
)
def test_a_bad_call_gets_one_sentence(
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *(argument.format(text=text) for argument in arguments)]) == code
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("training a tokenizer")]
    assert out == ""
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_ctrl_c_does(number, text: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(TokenWriter, "append", lambda *_: os.kill(os.getpid(), number))
    assert main(["prepare", str(text), "--out", str(tmp_path / "data"), "--vocab-size", "300"]) == 128 + number
    assert capsys.readouterr().err.endswith("memlm: stopped.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    assert signal.getsignal(number) == before


def test_a_stream_without_the_letters_gets_escapes(text: Path, tmp_path: Path) -> None:
    named = tmp_path / "東京" / os.fsdecode(b"caf\xe9.txt")
    named.parent.mkdir()
    text.rename(named)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    call = [sys.executable, "-m", "memlm", "prepare", str(named.parent), "--out", str(tmp_path / "データ")]
    done = subprocess.run([*call, "--vocab-size", "300"], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert rb"\u30c7\u30fc\u30bf: " in done.stdout
    assert (tmp_path / "データ" / "data.json").is_file()


def test_what_the_system_refuses_is_one_sentence(tmp_path: Path, capsys) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for source in ("x" * 5000, str(tmp_path / "loop"), "~nosuchuser/x.txt", "nul\0in.txt"):
        assert main(["prepare", source, "--out", str(tmp_path / "data")]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err[:7]) == ("", 1, "memlm: ")


def test_too_little_memory_is_no_defect(text: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 80.0 TiB")

    monkeypatch.setattr(TokenWriter, "append", full)
    assert main(["prepare", str(text), "--out", str(tmp_path / "data"), "--vocab-size", "300"]) == 1
    assert "too little memory (Unable to allocate 80.0 TiB)" in capsys.readouterr().err
