"""benchmarks/kvpress_far.py without kvpress: what it asks, how it reads compressed caches, judges and goes on."""

import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

from memlm.bench import longtext
from memlm.data.corpus import Corpus
from memlm.measure.intervals import wilson
from memlm.pretrained.transplant import SHIFT, tokenizer_for

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kvpress_far.py"
CONTEXTS = (150, 300)
BESIDE = [
    {"task": "cost", "metric": "bytes_kept", "memory": "memory", "context": context, "value": 3 * 2 * 4 * 2 * 4 * 90}
    | {"examples": 1, "value_ci": "-"}
    for context in CONTEXTS
]


@pytest.fixture(scope="module")
def far():
    """The script as it is started: what lies beside it can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("kvpress_far")


@pytest.fixture(scope="module")
def caches(far):
    return sys.modules["kvpress_caches"]


@pytest.fixture(scope="module")
def folder(far, data, tmp_path_factory):
    place = tmp_path_factory.mktemp("kvpress")
    far.ask(place / "asked", data, str(save_tiny("llama", place / "llama")), CONTEXTS, (0, 1), BESIDE, "test")
    return place / "asked"


@pytest.fixture
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()


class Newest:
    """A press that keeps the newest pairs."""

    def __init__(self, kept):
        self.kept = kept

    def post_init_from_model(self, model):
        pass

    def compress(self, module, hidden, keys, values, attentions, kwargs):
        assert hidden.shape[1] == keys.shape[2] == kwargs["position_embeddings"][0].shape[1]
        return keys[:, :, -self.kept :], values[:, :, -self.kept :]


def make(kept, tokens):
    return {"newest": Newest(kept), "whole": Newest(tokens)}


def make_seen(kept, tokens, question):
    return make(kept, tokens)


def alone(model, ids):
    """Logits after every token of a text that is read at once."""
    return model(input_ids=torch.tensor([ids])).logits[0]


def test_the_questions_are_the_benchmark_s(far, folder, data):
    told = json.loads((folder / "questions.json").read_text())
    tokenizer = tokenizer_for(str(folder / "model"))
    corpus = Corpus.open(data)
    texts = {n: longtext.ids_of(tokenizer, text) for n, text in longtext.books(corpus, "test").items()}
    assert [(text["context"], text["number"]) for text in told["texts"]] == [(c, n) for c in CONTEXTS for n in (0, 1)]
    for text in told["texts"]:
        words, asked = longtext.questions(texts, text["context"], text["number"], tokenizer)
        assert text["ids"] == [1, *(longtext.ids_of(tokenizer, words) - SHIFT).tolist()]
        theirs = [(q["task"], q["question"], q["answer"]) for q in text["asked"]]
        assert theirs == [(q.task, (q.question_N - SHIFT).tolist(), (q.answer_N - SHIFT).tolist()) for q in asked]
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}


@torch.inference_mode()
def test_a_cache_that_nothing_left_is_the_text_itself(caches, folder, model):
    text = json.loads((folder / "questions.json").read_text())["texts"][0]
    ids, asked = text["ids"], text["asked"][-1]
    question, answer = asked["question"], asked["answer"]
    held, hidden = caches.read(model, ids, make(9, len(ids)))
    expected_QV = alone(model, ids + question + answer)[-len(answer) - 1 : -1]
    for name in (None, "whole"):
        told_QV, nbytes = caches.unseen(model, "whole", held[name], question, answer)["whole"]
        torch.testing.assert_close(told_QV, expected_QV, atol=1e-4, rtol=1e-4)
        assert nbytes == len(ids) * 3 * 2 * 4 * 2 * 4  # layers, heads, size, keys and values, bytes
    told = caches.seen(model, held[None], hidden, 9, make_seen, question, answer)
    torch.testing.assert_close(told["whole"][0], expected_QV, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(told["newest"][0][0], expected_QV[0], atol=1e-4, rtol=1e-4)  # the first sees everything
    assert not torch.allclose(told["newest"][0][1:], expected_QV[1:], atol=1e-2)
    assert told["newest"][1] == (9 + len(question)) * 192
    few_QV, nbytes = caches.unseen(model, "newest", held["newest"], question, answer)["newest"]
    assert nbytes == 9 * 192
    assert not torch.allclose(few_QV, expected_QV, atol=1e-2)


@torch.inference_mode()
def test_a_question_stands_where_it_is_in_the_text(caches, model):
    """Of a rotary model's one layer, dropping far pairs is masking them: positions stay."""
    ids = list(range(3, 60))
    model.model.layers = model.model.layers[:1]
    held, _ = caches.read(model, ids, make(9, len(ids)))
    one = caches.Held(held["newest"].pairs, [None], len(ids))
    seen_1V = caches.logits(model, one, [7], 1)
    mask = torch.full((1, 1, 58, 58), -torch.inf).triu(1)
    mask[..., -1, : 57 - 9] = -torch.inf
    expected_V = model(input_ids=torch.tensor([[*ids, 7]]), attention_mask=mask).logits[0, -1]
    torch.testing.assert_close(seen_1V[0], expected_V, atol=1e-4, rtol=1e-4)


def test_answers_are_judged_as_the_benchmark_judges_them(far):
    logits_QV = torch.eye(5)[[3, 1, 2, 0]]
    for task, answer, expected in [
        ("needle", [3, 1, 2, 0], 1.0),
        ("asked", [3, 1, 2, 4], 0.0),
        ("quote", [3, 1, 2, 4], 0.75),
    ]:
        assert far.right(task, logits_QV, answer) == expected


@torch.inference_mode()
def test_what_was_stopped_goes_on_and_shares_are_of_all_texts(far, folder, model, tmp_path, monkeypatch):
    told = json.loads((folder / "questions.json").read_text())
    for text in told["texts"]:  # right is what the model says after all of the text
        for number, q in enumerate(text["asked"]):
            answer = []
            for _ in range(2):
                answer.append(int(alone(model, text["ids"] + q["question"] + answer)[-1, : told["tokens"]].argmax()))
            q["answer"] = answer if number % 6 else [answer[0] ^ 1, *answer[1:]]
    far.measure(model, told, tmp_path, -1.0, make, make_seen, zips=False)
    assert far.results(tmp_path, "test") == []
    far.measure(model, told, tmp_path, float("inf"), make, make_seen, zips=False)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    assert len(files) == len(told["texts"]) * (1 + 2 * 3 + 1)
    first = sorted(files)[0]
    first.unlink()
    far.measure(model, told, tmp_path, float("inf"), make, make_seen, zips=False)
    assert {path: path.stat().st_mtime_ns for path in files if path != first}.items() <= files.items()
    assert first.exists()
    rows = far.results(tmp_path, "test")
    by = {(r["task"], r["memory"], r["budget"], r["question"], r["context"]): r for r in rows}
    assert len(by) == len(rows)
    for context in CONTEXTS:
        for how in (("full", "all", "unseen"), ("whole", "1/4", "unseen"), ("whole", "equal", "seen")):
            row = by["needle", *how, context]
            wrong = sum(
                text["context"] == context and q["task"] == "needle" and i % 6 == 0
                for text in told["texts"]
                for i, q in enumerate(text["asked"])
            )
            assert row["examples"] == 12
            assert row["value"] == pytest.approx(1 - wrong / 12)
            assert row["value_ci"] == pytest.approx(wilson(row["value"], 12))
        kept = [by["quote", "newest", b, "unseen", context]["bytes_kept"] for b in ("1/16", "equal")]
        assert all(a < b for a, b in pairwise([0, *kept]))
        assert kept[1] == BESIDE[0]["value"]
    page = far.markdown(
        {
            "results": rows,
            "beside": [],
            **dict.fromkeys(("command", "machine", "versions", "commit", "setting", "check"), "-"),
        }
    )
    assert sum(line.startswith(("| 150 ", "| 300 ")) for line in page.splitlines()) == len(rows) // 3
