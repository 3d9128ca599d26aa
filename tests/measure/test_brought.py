"""Encoders that a user brings: what their vectors hold is told to the bit, and what are no vectors is refused."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import memlm
from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.measure.brought import as_vectors, read_texts, read_vectors
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.measure.texts import GivenTexts
from memlm.nn.config import StackConfig

T, LETTERS = 4, "abcdefghijklmnop"
BITS = math.log2(len(LETTERS))  # of each token: all are as likely as one another, whatever stands before
PROBE = ProbeConfig(families=("linear", "linear+slots"), train_chunks=(2000,), seeds=1, steps=150, batch=64)
QUICK = MeasureConfig(chunks=400, probe=PROBE, chunk_tokens=(T,), device="cpu")
BRIEF = replace(QUICK, probe=replace(PROBE, families=("linear",)), chunks=20)


def letters(count: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(LETTERS, k=T)) for _ in range(count)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return letters(3000)


def rows(report, training: str = "unknown") -> list[dict]:
    return [row for row in report["results"] if row["training"] == training]


def one(report) -> dict:
    (row,) = rows(report)
    return row


def test_noise_holds_nothing_and_the_first_token_holds_its_bits(tmp_path):
    texts, wide = letters(6000), replace(PROBE, train_chunks=(1000, 6000))
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((len(texts), 32)))
    np.save(tmp_path / "first.npy", np.eye(len(LETTERS))[[LETTERS.index(text[0]) for text in texts]])
    files = tmp_path / "noise.npy", tmp_path / "first.npy"
    report = memlm.measure(*files, texts=texts, config=replace(QUICK, probe=wide, chunks=1200))
    noise, first = rows(report)
    assert abs(noise["usable_bits_per_embedding"]) < 0.01
    assert first["usable_bits_per_embedding"] == pytest.approx(BITS, abs=0.1)
    assert first["accuracy_by_position"][0] > 0.999
    assert max(first["accuracy_by_position"][1:]) < 0.15
    (floor,), (_, shuffled) = rows(report, "none"), rows(report, "shuffled")
    assert floor["cross_entropy"] / math.log(2) == pytest.approx(BITS, abs=0.05)
    assert shuffled["usable_bits_per_embedding"] < -1  # another text's first letter, surely told
    assert first["controls_absent"] == ["untrained", "random-tokens"]
    assert {r["training"] for r in report["results"]} == {"none", "unknown", "shuffled"}


def test_a_function_is_asked_for_the_text_of_each_chunk(data):
    corpus, asked = Corpus.open(data), []

    def first_token(texts: list[str]) -> list[list[float]]:
        assert len(texts) <= QUICK.batch
        asked.extend(texts)
        ids = [corpus.tokenizer.encode(text, add_special_tokens=False).ids[0] for text in texts]
        return np.eye(corpus.vocab_size)[ids].tolist()

    report = memlm.measure(first_token, data=data, config=QUICK)
    row = one(report)
    assert (row["model"], row["encoder"], row["encoder_parameters"]) == ("first_token", "callable", None)
    assert row["accuracy_by_position"][0] > 0.95
    assert row["controls_absent"] == ["untrained"]
    assert {r["training"] for r in report["results"]} == {"none", "unknown", "shuffled", "random-tokens"}
    held = corpus.chunks("test", T, limit=QUICK.chunks).tokens
    assert {*corpus.tokenizer.decode_batch(held.tolist())} <= {*asked}


@pytest.mark.parametrize("form", [np.ndarray.tolist, torch.from_numpy, np.float16, lambda a: [*torch.from_numpy(a)]])
def test_vectors_come_in_any_form(data, form):
    def lengths(texts):
        return np.array([[len(text), text.count(" "), 1.0] for text in texts])

    plain = memlm.measure(lengths, data=data, config=BRIEF, name="lengths")
    other = memlm.measure(lambda texts: form(lengths(texts)), data=data, config=BRIEF, name="lengths")
    assert one(plain)["cross_entropy"] == one(other)["cross_entropy"]


class Embedder:
    """As sentence-transformers' models are: callable for other ends, with an `encode`."""

    def __call__(self, texts):
        raise AssertionError("it is not what is called")

    def encode(self, texts):
        return np.ones((len(texts), 2)) * len(texts[0])


def test_an_object_is_asked_by_its_encode(data):
    assert one(memlm.measure(Embedder(), data=data, config=BRIEF, name="mine"))["memory_dim"] == 2


def test_a_named_functions_vectors_are_kept_and_those_of_one_without_a_name_are_not(data, tmp_path):
    calls = []

    def lengths(texts):
        calls.append(len(texts))
        return np.array([[float(len(text))] for text in texts])

    first = memlm.measure(lengths, data=data, config=BRIEF, name="lengths", cache=tmp_path)
    before, calls[:] = sum(calls), []
    assert (
        memlm.measure(lengths, data=data, config=BRIEF, name="lengths", cache=tmp_path)["results"] == first["results"]
    )
    assert sum(calls) == 2 < before  # the two texts that say whether it is still the same
    calls.clear()
    memlm.measure(lambda texts: lengths(texts) * 2, data=data, config=BRIEF, name="lengths", cache=tmp_path)
    assert sum(calls) == before  # it is not
    calls.clear()
    memlm.measure(lengths, data=data, config=BRIEF, cache=tmp_path)
    assert sum(calls) == before


def test_a_folder_is_measured_once_for_a_name_and_never_for_none(data, tmp_path):
    def lengths(texts):
        return [[float(len(text))] for text in texts]

    named = memlm.measure(lengths, data=data, config=BRIEF, name="lengths", out=tmp_path / "named")
    assert json.loads((tmp_path / "named" / "results.json").read_text())["results"] == named["results"]
    assert memlm.measure(lengths, data=data, config=BRIEF, name="lengths", out=tmp_path / "named") == named
    memlm.measure(lengths, data=data, config=BRIEF, out=tmp_path / "nameless")
    with pytest.raises(memlm.UsageError, match="another measurement"):
        memlm.measure(lengths, data=data, config=BRIEF, out=tmp_path / "nameless")


def test_a_function_and_a_file_of_its_vectors_say_the_same(texts, data, tmp_path):
    def counts(some):
        return np.array([[float(text.count(letter)) for letter in LETTERS] for text in some])

    np.save(tmp_path / "mine.npy", counts(texts))
    report = memlm.measure(counts, tmp_path / "mine.npy", texts=texts, config=BRIEF)
    function, file = rows(report)
    assert (function["model"], file["model"]) == ("counts", "mine")
    assert function["cross_entropy"] == file["cross_entropy"]


def test_runs_stand_beside_vectors_on_the_same_texts(texts, data, tmp_path):
    from memlm.loading import build_model, save_model
    from memlm.models.shapes import AutoencoderShape

    corpus, tiny = Corpus.open(data), StackConfig(kind="pointwise", width=8, layers=1)
    shape = AutoencoderShape(chunk_tokens=T, memory_dim=16, encoder=tiny, decoder=tiny, readout="slots", bridge="slots")
    save_model(build_model(shape, corpus.vocab_size, 0), corpus.tokenizer, tmp_path / "run")
    report = memlm.measure(
        tmp_path / "run", np.ones((len(texts), 2)), data=data, texts=texts, config=replace(BRIEF, chunk_tokens=())
    )
    assert {row["model"] for row in report["results"]} == {"no memory", "run", "slots-untrained", "vectors"}
    assert len({row["data"] for row in report["results"]}) == 1
    same = memlm.measure(
        memlm.load(tmp_path / "run", device="cpu"), data=data, texts=texts, config=replace(BRIEF, chunk_tokens=())
    )
    assert [row["cross_entropy"] for row in same["results"]] == [
        row["cross_entropy"] for row in report["results"] if row["model"] != "vectors"
    ]
    with pytest.raises(memlm.UsageError, match="use the data it was trained on"):
        memlm.measure(tmp_path / "run", texts=texts, config=replace(BRIEF, chunk_tokens=()))


def test_given_texts_are_split_whatever_their_order_and_no_chunk_is_on_both_sides():
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abc", k=6)) for _ in range(400)] + ["a b", ""]  # many are equal, two too short
    given = GivenTexts(texts)
    train, held = (given.chunks(part, T, 1000).tokens for part in ("train", "test"))
    sides = [{row.tobytes() for row in side} for side in (train, held)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) == len(train)
    assert len(held) == (len(train) + len(held)) // 5
    told = given.told(T)
    assert (told["texts"], told["texts_short"], told["texts_longer"]) == (402, 2, 400)
    assert told["texts_repeated"] == 400 - len(train) - len(held)
    mixed = texts[:]
    rng.shuffle(mixed)
    again = GivenTexts(mixed, given.tokenizer)
    for part, side in (("train", train), ("test", held)):
        np.testing.assert_array_equal(side, again.chunks(part, T, 1000).tokens)
    numbers = given.numbers(held)
    for row, number in zip(held, numbers, strict=True):
        assert given.tokenizer.encode(texts[number]).ids[:T] == row.tolist()
    with pytest.raises(memlm.UsageError, match="0 different texts of 402 have 9 tokens"):
        given.chunks("train", 9, 10)
    with pytest.raises(memlm.UsageError, match="two parts"):
        given.chunks("tune", T, 10)


NO_VECTORS = {
    "none": (None, "gives NoneType, not vectors"),
    "words": ([["a"], ["b"]], "gives list, not vectors"),
    "of different lengths": ([[1.0], [1.0, 2.0]], "gives list, not vectors"),
    "one number each": (np.ones(2), r"an array \[2\]"),
    "of no numbers": (np.ones((2, 0)), r"an array \[2, 0\]"),
    "cubes": (torch.ones(2, 3, 4), r"an array \[2, 3, 4\]"),
    "too few": (np.ones((1, 3)), "gives 1 vectors for 2 texts"),
    "not a number": (np.array([[1.0], [np.nan]]), r"not finite in the vector of text 1"),
    "infinite in single precision": (np.array([[1e300], [1.0]]), r"not finite in the vector of text 0"),
}


@pytest.mark.parametrize("name", NO_VECTORS)
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_is_no_vectors_is_refused(name):
    returned, expected = NO_VECTORS[name]
    with pytest.raises(memlm.UsageError, match=expected):
        as_vectors(returned, 2, "mine")


def test_a_function_that_fails_is_told_and_the_cause_is_kept(data):
    def broken(texts):
        raise KeyError("no such model")

    with pytest.raises(memlm.WorkError, match=r"broken failed on 2 texts \(KeyError: 'no such model'\)") as caught:
        memlm.measure(broken, data=data, config=BRIEF)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_function_whose_vectors_change_their_length_is_refused(data):
    with pytest.raises(memlm.UsageError, match="vectors of 2 numbers, then of"):
        memlm.measure(lambda texts: np.ones((len(texts), len(texts))), data=data, config=BRIEF, name="mine")


def test_what_cannot_be_measured_is_refused(texts, data, tmp_path):
    np.save(tmp_path / "mine.npy", np.ones((len(texts), 2)))
    for call, expected in (
        (lambda: memlm.measure(data=data), "name at least one"),
        (lambda: memlm.measure(3, data=data), "int is nothing to measure"),
        (lambda: memlm.measure(np.ones((2, 2)), data=data), "beside the texts"),
        (lambda: memlm.measure(tmp_path / "mine.npy", data=data), "mine: vectors are measured beside the texts"),
        (lambda: memlm.measure(tmp_path / "mine.npy", texts=texts[:-1]), "gives 3000 vectors for 2999 texts"),
        (lambda: memlm.measure(tmp_path / "mine.npy", texts=texts, chunk_tokens=9), "0 different texts of 3000 have 9"),
        (lambda: memlm.measure(tmp_path / "mine.npy", texts=[]), "no list of texts"),
        (lambda: memlm.measure(np.ones((1, 2)), np.ones((1, 2)), texts=["a"]), "two of the models are called vectors"),
        (lambda: memlm.measure(tmp_path / "none.npy", texts=texts), "none.npy is not there"),
        (lambda: memlm.measure(len, data=tmp_path), "not a prepared data set"),
    ):
        with pytest.raises(memlm.UsageError, match=expected):
            call()


def test_files_of_vectors_are_read_and_others_refused(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "a.npy", array)
    save_file({"any name": torch.from_numpy(array).bfloat16()}, tmp_path / "a.safetensors")
    for path in ("a.npy", "a.safetensors"):
        np.testing.assert_array_equal(as_vectors(read_vectors(tmp_path / path), 3, "a"), array)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-3])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-3])
    save_file({"a": torch.ones(1, 1), "b": torch.ones(1, 1)}, tmp_path / "two.safetensors")
    (tmp_path / "a.csv").write_text("1,2")
    for name, expected in (
        ("objects.npy", "no whole .npy file of numbers"),
        ("cut.npy", "no whole .npy file of numbers"),
        ("cut.safetensors", "no whole .safetensors file"),
        ("two.safetensors", "holds 2 tensors"),
        ("a.csv", "read from .npy or .safetensors"),
    ):
        with pytest.raises(memlm.UsageError, match=expected):
            read_vectors(tmp_path / name)


def test_files_of_texts_keep_every_place(tmp_path):
    texts = ["one", "", 'two "quoted"', "thrée\x0bstill three"]
    (tmp_path / "a.txt").write_bytes("\r\n".join([*texts, ""]).encode())
    (tmp_path / "b.txt").write_text("\n".join(texts))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text, "more": 1}) + "\n" for text in texts))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, texts)))
    (tmp_path / "a.json").write_text(json.dumps(texts))
    for name in ("a.txt", "b.txt", "a.jsonl", "b.jsonl", "a.json"):
        assert read_texts(tmp_path / name) == texts
    (tmp_path / "no.json").write_text('{"a": 1}')
    (tmp_path / "no.jsonl").write_text('{"text": "a"}\n{"other": 1}\n')
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    for name, expected in (
        ("no.json", "no list of texts"),
        ("no.jsonl", "text 1 .counted from 0. is NoneType"),
        ("broken.jsonl", "cannot be read as texts"),
        ("latin.txt", "cannot be read as texts"),
        ("nowhere.txt", "nowhere.txt cannot be read .No such file"),
    ):
        with pytest.raises(memlm.UsageError, match=expected):
            read_texts(tmp_path / name)


def test_the_command_measures_vectors_beside_their_texts(texts, data, tmp_path, capsys):
    np.save(tmp_path / "mine.npy", np.ones((len(texts), 2)))
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    quick = ["--chunk-tokens", "4", "--probe.steps", "2", "--probe.train-chunks", "50", "--chunks", "20"]
    call = ["measure", "--vectors", str(tmp_path / "mine.npy"), "--texts", str(tmp_path / "texts.txt"), *quick]
    assert main([*call, "--out", str(tmp_path / "out")]) == 0
    assert "mine" in capsys.readouterr().out
    assert main([*call, "--out", str(tmp_path / "out"), "--json"]) == 0
    assert one(json.loads(capsys.readouterr().out))["texts"] == len(texts)
    for wrong, expected in ((call[:3], "beside the texts"), (call[:1] + call[3:5], "name at least one")):
        assert main([*wrong, "--data", str(data), "--out", str(tmp_path / "none")]) == 2
        err = capsys.readouterr().err
        assert expected in err
        assert err.count("\n") == 1
