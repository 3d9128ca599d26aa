"""Tasks made of a corpus: the same for the same seed, what they say they are, or one sentence."""

import json

import pytest

from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.evaluate.local import make_tasks


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["EMPTY"], "not a prepared data set"),
        (["DATA", "--tokens", "8"], "48 tokens at least"),
        (["DATA", "--tokens", "100000"], "no document is as long"),
    ],
)
def test_tasks_that_cannot_be_made_are_one_sentence(argv, expected, data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "DATA": data}
    assert main(["tasks", *(str(places.get(word, word)) for word in argv), "--out", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_made_tasks_are_the_same_for_the_same_seed_and_fit(data, tasks, tmp_path):
    make_tasks(data, tmp_path / "again", tokens=140, examples=12, seed=3)
    make_tasks(data, tmp_path / "other", tokens=140, examples=12, seed=4)
    tokenizer = Corpus.open(data).tokenizer
    for file in sorted(tasks.glob("*.jsonl")):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
        assert file.read_bytes() != (tmp_path / "other" / file.name).read_bytes()
        for line in map(json.loads, file.read_text().splitlines()):
            for answer in line.get("choices") or [line.get("answer", "")]:
                assert 70 < len(tokenizer.encode(line.get("context", line.get("text")) + answer).ids) <= 140


def test_made_examples_are_what_they_say(tasks):
    rows = {file.stem: list(map(json.loads, file.read_text().splitlines())) for file in tasks.glob("*.jsonl")}
    for row in rows["memlm_lastword"]:
        word = row["answer"].strip()
        before = row["context"].rindex(f"{word}") if word in row["context"] else None
        assert before is not None
        assert len(row["context"]) + 1 - before == row["characters_back"] >= len(row["context"]) // 2
    for row in rows["memlm_needle"]:
        who = row["context"].split()[-3]
        assert f"{who} has the{row['choices'][row['answer']]}." in row["context"]
        assert all(f" has the{thing}." in row["context"] for thing in row["choices"])
        assert len(set(row["choices"])) == 4
    assert len({row["answer"] for row in rows["memlm_needle"]}) > 1
    assert all(len(row["choices"]) == 4 for row in rows["memlm_continue"])
