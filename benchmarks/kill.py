"""Nothing is lost: kill -9 at random moments, a disk that is full at any write, two processes at once; every command.

    python benchmarks/kill.py [--kills 200] [--seed 0] [--json benchmarks/kill.json] > benchmarks/kill.md

Each call is a fork of this process, which has imported everything and run nothing. After each fault the state is looked
at (old, new or not there yet; everything readable; every SHA-256 right), then the same call is made again without a
fault: it has to go on, to what an undisturbed call gives, and to leave nothing behind. Of the kills every other one waits
until the first file of the command's last commit is seen. Full disks: call n, n + 1, ... of the system that writes (mkdir,
open, write, fsync, rename, ...; by the shim of tests/faults.py, before which libraries that are not written in Python are
counted as one call) and all after it find no room; and, for what such libraries say then, a tmpfs in a mount namespace of
our own (unshare -rm), filled but for so many pages; where there is none, files may grow so far and no further (RLIMIT_FSIZE).
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from functools import partial
from glob import glob
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import safetensors.torch
from banks import autoencoder, memory_model, tokenizer
from faults import broken
from kill_commands import AT_ONCE, COMMANDS, MEASURE, TRAIN, Command, examine
from kill_page import markdown
from texts import write_documents

from memlm import demo
from memlm.bench import memory
from memlm.cli import main
from memlm.loading import save_model
from memlm.nn.config import StackConfig
from memlm.provenance import commit
from memlm.report import figures
from memlm.report.page import write_report

for _module in ("prepare", "train", "encode", "measure", "report", "eval", "leaderboard", "bench", "demo"):
    __import__(f"memlm.cli.{_module}")
for _module in (
    "train.loop",
    "api",
    "bank.opening",
    "measure.run",
    "report.page",
    "data.prepare",
    "report.plots",
    "evaluate.run",
    "evaluate.local",
    "bench.tokenise",
    "bench.memory",
    "demo",
):
    __import__(f"memlm.{_module}")

TINY = StackConfig(kind="transformer", width=8, layers=1, heads=2)
PAGE = os.sysconf("SC_PAGESIZE")
WORDS = "the sea was calm and a cold wind came from north over hills where old men told long stories of ships".split()


_SAYS: dict[int, int] = {}  # pid -> where its words are read


UNTOUCHED = 77  # exit code of a call that has ended well before the write that would have failed


def start(argv: list[str], place: Path, limit: int | None = None, fault: int | None = None) -> int:
    """A call in a process of its own; its pid. What it says goes into a pipe: little, and no disk is needed.

    Files cannot grow beyond `limit`; from write `fault` on there is no room.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        _SAYS[pid] = reading
        return pid
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # a file's can be sought in
        os.chdir(place)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        met = broken_too(fault) if fault is not None else None
        code = main(argv)
        if met and fault is not None and not code and met() <= fault:
            code = UNTOUCHED
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 99
    os._exit(code)


def broken_too(n: int):
    """The shim, which counts a call that changes nothing before each file that safetensors writes past Python."""
    write, spare = safetensors.torch.serialize_file, os.memfd_create("spare")

    def counted(*args, **named):
        os.ftruncate(spare, 0)
        return write(*args, **named)

    safetensors.torch.serialize_file = counted
    return broken(n, "full")


def wait(pid: int) -> int:
    """The exit code; below zero: the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def said(pid: int) -> str:
    """What a call printed."""
    with open(_SAYS.pop(pid), errors="replace") as file:
        return file.read()


def fresh(place: Path, home: Path, command: Command) -> None:
    """The state before a call."""
    for one in (place / command.path, place / "figures"):
        shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)
    if command.before:
        shutil.copytree(home / command.before, place / command.path)


class Tally(Counter):
    """Counts, and what was wrong, in words."""

    def __init__(self):
        super().__init__()
        self.wrong: list[str] = []


def look(command: Command, place: Path, old: str | None, new: str, tally: Tally, what: str, again: bool = True) -> None:
    """After a fault: old or new, whole; after the same call `again`: new, and nothing left."""
    found = command.new(place)
    tally["old" if found == old else "new" if found == new else "other"] += 1
    path = place / command.path
    seen = examine(path) if path.exists() or list(place.glob(f".{command.path}.*")) else None
    if seen and not seen.whole:
        tally.wrong.append(f"{command.name}, {what}: {seen.problems}")
    if found not in (old, new):
        tally.wrong.append(f"{command.name}, {what}: neither old nor new")
    tally["leftovers"] += bool(seen and seen.leftovers)
    if not again:
        return
    begun = command.name == "train" and (path / "config.json").exists()
    pid = start(command.again if begun else command.call, place)
    code, text = wait(pid), said(pid)
    if code != 0 and not (found == new and code in command.done):
        tally.wrong.append(f"{command.name}, {what}: the next call ends with {code}: {text[-300:]}")
    elif command.new(place) != new:
        tally.wrong.append(f"{command.name}, {what}: the next call gives something else")
    elif examine(path).leftovers or list(place.rglob("*.partial")) or list(place.rglob("*.lock")):
        tally.wrong.append(f"{command.name}, {what}: something is left over")
    else:
        tally["went on"] += 1


def kill(command: Command, place: Path, home: Path, number: int, rng: random.Random, ends: tuple) -> Tally:
    """So many kills: in turn at any moment, and from the moment on when a commit's first file is seen."""
    old, new, seconds, commits = ends
    tally = Tally()
    while tally["faults"] < number:
        fresh(place, home, command)
        near = tally["faults"] % 2 == 1
        after = rng.uniform(0, 1.1 * commits if near else seconds)
        pid = start(command.call, place)
        if near:
            seen(place, command, pid)
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
        ended = wait(pid) != -signal.SIGKILL
        said(pid)
        if ended:
            tally["had ended"] += 1
            continue
        tally["faults"] += 1
        look(command, place, old, new, tally, f"killed after {after:.3f} s" + " of a commit" * near)
    return tally


def seen(place: Path, command: Command, pid: int) -> None:
    """Wait until a commit's first file is there, or the process has ended."""
    while not glob(str(place / command.commit)) and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        pass


def writes(command: Command, place: Path, home: Path, ends: tuple) -> Tally:
    """A disk that is full from write 0, 1, 2, ... on, until the call is not disturbed any more."""
    old, new, *_ = ends
    tally, number = Tally(), 0
    while True:
        if number % command.chained == 0 or command.goes_on:
            fresh(place, home, command)
        pid = start(command.call, place, fault=number)
        code, text = wait(pid), said(pid)
        if code == UNTOUCHED:
            return tally
        tally["faults"] += 1
        what = f"full from write {number} on"
        if code == 0:
            tally["in spite"] += 1
        elif code not in (1, *command.done) or "Traceback" in text or (code == 1 and "free some room" not in text):
            tally.wrong.append(f"{command.name}, {what}: ends with {code}: {text[-300:]}")
        look(command, place, old, new, tally, what, again=number % command.chained == command.chained - 1)
        number += 1


def full(command: Command, place: Path, home: Path, pages: int, ends: tuple, mounted: bool) -> Tally:
    """A disk with room for 0, `pages`, 2 `pages`, ... until the call is not disturbed any more."""
    old, new, *_ = ends
    tally, ballast, room = Tally(), place / "ballast", 0
    while True:
        fresh(place, home, command)
        if mounted:
            free = os.statvfs(place).f_bavail * PAGE
            with open(ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, free - room * PAGE))
        pid = start(command.call, place, None if mounted else room * PAGE)
        code, text = wait(pid), said(pid)
        ballast.unlink(missing_ok=True)
        if code == 0:
            return tally
        tally["faults"] += 1
        if code != 1 or "free some room" not in text or "Traceback" in text:
            tally.wrong.append(f"{command.name}, {room} pages free: ends with {code}: {text[-300:]}")
        look(command, place, old, new, tally, f"{room} pages free")
        room += pages


def twice(command: Command, place: Path, home: Path, times: int, ends: tuple) -> Tally:
    """Two processes make the same call at once, the second a little later each time."""
    _, new, seconds, _ = ends
    tally = Tally()
    for number in range(times):
        fresh(place, home, command)
        first = start(command.call, place)
        time.sleep(seconds * number / times)
        second = start(command.call, place)
        codes = sorted((wait(first), wait(second)))
        texts = said(first) + said(second)
        tally["faults"] += 1
        tally["refused" if codes == [0, 2] else "both"] += 1  # of a second that came when the first had ended, too
        if codes not in ([0, 0], [0, 2]):
            tally.wrong.append(f"{command.name}, twice: {codes} {texts[-300:]}")
        if command.new(place) != new or not examine(place / command.path).whole or list(place.rglob("*.lock")):
            tally.wrong.append(f"{command.name}, twice: not what one call gives")
    return tally


def ready(home: Path) -> None:
    """Texts, and all that the commands start from."""
    rng = random.Random(0)
    for folder, documents, lines in (("texts", 4, 40), ("more", 1, 10)):
        (home / folder).mkdir(parents=True)
        for number in range(documents):
            text = "\n".join(" ".join(rng.choices(WORDS, k=10)) for _ in range(lines))
            (home / folder / f"{folder}-{number}.txt").write_text(text)
    write_documents(home / "books", count=4, words=4000)
    for call in (
        "prepare texts --out data --vocab-size 290",
        "prepare texts --out other --vocab-size 280",
        "prepare books --out longer --vocab-size 300",
        f"{TRAIN} --out run",
        "encode run texts --out bank --device cpu",
        f"{MEASURE} --out measured",
        "tasks longer --tokens 140 --examples 6 --out tasks",
    ):
        pid = start(call.split(), home)
        code = wait(pid)
        text = said(pid)
        assert code == 0, (call, text)
    save_model(memory_model(autoencoder()), tokenizer(), home / "reader")
    drawn, saved = {}, figures._saved

    def once(chart, **how):  # to draw takes seconds and writes nothing: every call is given what is drawn here
        if (key := (chart.name, how["format"])) not in drawn:
            drawn[key] = saved(chart, **how)
        return drawn[key]

    figures._saved = once
    demo.CONTEXTS, memory.run = (32, 64), partial(memory.run, chunk_tokens=4, stack=TINY)
    write_report([home / "measured"], home / "warm.html", home / "warm")  # for `once`


def reference(command: Command, place: Path, home: Path) -> tuple[str | None, str, float, float]:
    """What is there before and after an undisturbed call, how long it takes, and from its last commit on."""
    fresh(place, home, command)
    old, began = command.new(place), time.perf_counter()
    pid = start(command.call, place)
    seen(place, command, pid)
    commit = time.perf_counter()
    code = wait(pid)
    commits = time.perf_counter() - commit
    seconds, text, new = time.perf_counter() - began, said(pid), command.new(place)
    assert code == 0, text
    assert new is not None, command.name
    return old, new, seconds, commits


def namespace() -> bool:
    """Whether file systems can be mounted here; begins this script anew in a mount namespace if that helps."""
    if os.environ.get("MEMLM_NAMESPACE"):
        return True
    try:
        able = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    except OSError:
        able = False
    if able:
        os.environ["MEMLM_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    return False


def run(kills: int, seed: int, pages: int, times: int) -> dict:
    """All of it; rows by command."""
    rng, rows, wrong, began = random.Random(seed), [], [], time.perf_counter()
    mounted = namespace()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        home, small = Path(scratch) / "home", Path(scratch) / "disk"
        ready(home)
        place = Path(scratch) / "place"
        shutil.copytree(home, place)
        small.mkdir()
        if mounted:
            stack.callback(subprocess.run, ["umount", small], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", small], check=True)
        shutil.copytree(home, small / "place")
        for number, command in enumerate(COMMANDS):
            ends = reference(command, place, home)
            share = kills // len(COMMANDS) + (number < kills % len(COMMANDS))
            killed = kill(command, place, home, share, rng, ends)
            written = writes(command, place, home, ends)
            filled = full(command, small / "place", home, pages, ends, mounted)
            both = twice(command, place, home, times, ends)
            wrong += killed.wrong + written.wrong + filled.wrong + both.wrong
            told = {"killed": dict(killed), "written": dict(written), "full": dict(filled), "twice": dict(both)}
            rows.append({"command": command.name, "seconds": round(ends[2], 2), "commit": round(ends[3], 3), **told})
            print(command.name, f"{time.perf_counter() - began:.0f} s", told, *wrong[-3:], file=sys.stderr)
        for command in AT_ONCE:
            slow = command.name == "demo"
            ends = (None, "whole", 0.0, 0.0) if slow else reference(command, place, home)
            both = twice(command, place, home, 1 if slow else times, ends)
            wrong += both.wrong
            rows.append({"command": command.name, "seconds": round(ends[2], 2), "twice": dict(both)})
            print(command.name, f"{time.perf_counter() - began:.0f} s", dict(both), *wrong[-3:], file=sys.stderr)
    setting = {"kills": kills, "seed": seed, "pages": pages, "twice": times, "tmpfs": mounted, "page_bytes": PAGE}
    return {
        "results": rows,
        "wrong": wrong,
        "setting": setting,
        "commit": commit(),
        "seconds": time.perf_counter() - began,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pages",
        type=int,
        default=12,
        help="a full disk has so many more pages free each time",
    )
    parser.add_argument("--twice", type=int, default=4, help="times that two processes make each call at once")
    parser.add_argument("--json", help="a file for the figures, as JSON too")
    given = parser.parse_args()
    found = run(given.kills, given.seed, given.pages, given.twice)
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2) + "\n")
    print(markdown(found))
    sys.exit(bool(found["wrong"]))
