import errno
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlm.data.corpus import FORMAT, Corpus
from memlm.data.packing import TokenWriter
from memlm.data.prepare import Prepare, prepare
from memlm.data.split import PARTS, cut_tail, divide, draw, split
from memlm.errors import UsageError, WorkError
from memlm.tokens.pieces import Document

TEXT = "The quick brown fox jumps over the lazy dog.\nIt isn't 1 of 12 ✓ foxes.\n\n"


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    for i in range(6):
        (folder / f"b{i}.txt").write_text(f"Book {i}. " + TEXT * (3 * i + 1), encoding="utf-8")
    return folder


def config(source: Path, out: Path, **named) -> Prepare:
    return Prepare(source=str(source), out=out, vocab_size=300, **named)


def texts(corpus: Corpus, stream) -> list[str]:
    end = corpus.end_id
    documents = [stream.tokens[a:b] for a, b in pairwise(stream.documents)]
    assert all(document[-1] == end and end not in document[:-1] for document in documents)
    return [corpus.tokenizer.decode(document[:-1].tolist()) for document in documents]


def test_every_document_comes_back(books: Path, tmp_path: Path) -> None:
    corpus = prepare(config(books, tmp_path / "data", tune=("b4",), test=("b2",)))
    whole = {path.stem: path.read_text(encoding="utf-8") for path in books.iterdir()}
    assert texts(corpus, corpus.train) == [whole[name] for name in ("b0", "b1", "b3", "b5")]
    for part, name in (("tune", "b4"), ("test", "b2")):
        assert corpus.part(part).names == (name,)
        assert texts(corpus, corpus.part(part)) == [whole[name]]
        assert corpus.meta[part]["how"] == "named"
    for part in PARTS:
        told, stream = corpus.meta[part], corpus.part(part)
        assert told["tokens"] == len(stream) == stream.documents[-1]
        assert told["bytes"] == corpus.token_bytes[stream.tokens].sum()


def test_the_same_call_gives_the_same_bytes_and_no_second_work(
    books: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (prepare(config(books, tmp_path / name)) for name in ("one", "two"))
    assert first.hash == second.hash
    for file in first.path.iterdir():
        assert file.read_bytes() == (second.path / file.name).read_bytes()
    before = {file.name: file.stat().st_mtime_ns for file in first.path.iterdir()}
    prepare(config(books, tmp_path / "one"))
    assert "nothing to do" in " ".join(capfd.readouterr().err.split())
    assert before == {file.name: file.stat().st_mtime_ns for file in first.path.iterdir()}
    other = prepare(config(books, tmp_path / "three", test=("b1",)))
    assert other.hash != first.hash


def test_another_text_or_setting_needs_overwrite(books: Path, tmp_path: Path) -> None:
    first = prepare(config(books, tmp_path / "data"))
    with pytest.raises(UsageError, match="--overwrite"):
        prepare(config(books, tmp_path / "data", seed=1))
    (books / "b0.txt").write_text("changed " * 50)
    with pytest.raises(UsageError, match="--overwrite"):
        prepare(config(books, tmp_path / "data"))
    assert prepare(config(books, tmp_path / "data", overwrite=True)).hash != first.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["books", "data"]


def test_files_of_the_users_are_never_replaced(books: Path, tmp_path: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="no data set"):
            prepare(config(books, books, overwrite=overwrite))
        with pytest.raises(UsageError, match="is a file"):
            prepare(config(books, books / "b0.txt", overwrite=overwrite))
    (tmp_path / "empty").mkdir()
    assert len(prepare(config(books, tmp_path / "empty")).train)


def test_of_the_only_document_the_end_tests_and_what_is_before_it_tunes(tmp_path: Path) -> None:
    text = TEXT * 200
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    corpus = prepare(config(tmp_path / "a.txt", tmp_path / "data", tune_fraction=0.1, test_fraction=0.2))
    (train,), (tune,), (test,) = (texts(corpus, corpus.part(part)) for part in PARTS)
    assert train + tune + test == text
    assert train.endswith("\n\n")
    assert tune.endswith("\n\n")
    assert 0.07 < len(tune) / len(text) < 0.13
    assert 0.15 < len(test) / len(text) <= 0.2
    assert (corpus.tune.names, corpus.test.names) == (("a (tune)",), ("a (test)",))
    assert corpus.meta["test"]["how"] == "a draw of 0.2 of the text, seed 0"


def test_a_tokenizer_can_be_given(books: Path, tmp_path: Path) -> None:
    first = prepare(config(books, tmp_path / "one", test=("b1",)))
    second = prepare(config(books, tmp_path / "two", test=("b1",), tokenizer=first.path))
    assert (first.train.tokens == second.train.tokens).all()
    assert second.tokenizer.to_str() == first.tokenizer.to_str()


def test_a_wrong_setting_is_refused_before_any_work(books: Path, tmp_path: Path) -> None:
    for named, said in (
        ({"test": ("b9",)}, "no document b9 to hold out; there are b0, b1"),
        ({"test": ("b0",), "tune": tuple(f"b{i}" for i in range(1, 6))}, "none is left"),
        ({"tune": ("b0", "b1"), "test": ("b1",)}, "b1 cannot both tune and test"),
        ({"tune_fraction": 0.0}, "above 0 and below 1"),
        ({"tune_fraction": 0.5, "test_fraction": 0.5}, "leave text to train on"),
        ({"max_documents": 0}, "at least 1"),
        ({"sample_bytes": 0}, "at least 1"),
        ({"tokenizer": tmp_path / "nowhere"}, "not there"),
    ):
        with pytest.raises(UsageError, match=said):
            prepare(config(books, tmp_path / "data", **named))
    with pytest.raises(UsageError, match="258"):
        prepare(Prepare(source=str(books), out=tmp_path / "data", vocab_size=100))
    assert [path.name for path in tmp_path.iterdir()] == ["books"]


def test_a_full_disk_leaves_nothing_behind(books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TokenWriter, "append", full)
    with pytest.raises(WorkError, match="disk is full"):
        prepare(config(books, tmp_path / "data"))
    assert [path.name for path in tmp_path.iterdir()] == ["books"]


def test_a_damaged_data_set_is_refused(books: Path, tmp_path: Path) -> None:
    path = prepare(config(books, tmp_path / "data")).path
    content = (path / "train.bin").read_bytes()
    (path / "train.bin").write_bytes(b"\x07" + content[1:])
    Corpus.open(path)
    with pytest.raises(UsageError, match="damaged"):
        Corpus.open(path, verify=True)
    (path / "train.bin").write_bytes(content[:-2])
    with pytest.raises(UsageError, match="lost a part"):
        Corpus.open(path)
    (path / "data.json").write_text(json.dumps({"format": FORMAT, "files": {}}))
    with pytest.raises(UsageError, match="prepared data set"):
        Corpus.open(path)
    with pytest.raises(UsageError, match="it has no"):
        Corpus.open(tmp_path)


def test_chunks_are_whole_and_inside_their_documents(books: Path, tmp_path: Path) -> None:
    corpus = prepare(config(books, tmp_path / "data", test=("b0",)))
    stream, length = corpus.train, 16
    tokens, document = corpus.chunks("train", length)
    assert tokens.dtype == np.int64
    assert len(tokens) == sum((n - 1) // length for n in np.diff(stream.documents))
    assert corpus.end_id not in tokens
    for i in range(len(stream.documents) - 1):
        mine = tokens[document == i].ravel()
        start = stream.documents[i]
        assert (mine == stream.tokens[start : start + len(mine)]).all()
    some, of = corpus.chunks("train", length, limit=7)
    assert some.shape == (7, length)
    assert set(of) == set(document)  # spread over every document
    assert {row.tobytes() for row in some} <= {row.tobytes() for row in tokens}
    assert len(corpus.chunks("train", length, limit=10**9)[0]) == len(tokens)
    with pytest.raises(UsageError, match="shorter chunks"):
        corpus.chunks("train", 10**6)


def test_windows_that_no_document_has_are_of_all_in_a_row(books: Path, tmp_path: Path) -> None:
    corpus = prepare(config(books, tmp_path / "data", tune=("b1", "b2", "b4"), test=("b5",)))
    stream = corpus.tune
    longest = int(np.diff(stream.documents).max()) - 1
    assert (corpus.windows("tune", longest, 9) == corpus.chunks("tune", longest, 9).tokens).all()
    within = corpus.windows("tune", longest + 1, 9)
    assert within.tolist() == [stream.tokens[: longest + 1].tolist()]
    assert corpus.windows("tune", len(stream) // 2, 9).shape == (2, len(stream) // 2) or longest >= len(stream) // 2
    with pytest.raises(UsageError, match=r"part tune"):
        corpus.windows("tune", len(stream) + 1, 9)


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(books: Path, tmp_path: Path) -> None:
    corpus = prepare(config(books, tmp_path / "data"))
    few, more = (corpus.sample("train", 16, limit) for limit in (5, 20))
    assert (few.tokens == more.tokens[:5]).all()
    assert (few.document == more.document[:5]).all()
    every = corpus.sample("train", 16, 10**9).tokens
    assert {row.tobytes() for row in every} == {row.tobytes() for row in corpus.chunks("train", 16).tokens}
    assert (more.document != np.sort(more.document)).any()  # no order of documents


SIZES = st.lists(st.integers(2, 10**6), min_size=1, max_size=40)


@given(SIZES, st.integers(0, 99), st.integers(1, 45), st.integers(1, 45))
def test_a_draw_is_a_share_of_the_text_whatever_the_documents_sizes(sizes, seed, tune, test) -> None:
    draws = [draw(seed, number, "") for number in range(len(sizes))]
    ends = divide([0] * len(sizes), draws, sizes, {"tune": tune / 100, "test": test / 100})
    held = {"tune": ends.tune_D - ends.train_D, "test": 1 - ends.tune_D}
    for part, percent in (("tune", tune), ("test", test)):
        goal = percent / 100 * sum(sizes)
        assert abs((held[part] * sizes).sum() - goal) <= 0.1001 * goal
        assert (held[part] >= -1e-9).all()
        assert sum(0 < share < 1 for share in held[part]) <= 1 + (part == "tune")
    assert (ends.train_D * sizes).sum() > 0
    first = max(draws[number] for number in range(len(sizes)) if held["test"][number] > 0)  # in the order of draws
    assert all(held["test"][number] > 0 for number, drawn in enumerate(draws) if drawn < first)


@given(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=12).filter(lambda named: 0 in named), st.data())
def test_what_is_named_is_whole_and_every_text_is_in_one_part(named, data) -> None:
    sizes = [data.draw(st.integers(50, 3000)) for _ in named]
    whole = [f"{number} " + "a word and another " * (size // 19) for number, size in enumerate(sizes)]
    lengths = [len(text) for text in whole]
    draws = [draw(0, number, "") for number in range(len(named))]
    ends = divide(named, draws, lengths, {"tune": 0.1, "test": 0.1})
    documents = (Document(str(number), [text[:20], text[20:]]) for number, text in enumerate(whole))
    back, parts = dict.fromkeys(range(len(named)), ""), []
    for document, part in split(documents, ends, lengths):
        number, text = int(document.name.split()[0]), "".join(document.pieces)
        assert text
        assert not named[number] or (part == PARTS[named[number]] and document.name == str(number))
        back[number] += text
        parts.append(part)
    assert list(back.values()) == whole
    assert "train" in parts


@pytest.mark.parametrize("long", ["a", "b"])
def test_a_document_nine_times_as_long_as_the_other_is_cut(long, tmp_path: Path) -> None:
    whole = {name: f"Book {name}. " + TEXT * (900 if name == long else 100) for name in "ab"}
    (tmp_path / "source").mkdir()
    for name, text in whole.items():
        (tmp_path / "source" / f"{name}.txt").write_text(text, encoding="utf-8")
    for seed in range(4):
        corpus = prepare(config(tmp_path / "source", tmp_path / f"data{seed}", seed=seed))
        every = sum(len(corpus.part(part)) for part in PARTS)
        assert all(0.04 < len(corpus.part(part)) / every < 0.06 for part in ("tune", "test"))
        (name,) = corpus.test.names
        (end,) = texts(corpus, corpus.test)
        assert name.endswith(" (test)")
        assert whole[name[0]].endswith(end)


@given(st.lists(st.text("ab \n", min_size=1), min_size=1), st.data())
def test_a_tail_takes_up_where_the_head_ends(pieces: list[str], data) -> None:
    text = "".join(pieces) + "x"
    at = data.draw(st.integers(0, len(text) - 1))
    margin = data.draw(st.integers(0, len(text) - 1 - at))
    head, tail = cut_tail(Document("d", [*pieces, "x"]), at, margin)
    first = "".join(head.pieces)
    assert first + "".join(tail.pieces) == text
    assert at <= len(first) <= at + margin


@given(st.lists(st.lists(st.integers(0, 299), max_size=5), max_size=200))
def test_what_is_packed_is_read_back(tmp_path_factory, documents: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("packed")
    with TokenWriter(folder, "t", np.dtype(np.uint16), end=1) as writer:
        for ids in documents:
            writer.append(np.array(ids, np.uint16))
            writer.end_document()
    tokens, docs = np.fromfile(folder / "t.bin", np.uint16), np.load(folder / "t.docs.npy")
    assert docs.dtype == np.int64
    assert [tokens[a:b].tolist() for a, b in pairwise(docs)] == [[*ids, 1] for ids in documents]
