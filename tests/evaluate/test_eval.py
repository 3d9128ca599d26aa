"""The whole command on tiny models and task files, without a network: rows, controls, warnings and refusals."""

import json
import shutil

import numpy as np
import pytest
from memory_models import ENCODERS, HEADS, TRANSFORMER, T

from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.doctor import examine
from memlm.loading import build_model, save_model
from memlm.models.shapes import AutoencoderShape, CausalShape, MemoryShape
from memlm.nn.config import StackConfig

SHAPES = {
    "reading": MemoryShape(encoder=ENCODERS[2], decoder=TRANSFORMER, chunks=40),
    "causal": CausalShape(chunk_tokens=60, stack=HEADS),
    "autoencoder": AutoencoderShape(chunk_tokens=T, encoder=HEADS, decoder=StackConfig(kind="mixer", width=8)),
}
YAML = """
task: tiny
dataset_path: json
dataset_kwargs:
  data_files:
    test: tiny.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
WRITES = """
task: writes
dataset_path: json
dataset_kwargs:
  data_files:
    test: tiny.jsonl
test_split: test
output_type: generate_until
doc_to_text: context
doc_to_target: answer
generation_kwargs: {until: [], max_gen_toks: 3}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
LINES = [
    {"context": "the sea was calm and the old men told", "choices": [" stories", " ships"], "answer": i % 2}
    for i in range(4)
]


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    corpus, place = Corpus.open(data), tmp_path_factory.mktemp("models")
    for name, shape in SHAPES.items():
        save_model(build_model(shape, corpus.vocab_size, 0), corpus.tokenizer, place / name)
    return place


def write_task(folder, yaml=YAML, lines=LINES):
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml)
    if lines is not None:
        (folder / "tiny.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "tiny.yaml"


def call(capsys, *argv):
    code = main(["eval", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def test_models_and_conditions_stand_in_one_report(models, tasks, tmp_path, capsys):
    out = tmp_path / "out"
    code, told, err = call(
        capsys, models / "reading", models / "causal", "--tasks", tasks, "--out", out, "--limit", 6, "--json"
    )
    assert code == 0, err
    report = json.loads((out / "eval.json").read_text())
    assert json.loads(told) == report
    rows = report["results"]
    made = json.loads((tasks / "tasks.json").read_text())["tasks"]
    assert {row["task"] for row in rows} == set(made)
    assert {(row["model"], row["condition"]) for row in rows} == {
        *(("reading", condition) for condition in ("own", "none", "random")),
        ("causal", "own"),
    }
    for row in rows:
        assert row["n"] == 6
        assert row["value_ci"][0] <= row["value"] <= row["value_ci"][1]
        assert all(row[key] is not None for key in ("seed", "device", "commit", "tokenizer", "data", "lm_eval"))
        none = row["model"] == "causal" or row["condition"] == "none"
        assert (row["memories_max"] == 0) == (row["without_memories"] == 1) == none
        assert (row["difference"] is None) == (row["condition"] == "own" and row["model"] == "reading")
        assert (row["truncated"] > 0) == (row["model"] == "causal")
        if row["difference_of"]:
            assert row["difference_ci"][0] <= row["difference"] <= row["difference_ci"][1]
            own = next(r for r in rows if (r["task"], r["metric"]) == (row["task"], row["metric"]))
            other = (own["value"], row["value"])
            mine, other = other if row["condition"] != "own" else other[::-1]
            assert row["difference"] == pytest.approx(mine - other)
    assert len({row["data"] for row in rows}) == len(made)  # every model and condition was asked the same
    assert report["warnings"] == ["causal reads no memories: no figure of it is of any."]
    assert f"warning: {report['warnings'][0]}" in err


def test_conditions_that_were_asked_for_are_run_or_said_to_be_left_out(models, tmp_path, capsys):
    task = write_task(tmp_path / "tasks")
    argv = [models / "reading", models / "causal", "--tasks", task, "--out", tmp_path / "out", "--json"]
    code, out, err = call(capsys, *argv, "--conditions", "random")
    assert code == 0, err
    asked = [(row["model"], row["condition"]) for row in json.loads(out)["results"]]
    assert asked == [("reading", "own"), ("reading", "random"), ("causal", "own")]
    assert "causal cannot be asked under the condition random: left out." in err


def test_a_task_of_writing_counts_what_was_read_meanwhile(models, data, tmp_path, capsys):
    yaml = YAML.replace("multiple_choice", "generate_until").replace("metric: acc", "metric: exact_match")
    yaml = yaml.replace("doc_to_choice: choices\n", "generation_kwargs: {until: [], max_gen_toks: 5}\n")
    contexts = ("the sea was calm and a cold wind", "old men told long stories of ships")
    lines = [{"context": context, "answer": "came"} for context in contexts]
    argv = ["--tasks", write_task(tmp_path / "tasks", yaml, lines), "--out", tmp_path / "out", "--json"]
    code, out, err = call(capsys, models / "reading", *argv)
    assert code == 0, err
    rows = json.loads(out)["results"]
    assert {row["metric"] for row in rows} == {"exact_match"}
    counts = {row["condition"]: (row["memories_min"], row["memories_max"]) for row in rows}
    full = [len(Corpus.open(data).tokenizer.encode(context).ids) // T for context in contexts]
    written = counts["none"][1]  # chunks that were filled by what was written
    assert 0 < written <= 2
    assert counts == {"own": (min(full), max(full) + written), "none": (0, written), "random": counts["own"]}


def test_more_memories_than_in_training_are_warned_of(models, tmp_path, capsys):
    lines = [line | {"context": "the sea was calm " * 60} for line in LINES]
    task = write_task(tmp_path / "tasks", lines=lines)
    code, _, err = call(capsys, models / "reading", "--tasks", task, "--out", tmp_path / "out")
    assert code == 0, err
    assert "memories, where training had 39" in err


def test_contexts_shorter_than_a_chunk_are_warned_of(models, tmp_path, capsys):
    lines = [line | {"context": "", "choices": [" a", " b"]} for line in LINES]
    task = write_task(tmp_path / "tasks", lines=lines)
    code, out, err = call(capsys, models / "reading", "--tasks", task, "--out", tmp_path / "out")
    assert code == 0, err
    assert "reading, tiny: no example used a memory" in err
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[3] for row in rows] == ["own", "none", "random"]
    assert all(row[-1] == "100%" and row[-2] == "0" for row in rows)


def test_asked_twice_it_says_the_same_whichever_folder_it_is_called_from(models, tmp_path, capsys, monkeypatch):
    task = write_task(tmp_path / "tasks")
    results = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        argv = [models / "reading", "--tasks", task, "--out", "out", "--num-fewshot", 1, "--json"]
        code, out, err = call(capsys, *argv)
        assert code == 0, err
        results.append(json.loads(out)["results"])
    assert results[0] == results[1]
    assert {row["few_shot"] for row in results[0]} == {1}


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_an_interrupted_evaluation_goes_on_and_says_what_it_would_have_said(
    stop, models, tasks, tmp_path, capsys, monkeypatch
):
    from memlm.evaluate.answers import Answers

    writes = write_task(tmp_path / "writes", WRITES, LINES)
    argv = [
        models / "reading",
        models / "causal",
        "--tasks",
        f"{tasks / 'memlm_text.yaml'},{tasks / 'memlm_needle.yaml'},{writes}",
    ]
    argv += ["--limit", 4, "--batch", 3, "--log-samples"]
    code, _, err = call(capsys, *argv, "--out", tmp_path / "whole")
    assert code == 0, err
    asked, of = [], Answers.of

    def stopped(self, name, ask):
        known = name in self._known
        if len(asked) == stop and not known and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        asked.extend([] if known else [name])
        return of(self, name, ask)

    monkeypatch.setattr(Answers, "of", stopped)
    assert call(capsys, *argv, "--out", tmp_path / "out")[0] == 130
    assert not (tmp_path / "out" / "eval.json").exists()
    with (tmp_path / "out" / "answers.jsonl").open("ab") as file:
        file.write(b'{"asked": "cut sho')  # a kill in the midst of a line
    assert "goes on from" in examine(tmp_path / "out").next
    before = [*asked]
    code, _, err = call(capsys, *argv, "--out", tmp_path / "out")
    assert code == 0, err
    assert "goes on" in err
    assert not set(before) & set(asked[len(before) :])  # nothing is asked twice
    whole, out = (json.loads((tmp_path / name / "eval.json").read_text()) for name in ("whole", "out"))
    assert out["results"] == whole["results"]
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == (tmp_path / "whole" / "samples.jsonl").read_bytes()
    assert not (tmp_path / "out" / "answers.jsonl").exists()
    assert examine(tmp_path / "out").whole
    assert examine(tmp_path / "out").checked["samples.jsonl"] == "sha256.json"


def test_the_figures_of_a_report_can_be_made_again_from_its_samples(models, tasks, tmp_path, capsys):
    argv = [models / "reading", "--tasks", tasks / "memlm_continue.yaml", "--out", tmp_path / "out", "--log-samples"]
    code, out, err = call(capsys, *argv, "--json")
    assert code == 0, err
    rows = [row for row in json.loads(out)["results"] if row["metric"] == "acc"]
    lines = list(map(json.loads, (tmp_path / "out" / "samples.jsonl").read_text().splitlines()))
    values = {}
    for line in lines:
        assert line["arguments"]
        assert line["resps"]
        values.setdefault(line["condition"], {})[line["doc_id"]] = line["values"]["acc"]
    assert {row["condition"] for row in rows} == values.keys() == {"own", "none", "random"}
    for row in rows:
        mine = values[row["condition"]]
        assert row["value"] == pytest.approx(np.mean([*mine.values()]))
        if row["condition"] != "own":
            assert row["difference"] == pytest.approx(np.mean([values["own"][i] - mine[i] for i in mine]))
            assert row["difference_of"] == f"own - {row['condition']}"
        read = [line["memories"] for line in lines if line["condition"] == row["condition"]]
        assert [min(r[0] for r in read), max(r[2] for r in read)] == [row["memories_min"], row["memories_max"]]


@pytest.mark.parametrize("how", ["function", "included", "metric", "template"])
def test_code_in_a_task_file_runs_only_if_it_is_trusted(how, models, tmp_path, capsys):
    proof = tmp_path / "ran"
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "code.py").write_text(f"open({str(proof)!r}, 'w')\ndef text(doc): return doc['context']")
    yaml, said = YAML, "runs code (!function code.text)"
    if how == "function":
        yaml = YAML.replace("doc_to_text: context", "doc_to_text: !function code.text")
    if how == "included":
        (tmp_path / "task" / "base.txt").write_text("doc_to_text: !function code.text")
        yaml = YAML.replace("doc_to_text: context", "include: base.txt")
    if how == "metric":
        yaml, said = (
            YAML.replace("metric: acc", "metric: code.py"),
            "the metric code.py, which is none of lm-eval's own",
        )
    if how == "template":
        inside = "{{ cycler.__init__.__globals__.os.system('touch ' ~ '" + str(proof) + "') }}"
        yaml, said = YAML.replace("doc_to_text: context", f'doc_to_text: "{inside}"'), "unsafe"
    argv = [models / "reading", "--tasks", write_task(tmp_path / "task", yaml), "--out", tmp_path / "out"]
    code, _, err = call(capsys, *argv)
    assert code == 2, err
    assert said in err.splitlines()[-1]
    assert ("--trust-tasks" in err) == (how != "template")
    assert not proof.exists()
    if how in ("function", "included"):
        code, _, err = call(capsys, *argv, "--trust-tasks")
        assert code == 0, err
        assert proof.exists()


def test_a_chat_template_is_the_models_own_or_one_sentence(models, data, tmp_path, capsys):
    argv = ["--tasks", write_task(tmp_path / "task"), "--chat-template", "--json"]
    code, _, err = call(capsys, models / "reading", *argv, "--out", tmp_path / "out")
    assert code == 2
    assert "has no chat template: leave out --chat-template" in err
    shutil.copytree(models / "reading", tmp_path / "reading")
    (tmp_path / "reading" / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.content }}]{% endfor %} so:"
    )
    code, out, err = call(
        capsys, tmp_path / "reading", *argv, "--out", tmp_path / "out", "--log-samples", "--num-fewshot", 1
    )
    assert code == 0, err
    assert {row["chat_template"] for row in json.loads(out)["results"]} == {True}
    prompt, answer = json.loads((tmp_path / "out" / "samples.jsonl").read_text().splitlines()[0])["arguments"][0]
    context = LINES[0]["context"]
    assert prompt.startswith(f"[{context}][ st") or prompt.startswith(f"[{context}][ sh")
    assert prompt.endswith(f"][{context}] so:")
    assert answer == " stories"


WRONG = {
    "no model": (["--tasks", "TASK"], "name at least one model"),
    "no task": (["READING"], "name at least one model, and tasks"),
    "model absent": (["nowhere", "--tasks", "TASK"], "nowhere is not there"),
    "predicts no tokens": (["AUTOENCODER", "--tasks", "TASK"], "predicts no tokens (it is of kind autoencoder)"),
    "same model twice": (["READING", "READING", "--tasks", "TASK"], "two of the models are called reading"),
    "file absent": (["READING", "--tasks", "no.yaml"], "no.yaml is not there"),
    "empty folder": (["READING", "--tasks", "EMPTY"], "holds no task files"),
    "broken yaml": (["READING", "--tasks", "BROKEN"], "is no task file that can be read (ParserError"),
    "nameless": (["READING", "--tasks", "NAMELESS"], "names no task"),
    "no such field": (["READING", "--tasks", "FIELD"], "cannot be used"),
    "data absent": (["READING", "--tasks", "DATALESS"], "wants tiny.jsonl beside it, which is not there"),
    "broken data": (["READING", "--tasks", "BROKENDATA"], "cannot be used"),
    "task twice": (["READING", "--tasks", "TASK,TASK"], "the task tiny is asked for twice"),
    "lists in lists": (["READING", "--tasks", "DEEP"], "nested deeper than 100"),
    "data in data": (["READING", "--tasks", "ABYSS"], "nested deeper than 1000"),
    "no object": (["READING", "--tasks", "NULL"], "tiny.jsonl:1 is no JSON object"),
    "one document": (["READING", "--tasks", "ALONE"], "one has no interval"),
    "empty answer": (["READING", "--tasks", "ANSWERLESS"], "empty answer in document 1"),
    "too long an answer": (["CAUSAL", "--tasks", "LONG"], "the model has room for 61"),
    "too many shots": (["READING", "--tasks", "TASK", "--num-fewshot", "4"], "too few to show 4"),
    "no such condition": (["READING", "--tasks", "TASK", "--conditions", "own,all"], "no condition 'all'"),
    "limit": (["READING", "--tasks", "TASK", "--limit", "1"], "limit must be at least 2"),
    "batch": (["READING", "--tasks", "TASK", "--batch", "0"], "batch must be at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_one_sentence(name, models, data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {
        "READING": models / "reading",
        "CAUSAL": models / "causal",
        "AUTOENCODER": models / "autoencoder",
        "DATA": data,
        "EMPTY": tmp_path / "empty",
        "TASK": write_task(tmp_path / "task"),
        "BROKEN": write_task(tmp_path / "broken", "task: [tiny\nof: it: all"),
        "DEEP": write_task(tmp_path / "deep", "[" * 100_000),
        "ABYSS": write_task(tmp_path / "abyss"),
        "NULL": write_task(tmp_path / "null"),
        "ALONE": write_task(tmp_path / "alone", lines=LINES[:1]),
        "NAMELESS": write_task(tmp_path / "nameless", YAML.replace("task: tiny", "tusk: tiny")),
        "FIELD": write_task(tmp_path / "field", YAML.replace("doc_to_target: answer", "doc_to_target: '{{no.such}}'")),
        "DATALESS": write_task(tmp_path / "dataless", lines=None),
        "BROKENDATA": write_task(tmp_path / "brokendata"),
        "ANSWERLESS": write_task(tmp_path / "answerless", lines=[LINES[0], LINES[0] | {"choices": ["", " a"]}]),
        "LONG": write_task(tmp_path / "long", lines=[LINES[0] | {"choices": [" ships" * 90, " a"]}] * 3),
    }
    (tmp_path / "null" / "tiny.jsonl").write_text("null")
    (tmp_path / "abyss" / "tiny.jsonl").write_text("[" * 100_000)
    (tmp_path / "brokendata" / "tiny.jsonl").write_text('{"context": \n')
    argv, expected = WRONG[name]
    argv = [",".join(str(places.get(part, part)) for part in word.split(",")) for word in argv]
    code, out, err = call(capsys, *argv, "--out", tmp_path / "out")
    assert code == 2, err
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("memlm: ")
    assert expected in last
    assert not (tmp_path / "out").exists()


def test_names_of_lm_eval_are_found_or_told_and_data_that_cannot_be_had_are_one_sentence(
    models, tmp_path, capsys, monkeypatch
):
    def offline(*args, **kwargs):
        raise ConnectionError("no route\nto anywhere")

    from lm_eval.tasks import TaskManager

    write_task(tmp_path / "registry")
    registry = TaskManager(
        include_defaults=False, include_path=tmp_path / "registry"
    )  # lm-eval's own takes 5 s to read
    monkeypatch.setattr("memlm.evaluate.loading._manager", lambda registry_too: registry)
    monkeypatch.setattr("datasets.load_dataset", offline)
    code, _, err = call(capsys, models / "reading", "--tasks", "tiny", "--out", tmp_path / "out")
    assert code == 1
    assert err.count("\n") == 1
    assert "the data of tiny cannot be had (ConnectionError: no route): lm-eval fetches it" in err
    code, _, err = call(capsys, models / "reading", "--tasks", "tinyy", "--out", tmp_path / "out")
    assert code == 2
    assert "lm-eval has no task 'tinyy': did you mean tiny?" in err


def test_without_lm_eval_one_sentence_says_what_to_install(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("memlm.cli.eval.find_spec", lambda name: None)
    code, out, err = call(capsys, models / "reading", "--tasks", "tiny.yaml", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "pip install 'memlm[eval]'" in err
