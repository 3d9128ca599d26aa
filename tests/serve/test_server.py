"""Wrong, huge and hostile requests; many at once; limits; an end that loses nothing."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from banks import tokenizer

import memlm
from memlm.serve.generating import generate
from memlm.serve.metrics import Metrics
from memlm.serve.worker import Busy, Job, Worker

TEXT = "the sea was calm and a cold wind came from the north"
HUGE, EMBED, GO_ON = "9" * 5000, "/v1/embeddings", "/v1/completions"


def embedded(listening, model: str = "auto", text: str = TEXT) -> dict:
    status, told = listening.ask(EMBED, {"model": model, "input": text})
    assert status == 200
    return told


def test_hostile_requests_are_one_sentence_and_a_4xx(listening, place):
    right = embedded(listening)

    def changed(**how) -> dict:
        one = {**right["data"][0], **how}
        return {"model": "auto", "memories": {**right, "data": [one]}}

    origin = {"memories": {**right, "origin": {**right["origin"], "memory_dim": 3}}, "model": "auto"}
    backwards = {"memories": {**right, "data": [{**right["data"][0], "text": n} for n in (1, 0)]}, "model": "auto"}
    auto = {"model": "auto"}
    calls = {
        "no json": (EMBED, b"{"),
        "no utf-8": (EMBED, b'{"model": "\xff"}'),
        "deep": (EMBED, b"[" * 60_000),
        "long number": (EMBED, f'{{"model": "auto", "input": {HUGE}}}'.encode()),
        "list": (EMBED, []),
        "nothing": (EMBED, {}),
        "null": (EMBED, {**auto, "input": None}),
        "number": (EMBED, {**auto, "input": 7}),
        "object": (EMBED, {**auto, "input": {"a": "b"}}),
        "ids": (EMBED, {**auto, "input": [1, 2, 3]}),
        "lists of ids": (EMBED, {**auto, "input": [[1, 2, 3]]}),
        "mixed": (EMBED, {**auto, "input": ["a", 1]}),
        "empty": (EMBED, {**auto, "input": ""}),
        "empty among others": (EMBED, {**auto, "input": ["a", ""]}),
        "none": (EMBED, {**auto, "input": []}),
        "half a character": (EMBED, b'{"model": "auto", "input": "\\ud800"}'),
        "half a character as a name": (EMBED, b'{"model": "\\ud800", "input": "a"}'),
        "half a character as a field": (EMBED, b'{"model": "auto", "input": "a", "\\ud800": 1}'),
        "an autoencoder to go on": (GO_ON, {**auto, "prompt": "a"}),
        "no such model": (EMBED, {"model": "no" * 200, "input": "a"}),
        "endless name": (EMBED, {"model": "no" * 2000, "input": "a"}),
        "dimensions": (EMBED, {**auto, "input": "a", "dimensions": 3}),
        "format": (EMBED, {**auto, "input": "a", "encoding_format": "int4"}),
        "many chunks": (EMBED, {**auto, "input": TEXT * 100}),
        "large": (EMBED, {**auto, "input": TEXT * 2000}),
        "unknown field": (GO_ON, {"model": "vector", "prompt": "a", "best": 1}),
        "several answers": (GO_ON, {"model": "vector", "prompt": "a", "n": 2}),
        "two prompts": (GO_ON, {"model": "vector", "prompt": ["a", "b"]}),
        "long prompt": (GO_ON, {"model": "vector", "prompt": TEXT * 20}),
        "no tokens": (GO_ON, {"model": "vector", "prompt": "a", "max_tokens": 0}),
        "many tokens": (GO_ON, {"model": "vector", "prompt": "a", "max_tokens": 10**9}),
        "half a token": (GO_ON, {"model": "vector", "prompt": "a", "max_tokens": 1.5}),
        "cold": (GO_ON, {"model": "vector", "prompt": "a", "temperature": -1}),
        "nan": (GO_ON, b'{"model": "vector", "prompt": "a", "temperature": NaN}'),
        "seed": (GO_ON, {"model": "vector", "prompt": "a", "seed": 2**70}),
        "empty stop": (GO_ON, {"model": "vector", "prompt": "a", "stop": ""}),
        "many texts": (EMBED, {**auto, "input": ["a"] * 3000}),
        "many empty documents": (GO_ON, {"model": "vector", "prompt": "a", "documents": [""] * 3000}),
        "two sources": (GO_ON, {"model": "vector", "prompt": "a", "documents": ["a"], "bank": True}),
        "many documents": (GO_ON, {"model": "vector", "prompt": "a", "documents": [TEXT] * 100}),
        "no such document": (GO_ON, {"model": "vector", "prompt": "a", "bank": "moby"}),
        "does not predict": (GO_ON, {**auto, "prompt": "a"}),
        "does not predict, streamed": (GO_ON, {**auto, "prompt": "a", "stream": True}),
        "nothing to recall": ("/recall", auto),
        "two to recall": ("/recall", {**auto, "text": "a", "document": "sea"}),
        "other encoder": ("/recall", {**auto, "memories": embedded(listening, "other")}),
        "nan in a memory": ("/recall", json.dumps(changed(embedding=[float("nan")] * 256)).encode()),
        "beyond float32": ("/recall", changed(embedding=[1e300] * 256)),
        "short memory": ("/recall", changed(embedding=[0.5])),
        "no base64": ("/recall", changed(embedding="*" * 8)),
        "three bytes": ("/recall", changed(embedding="AAAA")),
        "words": ("/recall", changed(embedding=["a"] * 256)),
        "no tokens held": ("/recall", changed(tokens=0)),
        "another size": ("/recall", origin),
        "backwards": ("/recall", backwards),
        "no origin": ("/recall", {**auto, "memories": {"data": right["data"]}}),
        "many chunks to recall": ("/recall", {**auto, "text": TEXT * 100}),
        "bits": ("/recall", {**auto, "text": "a", "bits": 0}),
        "infinite noise": ("/recall", b'{"model": "auto", "text": "a", "noise": Infinity}'),
        "search of nothing": ("/search", {"text": ""}),
        "none found": ("/search", {"text": "a", "k": 0}),
        "no keys": ("/search", {"text": "a", "by": "keys", "model": "auto"}),
        "other bank": ("/search", {"text": "a", "model": "other"}),
        "no such path": ("/v1/chat/completions", {}),
        "no such method": ("/v1/models", {}),
        "no such model to tell": ("/v1/models/a/b", None),
    }
    for name, (path, body) in calls.items():
        status, told = listening.ask(path, body)
        assert 400 <= status < 500, (name, status, told)
        message = told["error"]["message"]
        assert told["error"].keys() == {"message", "type", "param", "code"}, name
        assert re.fullmatch(r"[^\n]{10,600}[.)]", message), (name, message)
        assert str(place) not in message, (name, message)  # where a model lies is the server's affair
        assert "Traceback" not in message, name
    assert embedded(listening) == right


def test_no_request_that_is_made_up_is_a_5xx(listening):
    """Fields of right requests in the place of each other, and values that are nothing of the kind."""
    draw, memories = random.Random(0), embedded(listening)
    values = [None, True, 0, -1, 2**80, 0.5, 1e308, "", "a", "sea", "\x00", [], ["a"], [[]], {}, {"a": 1}, memories]
    right = {
        EMBED: {"input": "a"},
        GO_ON: {"prompt": "a", "max_tokens": 2},
        "/recall": {"text": "a"},
        "/search": {"text": "a"},
    }
    fields = {
        EMBED: ["input", "encoding_format", "dimensions", "user"],
        GO_ON: ["prompt", "max_tokens", "temperature", "stop", "stream", "stream_options", "seed", "memories", "bank"],
        "/recall": ["text", "memories", "document", "keep", "bits", "noise", "seed", "check", "tokens"],
        "/search": ["text", "k", "by"],
    }
    statuses = set()
    for _ in range(250):
        path = draw.choice([*fields])
        body = {"model": draw.choice(["auto", "points", "vector", "other"]), **right[path]}
        body |= {name: draw.choice(values) for name in draw.sample(fields[path], draw.choice([1, 2]))}
        status, told = listening.ask(path, body)
        assert status < 500, (path, body, told)
        statuses.add(status)
    assert {200, 400} <= statuses


def test_tokens_are_marked_and_lost_as_numbers_are(listening):
    asked = {"model": "auto", "text": TEXT, "tokens": True}
    _, whole = listening.ask("/recall", asked)
    tokens = [token for chunk in whole["chunks"] for token in chunk["tokens"]]
    assert whole["texts"] == [TEXT] == ["".join(token["was"] for token in tokens)]
    assert all(token["right"] and 0 <= token["sure"] <= 1 for token in tokens)
    _, less = listening.ask("/recall", {**asked, "keep": 32})
    right = [[token["right"] for token in chunk["tokens"]] for chunk in less["chunks"]]
    assert all(of[0] for of in right)  # 32 numbers of a token each
    assert not all(map(all, right))
    assert listening.ask("/recall", {**asked, "bits": 8})[1]["texts"] == [TEXT]
    for less, agrees in (({}, True), ({"bits": 8}, True), ({"noise": 0.2}, False)):  # no text encodes to noise
        checked = listening.ask("/recall", {**asked, **less, "check": True})[1]
        assert {chunk["agrees"] for chunk in checked["chunks"]} == {agrees}
        assert checked["texts"] == [TEXT]
    assert listening.ask("/recall", {"model": "auto", "text": TEXT, "check": True})[1]["agrees"] == [True] * 3
    noisy = [listening.ask("/recall", {**asked, "noise": 4, "seed": seed})[1] for seed in (0, 0, 1)]
    assert noisy[0] == noisy[1] != noisy[2]


def test_it_tells_which_memories_each_token_was_copied_from(listening):
    asked = {"prompt": "the sea", "documents": [TEXT], "max_tokens": 4, "temperature": 0, "show_memories": True}
    choice = listening.ask(GO_ON, {"model": "points", **asked})[1]["choices"][0]
    assert "".join(row["token"] for row in choice["memories"]) == choice["text"]
    assert choice["memories_by"] == "copied"
    assert any(share > 0.5 for row in choice["memories"] for _, share in row["memories"])


def test_a_model_of_others_copies_from_a_bank_of_any_encoder_and_tells_its_memories(listening, place):
    asked = {"model": "copies", "prompt": "a cold wind", "max_tokens": 4, "temperature": 0, "show_memories": True}
    choice = listening.ask(GO_ON, {**asked, "bank": True})[1]["choices"][0]
    model, bank = memlm.load(place / "copies", device="cpu"), memlm.Bank.open(place / "bank")
    found = model.go_on("a cold wind", bank, None, max_new_tokens=4)
    assert choice["text"] == found.text
    told = [number for row in choice["memories"] for number, _ in row["memories"]]
    assert told
    assert max(told) < len(bank)
    for given in ({"bank": "sea"}, {"documents": [TEXT]}):
        status, answer = listening.ask(GO_ON, {**asked, **given})
        assert status == 400
        assert "memories" in answer["error"]["message"]


def test_of_a_reader_that_mixes_all_it_tells_what_is_lost_without_each(listening, place):
    """One memory alone: without it the model is what it is without any."""
    model, text = memlm.load(place / "vector", device="cpu"), "the sea "
    asked = {"model": "vector", "prompt": "a", "documents": [text], "max_tokens": 5, "temperature": 0}
    choice = listening.ask(GO_ON, {**asked, "show_memories": True})[1]["choices"][0]
    assert choice["memories_by"] == "hidden"
    memories = model.encode(text)
    assert len(memories) == 1
    prompt, new = tokenizer().encode("a").ids, model.go_on("a", memories, None, max_new_tokens=5).ids
    ids = torch.tensor([prompt + new])
    given = torch.from_numpy(memories.vectors)[None]
    p = [
        model.model(ids, memories=some).logits[0].softmax(-1).gather(1, ids[0, :, None])[len(prompt) :, 0]
        for some in (given, given[:, :0])
    ]
    told = [dict(row["memories"]).get(0, 0.0) for row in choice["memories"]]
    assert max(told) > 0
    assert told == pytest.approx((p[0] - p[1]).clamp(min=0).tolist(), abs=2e-3)


def test_a_bank_is_searched_and_recalled(listening):
    found = listening.ask("/search", {"text": "from the north,", "k": 1})[1]["data"]
    assert [(hit["document"], hit["chunk"]) for hit in found] == [("north", 0)]
    assert found[0]["text"].startswith("from the north")
    assert listening.ask("/recall", {"model": "points", "document": "north"})[1]["texts"] == [
        "from the north, wasn't it?"
    ]


def test_many_at_once_get_what_each_alone_gets(listening):
    texts = [f"{TEXT} {n}" for n in range(64)]
    alone = [embedded(listening, text=text)["data"] for text in texts[:8]]
    with ThreadPoolExecutor(64) as pool:
        both = [pool.submit(embedded, listening, "auto", text) for text in texts]
        assert [one.result()["data"] for one in both][:8] == alone


def test_texts_that_are_generated_together_are_those_of_each_alone(listening, monkeypatch):
    """Other prompts, lengths, ends, draws and memories; and two that are refused, the second by its length."""
    asked = [
        {"model": "vector", "prompt": "the sea was", "max_tokens": 12, "temperature": 0, "documents": [TEXT]},
        {"model": "vector", "prompt": "a", "max_tokens": 5, "seed": 1, "documents": [TEXT]},
        {"model": "vector", "prompt": "", "max_tokens": 20, "seed": 2, "top_p": 0.8, "top_k": 9, "documents": [TEXT]},
        {"model": "vector", "prompt": "cold", "max_tokens": 20, "seed": 3, "stop": ["e"], "documents": [TEXT]},
        {"model": "vector", "prompt": "cold", "max_tokens": 3, "memories": embedded(listening, "other")},
        {"model": "vector", "prompt": "the", "max_tokens": 64, "temperature": 0, "documents": [TEXT]},
        {"model": "vector", "prompt": "東京", "max_tokens": 9, "seed": 4, "documents": [TEXT], "show_memories": True},
        {
            "model": "points",
            "prompt": "the sea",
            "max_tokens": 9,
            "seed": 5,
            "documents": [TEXT],
            "show_memories": True,
        },
        {"model": "points", "prompt": "a", "max_tokens": 7, "seed": 6, "documents": [TEXT], "show_memories": True},
    ]
    alone = [listening.ask(GO_ON, one) for one in asked]
    worker, held, together = listening.server.worker, threading.Event(), []

    def counted(served, some):
        together.append(len(some))
        return generate(served, some)

    monkeypatch.setattr("memlm.serve.app.generate", counted)

    def hold(_) -> list:
        while not held.wait(0.01):
            worker.between_tokens()
        return [None]

    worker.submit(Job(hold, "hold", None, long=True))
    with ThreadPoolExecutor(len(asked)) as pool:
        told = [pool.submit(listening.ask, GO_ON, one) for one in asked]
        ends = time.monotonic() + 20
        while len(worker._long) < len(asked) - 1 and time.monotonic() < ends:
            time.sleep(0.01)
        held.set()
        for one, (status, said) in zip(told, alone, strict=True):
            found = one.result()
            assert found[0] == status
            assert found[1].get("error") == said.get("error")
            assert found[1].get("usage") == said.get("usage")
            choices = [answer.get("choices", [{}])[0] for answer in (found[1], said)]
            owed = [choice.pop("memories", []) for choice in choices]
            assert choices[0] == choices[1]
            for ours, theirs in zip(*owed, strict=True):
                assert ours["token"] == theirs["token"]
                assert dict(ours["memories"]) == pytest.approx(dict(theirs["memories"]), abs=2e-3)
    assert 400 in [status for status, _ in alone]
    assert sorted(together) == [2, 6]


def test_metrics_count_and_names_that_are_made_up_are_one(listening):
    for n in range(3):
        listening.ask(f"/made-up-{n}")
    text = listening.ask("/metrics")[1]
    assert 'memlm_requests_total{path="other",status="404"}' in text
    assert "made-up" not in text
    for name in ("memlm_request_seconds_bucket", "memlm_batch_sum", "memlm_memories_total", "memlm_tokens_total"):
        assert re.search(rf"^{name}\S* [1-9]", text, re.MULTILINE), name
    assert re.search(r"^memlm_waiting 0.0$", text, re.MULTILINE)


def test_what_waits_is_done_together_between_tokens_and_fails_alone():
    worker, opened, batches = Worker(8, 99, Metrics()), threading.Event(), []

    def double(asked):
        batches.append(len(asked))
        return [2 * one if one != 3 else 1 // 0 for one in asked]

    def text(_):
        opened.wait()
        worker.between_tokens()
        return ["text"]

    long = Job(text, "text", None, long=True)
    worker.submit(long)
    jobs = [Job(double, "double", n) for n in range(10)]
    for job in jobs:
        worker.submit(job)
    opened.set()
    assert [job.done.result(9) for job in jobs if job.asked != 3] == [2 * n for n in range(10) if n != 3]
    assert isinstance(jobs[3].done.exception(9), ZeroDivisionError)
    assert long.done.result(9) == "text"
    assert batches == [8, *[1] * 8, 2]
    worker.close()
    with pytest.raises(Busy):
        worker.submit(Job(double, "double", 1))


def test_too_many_and_too_slow_are_told_so(start):
    small = start(queue=1, seconds=0.4, max_tokens=2**20)
    try:
        blocked = threading.Event()
        small.server.worker.submit(Job(lambda _: [blocked.wait()], "block", None))
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(small.ask, EMBED, {"model": "auto", "input": "a"}) for _ in range(4)]
            assert sorted(one.result()[0] for one in asked) == [408, 429, 429, 429]
        blocked.set()
        with socket.create_connection(("127.0.0.1", small.port)) as slow:  # half a request
            slow.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            assert slow.recv(12) == b"HTTP/1.1 408"
        asked = {"model": "points", "prompt": "a", "max_tokens": 2**20, "temperature": 0}
        status, told = small.ask(GO_ON, asked)
        assert (status, told["error"]["code"]) == (408, "timeout")
        told = small.ask(GO_ON, {**asked, "stream": True})[1]  # the status was 200 when the first token came
        assert told.endswith("data: [DONE]\n\n")
        assert json.loads(told.split("data: ")[-2])["error"]["code"] == "timeout"
        assert small.ask(EMBED, {"model": "auto", "input": "a"})[0] == 200  # nothing is blocked by what was given up
    finally:
        small.close()


def test_a_text_that_nobody_waits_for_ends(start):
    long = start(max_tokens=2**20)
    try:
        body = json.dumps({"model": "points", "prompt": "a", "max_tokens": 2**20, "temperature": 0, "stream": True})
        with socket.create_connection(("127.0.0.1", long.port)) as gone:
            head = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            gone.sendall(f"POST {GO_ON} HTTP/1.1\r\n{head}{body}".encode())
            assert gone.recv(12) == b"HTTP/1.1 200"
        asked = {"model": "vector", "prompt": "a", "max_tokens": 1}
        assert long.ask(GO_ON, asked)[0] == 200  # which waits for its turn
    finally:
        long.close()


def test_it_ends_cleanly_when_it_is_asked_to(place):
    argv = [sys.executable, "-m", "memlm", "serve", str(place / "auto"), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    told = process.stderr.readline()
    port = int(re.search(r"http://127.0.0.1:(\d+) ", told)[1])  # pyright: ignore[reportOptionalSubscript]
    with socket.create_connection(("127.0.0.1", port)) as asks:
        asks.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        while asks.recv(12) != b"HTTP/1.1 200":
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert process.stderr.read() == "ended.\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["auto", "auto"], "named twice"),
        (["other", "--bank", "bank"], "was made by another encoder"),
        (["auto", "--port", "80", "--host", "203.0.113.1"], "cannot be listened at"),
    ],
)
def test_what_cannot_be_served_is_refused(place, monkeypatch, capsys, wrong, said):
    from memlm.cli import main

    monkeypatch.chdir(place)
    assert main(["serve", *wrong, "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err
