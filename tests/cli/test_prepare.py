import json
from pathlib import Path

import pytest

from memlm.cli import main


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
    assert "tail of the only document" in out
    assert main([*call, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["path"] == str(tmp_path / "data")
    assert told["vocab_size"] <= 300


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.txt", "--out", "data"], 2, "is not there"),
        (["{text}", "--out", "{text}"], 2, "is a file"),
        (["{text}", "--out", "{text}/below"], 1, "cannot be written"),
        (["{text}", "--out", "data", "--hold-out", "other"], 2, "there are text"),
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
