"""Files and records: atomic or not there, strict, told in sentences."""

import errno
from pathlib import Path

import pytest

from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, read_json, sha256_json, write_json, write_text


def fail_halfway(path: Path, *, replace: bool) -> None:
    with atomic_folder(path, replace=replace) as scratch:
        (scratch / "half").write_text("half")
        raise ZeroDivisionError


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_halfway(tmp_path / "out", replace=False)
    assert not list(tmp_path.iterdir())
    with atomic_folder(tmp_path / "out") as scratch:
        (scratch / "whole").write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UsageError, match="exists already"):
        fail_halfway(tmp_path / "out", replace=False)
    with pytest.raises(ZeroDivisionError):
        fail_halfway(tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "whole").read_text() == "whole"
    with atomic_folder(tmp_path / "out", replace=True) as scratch:
        (scratch / "new").write_text("new")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "file", "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WorkError, match="disk is full"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    with pytest.raises(UsageError, match="not there"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_json(tmp_path / "x.json")
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
