"""Nothing is lost: kill -9 at random moments, a disk that is full at any page, two processes at once; every command.

    python benchmarks/kill.py [--kills 200] [--seed 0] [--json] > benchmarks/kill.md

Each call is a fork of this process, which has imported everything and run nothing. After each fault the state is looked
at (old, new or not there yet; everything readable; every SHA-256 right), then the same call is made again without a
fault: it has to go on, to what an undisturbed call gives, and to leave nothing behind. Full disks are a tmpfs in a mount
namespace of our own (unshare -rm), filled but for so many pages; where there is none, files may grow so far and no further
(RLIMIT_FSIZE).
"""

import argparse
import hashlib
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
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from memlm.bank.bank import Bank
from memlm.cli import main
from memlm.data.corpus import Corpus
from memlm.doctor import examine
from memlm.files import read_json
from memlm.provenance import commit

for _module in ("prepare", "train", "encode", "measure", "report"):
    __import__(f"memlm.cli.{_module}")
for _module in ("train.loop", "api", "bank.opening", "measure.run", "report.page", "data.prepare", "report.plots"):
    __import__(f"memlm.{_module}")

PAGE = os.sysconf("SC_PAGESIZE")
SMALL = (
    "--model.chunk-tokens 8 --model.memory-dim 8 --model.decoder.width 8 --model.encoder.width 8 --batch 8 --device cpu"
)
TRAIN = f"train slots --data data --steps 40 --eval-every 10 --eval-chunks 16 --checkpoint-every 4 --keep 2 {SMALL}"
MEASURE = "measure run --data data --chunks 16 --probe.steps 20 --probe.train-chunks 64 --no-access --device cpu"
WORDS = ["the", "sea", "was", "calm", "and", "a", "cold", "wind", "came", "from", "north", "over", "hills", "where", "old", "men", "told", "long", "stories", "of", "ships"]


def sha256(*files: Path) -> str:
    """Of all these together."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def results(path: Path) -> str | None:
    """A measurement without its times."""
    if not (path / "results.json").exists():
        return None
    rows = [
        {k: v for k, v in row.items() if k != "encode_seconds"} for row in read_json(path / "results.json")["results"]
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]


class Command:
    """A call that writes `path`; `again` goes on with it; `state` tells what is there, None for nothing whole yet."""

    def __init__(self, name, path, call, state, again=None, before=None, done=()):
        self.name, self.path, self.call, self.state = name, path, call.split(), state
        self.again, self.before = (again or call).split(), before  # a folder that is there before the call
        self.done = done  # exit codes of the second call if the first one had written all

    def new(self, place: Path) -> str | None:
        """What is there, all of it read."""
        try:
            return self.state(place / self.path)
        except (OSError, KeyError):
            return None


COMMANDS = [
    Command("report", "out.html", "report run measured --out out.html --figures figures", lambda p: sha256(p)),
    Command("measure", "out", f"{MEASURE} --out out", results),
    Command("prepare", "out", "prepare texts --out out --vocab-size 300", lambda p: Corpus.open(p, verify=True).hash if (p / "data.json").exists() else None),
    Command("prepare --overwrite", "out", "prepare texts --out out --vocab-size 300 --overwrite", lambda p: Corpus.open(p, verify=True).hash, before="other"),
    Command("encode", "out", "encode run texts --out out --device cpu", lambda p: bank_state(p), done=(2,)),
    Command("encode --append", "out", "encode run more --out out --append --device cpu", lambda p: bank_state(p), before="bank", done=(2,)),
    Command("train", "out", f"{TRAIN} --out out", lambda p: sha256(p / "model/model.safetensors") if (p / "summary.json").exists() else None, again="train --resume out"),
]  # fmt: skip


def bank_state(path: Path) -> str | None:
    """Every memory compared with its SHA-256."""
    if not path.exists():
        return None
    bank = Bank.open(path)
    bank.memories()
    return sha256(*(path / name for name in ("memories.npy", "chunks.npy", "meta.json")))


_SAYS: dict[int, int] = {}  # pid -> where its words are read


def start(argv: list[str], place: Path, limit: int | None = None) -> int:
    """A call in a process of its own; its pid. What it says goes into a pipe: little, and no disk is needed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        _SAYS[pid] = reading
        return pid
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.chdir(place)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        code = main(argv)
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        code = 99
    os._exit(code)


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


def look(command: Command, place: Path, old: str | None, new: str, tally: Tally, what: str) -> None:
    """After a fault: old or new, whole; after the same call again: new, and nothing left."""
    found = command.new(place)
    tally["old" if found == old else "new" if found == new else "other"] += 1
    path = place / command.path
    seen = examine(path) if path.exists() or list(place.glob(f".{command.path}.*")) else None
    if seen and not seen.whole:
        tally.wrong.append(f"{command.name}, {what}: {seen.problems}")
    if found not in (old, new):
        tally.wrong.append(f"{command.name}, {what}: neither old nor new")
    tally["leftovers"] += bool(seen and seen.leftovers)
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


def kill(
    command: Command, place: Path, home: Path, number: int, rng: random.Random, ends: tuple
) -> tuple[Tally, float]:
    """So many kills at random moments."""
    old, new, seconds = ends
    tally = Tally()
    while tally["faults"] < number:
        fresh(place, home, command)
        after = rng.uniform(0, seconds)
        pid = start(command.call, place)
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
        ended = wait(pid) != -signal.SIGKILL
        said(pid)
        if ended:
            tally["had ended"] += 1
            continue
        tally["faults"] += 1
        look(command, place, old, new, tally, f"killed after {after:.3f} s")
    return tally, seconds


def full(command: Command, place: Path, home: Path, pages: int, ends: tuple, mounted: bool) -> Tally:
    """A disk with room for 0, `pages`, 2 `pages`, ... until the call is not disturbed any more."""
    old, new, _ = ends
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
    _, new, seconds = ends
    tally = Tally()
    for number in range(times):
        fresh(place, home, command)
        first = start(command.call, place)
        time.sleep(seconds * number / times)
        second = start(command.call, place)
        codes = sorted((wait(first), wait(second)))
        texts = said(first) + said(second)
        tally["faults"] += 1
        tally["refused" if codes == [0, 2] else "both"] += 1
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
    for call in (
        "prepare texts --out data --vocab-size 290",
        "prepare texts --out other --vocab-size 280",
        f"{TRAIN} --out run",
        "encode run texts --out bank --device cpu",
        f"{MEASURE} --out measured",
    ):
        pid = start(call.split(), home)
        code = wait(pid)
        text = said(pid)
        assert code == 0, (call, text)


def reference(command: Command, place: Path, home: Path) -> tuple[str | None, str, float]:
    """What is there before and after an undisturbed call, and how long it takes."""
    fresh(place, home, command)
    old, began = command.new(place), time.perf_counter()
    pid = start(command.call, place)
    code = wait(pid)
    seconds, text, new = time.perf_counter() - began, said(pid), command.new(place)
    assert code == 0, text
    assert new is not None
    return old, new, seconds


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
            killed, seconds = kill(command, place, home, share, rng, ends)
            step = pages * (1 if seconds < 0.6 else 2 if seconds < 1.4 else 4)
            filled = full(command, small / "place", home, step, ends, mounted)
            both = twice(command, place, home, times, ends)
            wrong += killed.wrong + filled.wrong + both.wrong
            rows.append(
                {
                    "command": command.name,
                    "seconds": round(seconds, 2),
                    "killed": dict(killed),
                    "full": {**filled, "pages": step},
                    "twice": dict(both),
                }
            )
            print(command.name, f"{time.perf_counter() - began:.0f} s", *wrong[-3:], file=sys.stderr)
    setting = {"kills": kills, "seed": seed, "pages": pages, "twice": times, "tmpfs": mounted, "page_bytes": PAGE}
    return {
        "results": rows,
        "wrong": wrong,
        "setting": setting,
        "commit": commit(),
        "seconds": time.perf_counter() - began,
    }


def markdown(report: dict) -> str:
    """For people."""
    s = report["setting"]
    disk = "a tmpfs" if s["tmpfs"] else "RLIMIT_FSIZE"
    lines = [
        "# kill",
        "",
        "Nothing is lost and nothing is half: kill -9 at random moments, a full disk, two processes at once.",
        "",
        f"- command: `python benchmarks/kill.py --kills {s['kills']} --seed {s['seed']} --pages {s['pages']} --twice {s['twice']}`",
        f"- commit: {report['commit']}; {report['seconds']:.0f} s, one thread a process, two cores that others used; full disks: {disk}, room for so many",
        f"  more pages ({s['page_bytes']} bytes) each time until the call is not disturbed",
        "- old, new: what is found after the fault, every SHA-256 compared (old: what was there before, or nothing yet)",
        "- went on: the same call again gives what an undisturbed one gives, and nothing half-written is left",
        "",
        "| command | s | kills | old | new | with leftovers | went on | pages | full disks | old | new | went on | twice at once | one refused | both whole |",
        "|---" * 15 + "|",
    ]
    total = Counter()
    for row in report["results"]:
        k, f, t = (Counter(row[name]) for name in ("killed", "full", "twice"))
        cells = [k["faults"], k["old"], k["new"], k["leftovers"], k["went on"], f["pages"], f["faults"], f["old"], f["new"], f["went on"], t["faults"], t["refused"], t["both"]]  # fmt: skip
        total.update(dict(enumerate(cells)))
        lines.append("| " + " | ".join(map(str, [row["command"], row["seconds"], *cells])) + " |")
    lines.append("| **all** | | " + " | ".join("" if i == 5 else str(total[i]) for i in range(13)) + " |")
    lines += ["", f"Wrong: {len(report['wrong'])}.", *(f"- {one}" for one in report["wrong"])]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pages",
        type=int,
        default=1,
        help="a full disk has so many more pages free each time; twice, four times as many for slow calls",
    )
    parser.add_argument("--twice", type=int, default=8, help="times that two processes make each call at once")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told = run(given.kills, given.seed, given.pages, given.twice)
    print(json.dumps(told, indent=2) if given.json else markdown(told))
    sys.exit(bool(told["wrong"]))
