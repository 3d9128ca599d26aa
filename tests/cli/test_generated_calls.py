"""Every option of every command, set to wrong values of its type: one sentence, exit code 2, nothing left behind.

All of them with MEMLM_LONG=1; else of each option an empty value and one other.
"""

import json
import os
import zlib
from collections import Counter
from pathlib import Path

import pytest
from banks import autoencoder, memory_model, tokenizer
from fuzz_targets import TASK
from made_up_runs import write_measurement
from texts import TEXT
from tiny_models import save_tiny
from wrong_calls import WrongCall, in_place, wrong_calls

from memlm.cli import COMMANDS, main
from memlm.loading import save_model


@pytest.fixture(scope="module")
def right(data, tmp_path_factory) -> dict[str, list[str]]:
    """A right call of every command, with as little to do as there can be."""
    place = tmp_path_factory.mktemp("right")
    model = autoencoder()
    save_model(model, tokenizer(), place / "auto")
    save_model(memory_model(model), tokenizer(), place / "reads")
    (place / "rows.jsonl").write_text("".join(json.dumps({"text": TEXT * 20}) + "\n" for _ in range(4)))
    (place / "tiny.yaml").write_text(TASK)
    (place / "tiny.jsonl").write_text('{"context": "the sea", "answer": "was"}\n' * 3)
    write_measurement(place / "measured")
    old_bank = str(Path(__file__).parent.parent / "old_banks" / "float16")
    tiny = str(save_tiny("llama", place / "llama"))
    rows, auto, text = str(place / "rows.jsonl"), str(place / "auto"), ["--data", str(data), "--out", "OUT"]
    assert main(["encode", auto, rows, "--out", str(place / "bank")]) == 0
    few = ["--probe.steps", "1", "--probe.train-chunks", "20", "--chunks", "4", "--no-access"]
    return {
        "demo": ["demo", "--source", rows, "--out", "OUT", "--scale", "1e-9"],
        "claims": ["claims", "--source", rows, "--out", "OUT", "--scale", "1e-9", "--only", "C2"],
        "prepare": ["prepare", rows, "--out", "OUT", "--vocab-size", "300"],
        "train slots": ["train", "slots", *text, "--steps", "1", "--batch", "2", "--device", "cpu"],
        "train memory": ["train", "memory", *text],
        "adapt": ["adapt", tiny, *text, "--windows", "1", "--steps", "1", "--context", "1", "--device", "cpu"],
        "measure": ["measure", auto, *text, *few],
        "encode": ["encode", auto, rows, "--out", "OUT"],
        "bank info": ["bank", "info", str(place / "bank")],
        "bank list": ["bank", "list", str(place / "bank")],
        "bank search": ["bank", "search", str(place / "bank"), "--text", "the sea"],
        "bank remove": ["bank", "remove", str(place / "bank"), "rows:1"],
        "bank compact": ["bank", "compact", str(place / "bank")],
        "bank convert": ["bank", "convert", old_bank, "--out", "OUT"],
        "recall": ["recall", str(place / "bank"), "--against", rows],
        "generate": ["generate", str(place / "reads"), "--prompt", "the sea", "--max-new-tokens", "1", "--sample"],
        "serve": ["serve", str(place / "reads"), "--port", "0"],
        "tasks": ["tasks", str(data), "--tokens", "60", "--examples", "2", "--out", "OUT"],
        "eval": ["eval", str(place / "reads"), "--tasks", str(place / "tiny.yaml"), "--out", "OUT"],
        "export": ["export", auto, "--out", "OUT"],
        "report": ["report", str(place / "measured"), "--out", "OUT.html"],
        "leaderboard": ["leaderboard", str(place / "measured"), "--out", "OUT.md"],
        "doctor": ["doctor", str(place / "measured")],
        "bench": ["bench", "tokenise", *text],
        "completion": ["completion", "bash"],
    }


@pytest.fixture(scope="module")
def wrong(right) -> list[WrongCall]:
    return [*wrong_calls(right)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_value_of_any_option_is_one_sentence(command, wrong, tmp_path, monkeypatch, capsys):
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    made = {"FILE": "picture.txt", "EMPTY": "empty", "LOOP": "loop", "MISSING": "missing"}
    places = {word: tmp_path / name for word, name in made.items()}
    places |= {word: tmp_path / word.lower() for word in ("OUT", "OUT.html", "OUT.md")}
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    long, tried = os.environ.get("MEMLM_LONG"), Counter()
    calls = [call for call in wrong if call.command == command]
    every = {call.option for call in calls}
    for call in calls:
        others = [one.value for one in calls if one.option == call.option and one.value]
        if not long and call.value and call.value != others[zlib.crc32(call.option.encode()) % len(others)]:
            continue
        if not long and (call.command, call.option, call.value) == ("eval", "--tasks", "no-such-word"):
            continue  # reads lm-eval's registry of thousands of files
        if not long and call.option.startswith(("--stages.autoencoder.", "--stages.read.")):
            continue  # have the same options as the third stage
        _, _, same = call.option.partition("--stages.combined.")
        if not long and same and not same.startswith("model.") and f"--{same}" in every:
            continue  # nor has it others than a run but for its model
        tried[call.option] += 1
        told = (call.option, call.value)
        assert main(in_place(call.argv, places)) == 2, (told, capsys.readouterr())
        out, err = capsys.readouterr()
        err = err.removeprefix("1/7 corpus\n")  # the demo tells its steps
        assert out == "", told
        assert err.startswith("memlm: "), (told, err)
        assert err.count("\n") == 1, (told, err)
        assert sorted(Path(tmp_path).rglob("*")) == before, told
    print(f"{command}: {sum(tried.values())} wrong calls of {len(tried)} options and arguments")
    assert tried
