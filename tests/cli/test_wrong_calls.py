"""Wrong calls: one clear sentence on stderr, nothing on stdout, the right exit code, nothing left behind."""

import subprocess
import sys
import time

import pytest

from memlm.cli import COMMANDS, main

WRONG = {
    "no such command": (["remember"], "no command 'remember'"),
    "no such preset": (["train", "slotz", "--out", "x"], "no preset 'slotz'"),
    "preset missing": (["train", "--out", "x"], "a preset comes first"),
    "resume what": (["train", "--resume"], "needs a name"),
    "resume nothing": (["train", "--resume", "nowhere"], "nowhere/config.json is not there"),
    "config absent": (["train", "--config", "nowhere.json", "--out", "x"], "nowhere.json is not there"),
    "data absent": (["train", "slots", "--data", "nowhere", "--out", "x"], "not a prepared data set"),
    "impossible shape": (["train", "slots", "--model.decoder.width", "0", "--out", "x"], "width"),
    "no steps": (["train", "slots", "--steps", "0", "--out", "x"], "steps must be at least 1"),
    "objective of another model": (["train", "slots", "--objective", "causal", "--out", "x"], "does not fit"),
    "model absent": (["measure", "nowhere", "--data", "DATA", "--out", "x"], "nowhere is not there"),
    "nothing to measure": (["measure", "--data", "DATA", "--out", "x"], "name at least one model"),
    "tracker absent": (
        ["train", "slots", "--data", "DATA", "--trackers", "nope", "--out", "x"],
        "'nope' is not installed",
    ),
    "no such benchmark": (["bench", "everything"], "no benchmark 'everything'"),
    "report of nothing": (["report", "nowhere", "--out", "page.html"], "nowhere"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_one_sentence(name, data, tmp_path, monkeypatch, capsys):
    argv, expected = WRONG[name]
    monkeypatch.chdir(tmp_path)
    code = main([str(data) if word == "DATA" else word for word in argv])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.startswith("memlm: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_an_unknown_option_is_told_and_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "memlm", "train", "slots", "--no-such-option"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "no-such-option" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_defect_is_told_in_one_sentence_with_the_details_in_a_file(monkeypatch, capsys):
    monkeypatch.setattr("memlm.presets.preset", None)
    monkeypatch.setattr("memlm.cli.train.preset", None)
    monkeypatch.delenv("MEMLM_DEBUG", raising=False)
    assert main(["train", "slots"]) == 1
    err = capsys.readouterr().err
    assert "should not happen" in err
    assert err.count("\n") == 1


def test_help_lists_every_command_and_answers_before_torch_could_be_loaded():
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "memlm", "--help"], capture_output=True, text=True)
    assert time.perf_counter() - started < 5  # memlm bench startup holds the real bar
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)
    for heavy in ("torch", "transformers", "numpy", "tyro", "rich"):
        assert f"| {heavy}\n" not in done.stderr.replace(" ", "").replace("|", "| ")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "bench"])
def test_every_command_explains_itself_without_torch(command):
    code = f"import sys; from memlm.cli import main; main([{command!r}, '--help'])"
    check = "assert 'torch' not in sys.modules"
    program = f"try:\n    {code}\nexcept SystemExit as end:\n    assert not end.code\n{check}"
    done = subprocess.run([sys.executable, "-c", "import sys\n" + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"memlm {command}" in done.stdout
