"""Tasks with needs: their order, several at once, and how one that fails ends it all."""

import os
import time

import pytest

from memlm.claims.command import tasks_of
from memlm.claims.config import Claims
from memlm.claims.workers import Task, do_all
from memlm.errors import UsageError, WorkError


def note(folder, name, needs):
    for need in needs:
        assert (folder / need).exists(), f"{name} was begun before {need}"
    (folder / name).write_text(str(os.getpid()))


def refuse(folder):
    raise UsageError("no such thing.")


def die():
    os._exit(9)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_follows_what_it_needs(tmp_path, jobs):
    needs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ()}
    do_all({name: Task(note, (tmp_path, name, before), before) for name, before in needs.items()}, jobs)
    assert {path.name for path in tmp_path.iterdir()} == set(needs)
    here = {path.name for path in tmp_path.iterdir() if path.read_text() == str(os.getpid())}
    assert here == (set(needs) if jobs == 1 else set())


def test_what_a_worker_raises_ends_it_and_nothing_more_is_begun(tmp_path):
    tasks = {"bad": Task(refuse, (tmp_path,)), "after": Task(note, (tmp_path, "after", ()), ("bad",))}
    with pytest.raises(UsageError, match="no such thing"):
        do_all(tasks, 2)
    assert not (tmp_path / "after").exists()


def test_a_worker_that_is_killed_is_told_in_a_sentence():
    before, started = os.environ.get("OMP_NUM_THREADS"), time.monotonic()
    with pytest.raises(WorkError, match="a worker was killed"):
        do_all({"dies": Task(die, ())}, 2)
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert time.monotonic() - started < 60


def test_runs_come_after_what_they_start_from_and_figures_after_their_runs():
    tasks, alone = tasks_of(Claims(seeds=2), {"C3", "C5", "E9"})
    assert list(alone) == ["figures of cost, seed 0", "figures of cost, seed 1"]
    names = list(tasks)
    for name, task in tasks.items():
        assert all(names.index(need) < names.index(name) for need in task.needs)
    assert tasks["train memory, seed 1"].needs == ("train memory-language, seed 1",)
    assert tasks["train memory-language, seed 1"].needs == ("train slots-16, seed 1",)
    assert tasks["train slots-16, seed 1"].needs == ()
    assert "train memory-direct, seed 1" in tasks["figures of memory, seed 1"].needs
    assert "figures of E9, seed 1" not in tasks  # shown of one seed


def test_no_more_is_trained_than_a_claim_needs_from_whichever_seed():
    tasks, alone = tasks_of(Claims(first_seed=3, seeds=1), {"C4"})
    assert alone == {}
    assert list(tasks) == ["train mixer-16, seed 3", "train memory-vector, seed 3", "figures of paper, seed 3"]
