"""What is written is old or new, never neither: after a fault or a kill at every call; one writer a folder."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faults import DONE, IN_SPITE, KILLED, SENTENCE, STOPPED, faulty

from memlm import files
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, write_text
from memlm.leftovers import leftovers, remove
from memlm.locks import held, holder, lock_of, mend
from memlm.owners import me


def write(path: Path, text: str) -> None:
    """As a command writes: under the lock, a folder of two files and a folder."""
    with held(path), atomic_folder(path, replace=True) as scratch:
        (scratch / "inner").mkdir()
        for name in ("memories", "meta", "inner/more"):
            with open(scratch / name, "wb") as file:
                file.write(text.encode())


def read(path: Path) -> str | None:
    """The text that all of its files hold; None if it is not there."""
    if not path.exists():
        return None
    names = sorted(str(one.relative_to(path)) for one in path.rglob("[!.]*") if ".partial" not in str(one))
    texts = {(path / name).read_text() for name in names if name != "inner"}
    assert names == ["inner", "inner/more", "memories", "meta"]
    assert len(texts) == 1
    return texts.pop()


WAYS = {
    "exchanged": lambda: None,
    "in two steps": lambda: setattr(files, "_exchange", lambda *_: False),
    "in place": lambda: setattr(files, "is_fixed", lambda path: path.is_dir()),
}


@pytest.mark.parametrize("how", ["kill", "once", "on"])
@pytest.mark.parametrize("way", WAYS)
def test_a_folder_is_old_or_new_whatever_call_fails(tmp_path, way, how):
    def replaced() -> None:
        WAYS[way]()
        write(path, "new")

    path, ends, seen = tmp_path / "bank", set(), set()
    for n in range(150):
        write(path, "old")
        end = faulty(replaced, n, how)
        if way == "exchanged" or (way, how) == ("in two steps", "once"):
            assert read(path) in ("old", "new")  # at any moment, for who knows nothing of kills
        mend(path)
        ends.add(end)
        seen.add(read(path))
        if end == DONE:
            break
        assert end in (KILLED, SENTENCE, IN_SPITE)
        write(path, "newest")  # the next writer goes on and leaves nothing behind
        assert read(path) == "newest"
        assert [one.name for one in tmp_path.iterdir()] == ["bank"]
        assert not leftovers(path)
    assert end == DONE
    assert seen == {"old", "new"}
    assert n > 15
    assert (KILLED if how == "kill" else SENTENCE) in ends


@pytest.mark.parametrize("way", WAYS)
def test_whatever_call_a_signal_meets_nothing_is_left_over(tmp_path, way):
    def replaced() -> None:
        WAYS[way]()
        write(path, "new")
        write_text(path.with_name("page"), "new")
        remove(path.with_name("gone"))

    path, ends, seen = tmp_path / "bank", [], set()
    for n in range(150):
        write(path, "old")
        write(tmp_path / "gone", "old")
        ends.append(faulty(replaced, n, "signal"))
        mend(path)
        seen.add(read(path))
        assert {one.name for one in tmp_path.iterdir()} <= {"bank", "page", "gone"}, n
        assert not leftovers(path)
        if ends[-1] == DONE:
            break
    assert {STOPPED, DONE} <= set(ends) <= {STOPPED, IN_SPITE, DONE}  # in spite: a call that failed anyway
    assert len(ends) > 40
    assert seen == {"old", "new"}


@pytest.mark.parametrize("how", ["kill", "once", "on"])
def test_a_new_folder_is_whole_or_not_there(tmp_path, how):
    path = tmp_path / "runs" / "bank"
    for n in range(150):
        end = faulty(lambda: write(path, "new"), n, how)
        assert read(path) in (None, "new")
        if end == DONE:
            break
        write(path, "newest")
        assert [one.name for one in path.parent.iterdir()] == ["bank"]
        for one in ("memories", "meta", "inner/more"):
            (path / one).unlink()
        (path / "inner").rmdir()
        path.rmdir()
    assert end == DONE
    assert n > 15


@pytest.mark.parametrize("how", ["kill", "once", "on"])
def test_a_file_is_old_or_new(tmp_path, how):
    path, seen = tmp_path / "results.json", set()
    for n in range(150):
        write_text(path, "old")
        end = faulty(lambda: write_text(path, "new"), n, how)
        seen.add(path.read_text())
        if end == DONE:
            break
        write_text(path, "newest")
        assert [one.name for one in tmp_path.iterdir()] == ["results.json"]
    assert end == DONE
    assert seen == {"old", "new"}


def test_a_second_writer_is_refused_and_told_of_the_first(tmp_path):
    with held(tmp_path / "run"):
        told = rf"is being written by process {os.getpid()} on .* since 2"
        with pytest.raises(UsageError, match=told), held(tmp_path / "run"):
            pass
        assert str(os.getpid()) in (holder(tmp_path / "run") or "")
        with held(tmp_path / "another"):
            pass
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "run"):
        pass


def test_a_dead_process_holds_nothing(tmp_path):
    def dies() -> None:
        with held(tmp_path / "run"):
            os.kill(os.getpid(), signal.SIGKILL)

    lock = lock_of(tmp_path / "run")
    assert faulty(dies, -1, "kill") == KILLED
    assert lock.exists()
    assert holder(tmp_path / "run") is None
    with held(tmp_path / "run"):
        assert str(me()) in lock.read_text()
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_what_is_there_is_read(tmp_path, monkeypatch):
    write(tmp_path / "bank", "old")
    before, opened = [*tmp_path.rglob("*")], os.open

    def refused(path, flags, *mode, **named):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *mode, **named)

    monkeypatch.setattr(os, "open", refused)
    with held(tmp_path / "bank"):
        assert read(tmp_path / "bank") == "old"
    assert [*tmp_path.rglob("*")] == before
    with pytest.raises(WorkError, match="Read-only"), held(tmp_path / "other"):
        raise AssertionError


def test_folders_that_nobody_has_made_are_not_left(tmp_path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / "a" / "b" / "run"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_only_what_dead_writers_left_is_removed(tmp_path):
    write(tmp_path / "bank", "old")
    alive, dead = (tmp_path / f".bank.{me()._replace(start=start)}~x.partial" for start in (me().start, "1"))
    elsewhere = tmp_path / f".bank.{me()._replace(host='elsewhere')}~x.partial"
    other = tmp_path / f".bank.two.{me()._replace(start='1')}~x.partial"  # of bank.two
    before = tmp_path / ".bank.abcd1234.partial"  # of memlm 0.2
    for one in (alive, dead, elsewhere, other, before):
        one.mkdir()
    write(tmp_path / "bank", "new")
    assert [one.exists() for one in (alive, dead, elsewhere, other, before)] == [True, False, True, True, True]


def test_of_two_writers_of_an_entry_that_runs_share_both_succeed(tmp_path):
    path = tmp_path / "entry"
    with atomic_folder(path, replace=True) as first, atomic_folder(path, replace=True) as second:
        for scratch, text in ((first, "first"), (second, "second")):
            (scratch / "memories").write_text(text)
    assert (path / "memories").read_text() == "first"  # which was put there last
    assert [one.name for one in tmp_path.iterdir()] == ["entry"]


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "elsewhere" / "page.html")
    (tmp_path / "elsewhere" / "page.html").write_text("old")
    write_text(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "elsewhere" / "page.html").read_text() == "new"


def test_a_link_to_nothing_is_refused_before_the_work(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="which is not there"), held(tmp_path / "out"):
        raise AssertionError


def test_the_working_folder_is_filled_in_place(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    inode = folder.stat().st_ino
    write(Path(), "old")
    write(Path(), "new")
    assert read(Path()) == read(folder) == "new"
    assert folder.stat().st_ino == inode == Path.cwd().stat().st_ino
    assert [one.name for one in tmp_path.iterdir()] == ["here"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    for path in (tmp_path / ("x" * 255), tmp_path / ("東" * 85)):
        write(path, "old")
        (tmp_path / f".{lock_of(path).name[1:-5]}.{me()._replace(start='1')}~x.partial").mkdir()
        write(path, "new")
        assert read(path) == "new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_mount_point_is_filled_in_place(tmp_path):
    script = f"""
mount -t tmpfs -o size=1m none {tmp_path}/mounted && mkdir {tmp_path}/mounted/lost+found &&
{sys.executable} -c '
import sys; sys.path.insert(0, "tests"); from pathlib import Path; from test_store import read, write
from memlm.files import is_fixed
path = Path("{tmp_path}/mounted")
assert is_fixed(path)
for text in ("old", "new"):
    write(path, text)
assert (path / "lost+found").is_dir(); (path / "lost+found").rmdir()
assert read(path) == "new", read(path)'
"""
    (tmp_path / "mounted").mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this system lets no user mount, not even in a namespace of their own (unshare -rm)")
    assert done.returncode == 0, done.stderr


def test_an_unknown_format_names_the_version_that_wrote_it(data, tmp_path):
    from memlm.data.corpus import Corpus

    for one in data.iterdir():
        if one.is_file():
            (tmp_path / one.name).write_bytes(one.read_bytes())
    told = json.loads((data / "data.json").read_text())
    (tmp_path / "data.json").write_text(json.dumps(told | {"format": 7, "memlm": "9.9"}))
    with pytest.raises(UsageError, match=r"format 7, written by memlm 9\.9; memlm .* reads format"):
        Corpus.open(tmp_path)
