"""Files and records: atomic or not there, strict, told in sentences."""

import errno
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, read_json, sha256_json, write_json, write_text
from memlm.records import Kinds, from_dict, to_dict


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


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_folder_that_cannot_be_put_in_its_place_leaves_the_old_one(tmp_path, monkeypatch, exchanged):
    with atomic_folder(tmp_path / "bank") as scratch:
        (scratch / "memories").write_text("old")
    if not exchanged:
        monkeypatch.setattr("memlm.files._exchange", lambda *_: False)
    with atomic_folder(tmp_path / "bank", replace=True) as scratch:
        (scratch / "memories").write_text("newer")
    assert (tmp_path / "bank" / "memories").read_text() == "newer"
    monkeypatch.setattr("memlm.files._exchange", lambda *_: False)
    rename = Path.rename

    def fails_second(self, target):
        if self.suffix == ".partial":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_second)
    with pytest.raises(WorkError), atomic_folder(tmp_path / "bank", replace=True) as scratch:
        (scratch / "memories").write_text("newest")
    assert (tmp_path / "bank" / "memories").read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["bank"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path):
    def made_meanwhile():
        with atomic_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_text("theirs")

    with pytest.raises(UsageError, match="exists already"):
        made_meanwhile()
    assert (tmp_path / "out" / "theirs").read_text() == "theirs"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with atomic_folder(tmp_path / "out", replace=True) as scratch:
        (scratch / "whole").write_text("whole")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere" / "whole").read_text() == "whole"
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"a link to .*gone, which is not there"), atomic_folder(tmp_path / "nowhere"):
        pass


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


@dataclass(frozen=True)
class Inner:
    number: int = 1
    place: Path = Path("here")


@dataclass(frozen=True)
class Shape(Kinds):
    kinds: ClassVar = {}


@dataclass(frozen=True)
class Round(Shape):
    kind: ClassVar[str] = "round"

    radius: int = 1


@dataclass(frozen=True)
class Square(Shape):
    kind: ClassVar[str] = "square"

    side: int = 1


@dataclass(frozen=True)
class Outer:
    many: tuple[Inner, ...] = ()
    pair: tuple[str, Inner] | None = None
    named: dict[str, Inner] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    rate: float = 1
    device: Literal["cpu", "cuda"] = "cpu"
    shape: Shape = field(default_factory=Round)


def test_records_inside_tuples_and_dicts_survive_json():
    outer = Outer(
        many=(Inner(1), Inner(2, Path("there"))),
        pair=("one", Inner(3)),
        named={"b": Inner(4), "a": Inner(5)},
        free={"shape": [1, {"x": None}]},
        shape=Square(2),
    )
    again = from_dict(Outer, json.loads(json.dumps(to_dict(outer))))
    assert again == outer
    assert list(again.named) == ["b", "a"]
    assert from_dict(Outer, to_dict(Outer())) == Outer()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"many": [{"number": 1, "place": "x"}, {"nmber": 1}]}, r"config\.many\[1\] has no field 'nmber'"),
        ({"named": {"a": {"nmber": 1}}}, r"config\.named\.a has no field 'nmber'"),
        ({"pair": ["one"]}, r"config\.pair needs 2 values, not 1"),
        ({"many": [3]}, r"config\.many\[0\] must be an object, not 3"),
        ({"named": {"a": 3}}, r"config\.named\.a must be an object, not 3"),
        ({"many": [{"number": 1}]}, r"config\.many\[0\] lacks the field 'place'"),
        ({"many": [{"number": "1"}]}, r"config\.many\[0\]\.number must be a whole number, not '1'"),
        ({"many": [{"number": True}]}, r"number must be a whole number, not True"),
        ({"many": {}}, r"config\.many must be a list, not {}"),
        ({"rate": "fast"}, r"config\.rate must be a number, not 'fast'"),
        ({"device": "gpu"}, r"config\.device must be one of cpu, cuda, not 'gpu'"),
        ({"shape": {"side": 1}}, r"config\.shape\.kind must be one of round, square, not None"),
        ({"shape": {"kind": "oval"}}, r"config\.shape\.kind must be one of round, square, not 'oval'"),
        ({"shape": {"kind": "round", "side": 1}}, r"config\.shape has no field 'side'; there are radius"),
        ({}, r"config lacks the field 'many'"),
    ],
)
def test_a_wrong_record_says_where_it_is(value, sentence):
    with pytest.raises(UsageError, match=sentence):
        from_dict(Outer, value)
