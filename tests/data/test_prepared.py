import errno
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlm.data.corpus import Corpus
from memlm.data.packing import TokenWriter
from memlm.data.prepare import Prepare, prepare
from memlm.data.split import by_name, choose, cut_tail, draw
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
    corpus = prepare(config(books, tmp_path / "data", hold_out=("b2", "b4")))
    whole = {path.stem: path.read_text(encoding="utf-8") for path in books.iterdir()}
    assert texts(corpus, corpus.train) == [whole[name] for name in ("b0", "b1", "b3", "b5")]
    assert dict(zip(corpus.valid.names, texts(corpus, corpus.valid), strict=True)) == {
        name: whole[name] for name in ("b2", "b4")
    }
    for side in ("train", "valid"):
        told, stream = corpus.meta[side], getattr(corpus, side)
        assert told["tokens"] == len(stream) == stream.documents[-1]
        assert told["bytes"] == corpus.token_bytes[stream.tokens].sum()
    assert corpus.meta["valid"]["how"] == "named"


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
    other = prepare(config(books, tmp_path / "three", hold_out=("b1",)))
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


def test_the_only_document_gives_its_tail(tmp_path: Path) -> None:
    text = TEXT * 200
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    corpus = prepare(config(tmp_path / "a.txt", tmp_path / "data", valid_fraction=0.1))
    (head,), (tail,) = texts(corpus, corpus.train), texts(corpus, corpus.valid)
    assert head + tail == text
    assert head.endswith("\n\n")
    assert 0.05 < len(tail) / len(text) <= 0.1
    assert corpus.valid.names == ("a (tail)",)
    assert "tail" in corpus.meta["valid"]["how"]


def test_a_tokenizer_can_be_given(books: Path, tmp_path: Path) -> None:
    first = prepare(config(books, tmp_path / "one", hold_out=("b1",)))
    second = prepare(config(books, tmp_path / "two", hold_out=("b1",), tokenizer=first.path))
    assert (first.train.tokens == second.train.tokens).all()
    assert second.tokenizer.to_str() == first.tokenizer.to_str()


def test_a_wrong_setting_is_refused_before_any_work(books: Path, tmp_path: Path) -> None:
    for named, said in (
        ({"hold_out": ("b9",)}, "no document b9 to hold out; there are b0, b1"),
        ({"hold_out": tuple(f"b{i}" for i in range(6))}, "none is left"),
        ({"valid_fraction": 0.0}, "above 0 and below 1"),
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
    (path / "data.json").write_text(json.dumps({"files": {}}))
    with pytest.raises(UsageError, match="prepared data set"):
        Corpus.open(path)
    with pytest.raises(UsageError, match="it has no"):
        Corpus.open(tmp_path)


def test_chunks_are_whole_and_inside_their_documents(books: Path, tmp_path: Path) -> None:
    corpus = prepare(config(books, tmp_path / "data", hold_out=("b0",)))
    stream, length = corpus.train, 16
    tokens, document = corpus.chunks(stream, length)
    assert tokens.dtype == np.int64
    assert len(tokens) == sum((n - 1) // length for n in np.diff(stream.documents))
    assert corpus.end_id not in tokens
    for i in range(len(stream.documents) - 1):
        mine = tokens[document == i].ravel()
        start = stream.documents[i]
        assert (mine == stream.tokens[start : start + len(mine)]).all()
    some, of = corpus.chunks(stream, length, limit=7)
    assert some.shape == (7, length)
    assert set(of) == set(document)  # spread over every document
    assert {row.tobytes() for row in some} <= {row.tobytes() for row in tokens}
    assert len(corpus.chunks(stream, length, limit=10**9)[0]) == len(tokens)
    with pytest.raises(UsageError, match="shorter chunks"):
        corpus.chunks(stream, 10**6)


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=30), st.lists(st.sampled_from("abcd"), max_size=2))
def test_named_documents_are_held_out_and_all_are_kept(names, hold_out) -> None:
    documents = [Document(name, [name]) for name in names]
    pairs = list(by_name(iter(documents), hold_out))
    assert [document for document, _ in pairs] == documents
    assert any(held for _, held in pairs)
    if set(hold_out) & set(names):
        assert all(held == (document.name in hold_out) for document, held in pairs)


@given(st.lists(st.integers(2, 10**6), min_size=1, max_size=40), st.integers(0, 99), st.integers(1, 95))
def test_a_draw_is_a_share_of_the_text_whatever_the_documents_sizes(sizes, seed, percent) -> None:
    fraction, draws = percent / 100, [draw(seed, number, "") for number in range(len(sizes))]
    shares = choose(draws, sizes, fraction)
    held = sum(sizes[number] * share for number, share in shares.items())
    goal = fraction * sum(sizes)
    assert abs(held - goal) <= 0.1001 * goal
    assert held < sum(sizes)
    assert sum(share < 1 for share in shares.values()) <= 1
    first = max(draws[number] for number in shares)  # in the order of their draws
    assert all(number in shares for number, drawn in enumerate(draws) if drawn < first)


@pytest.mark.parametrize("long", ["a", "b"])
def test_a_document_nine_times_as_long_as_the_other_is_cut(long, tmp_path: Path) -> None:
    whole = {name: f"Book {name}. " + TEXT * (900 if name == long else 100) for name in "ab"}
    (tmp_path / "source").mkdir()
    for name, text in whole.items():
        (tmp_path / "source" / f"{name}.txt").write_text(text, encoding="utf-8")
    for seed in range(4):
        corpus = prepare(config(tmp_path / "source", tmp_path / f"data{seed}", seed=seed))
        share = len(corpus.valid) / (len(corpus.valid) + len(corpus.train))
        assert 0.04 < share < 0.06
        (name,) = corpus.valid.names
        (tail,) = texts(corpus, corpus.valid)
        assert name.endswith(" (tail)")
        assert whole[name[0]].endswith(tail)
        assert sorted(len(text) for text in texts(corpus, corpus.train)) == sorted(
            len(text) - (len(tail) if called == name[0] else 0) for called, text in whole.items()
        )


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
