"""What benchmarks/kill.py breaks: the calls that write, and how it is told what they have left."""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from memlm import doctor
from memlm.bank.bank import Bank
from memlm.data.corpus import Corpus
from memlm.files import read_json

SMALL = (
    "--model.chunk-tokens 8 --model.memory-dim 8 --model.decoder.width 8 --model.encoder.width 8 --batch 8 --device cpu"
)
TRAIN = f"train slots --data data --steps 12 --eval-every 6 --eval-chunks 16 --checkpoint-every 4 --keep 2 {SMALL}"
MEASURE = "measure run --data data --chunks 16 --probe.steps 8 --probe.train-chunks 64 --no-access --device cpu"


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
    """A call that writes `path`; `again` goes on with it; `state` tells what is there, None for nothing whole yet.

    `commit` is a pattern of what stands in the folder first when the last commit begins; `chained`: so many
    full disks come before a call that is not disturbed, each in what the one before left, unless a call `goes_on` from there.
    """

    def __init__(self, name, path, call, state, commit="*", again=None, before=None, done=(), chained=4, goes_on=False):
        self.commit, self.chained, self.goes_on = commit, chained, goes_on
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
    Command("prepare", "out", "prepare texts --out out --vocab-size 300", lambda p: Corpus.open(p, verify=True).hash if (p / "data.json").exists() else None, ".out.*/data.json"),
    Command("prepare --overwrite", "out", "prepare texts --out out --vocab-size 300 --overwrite", lambda p: Corpus.open(p, verify=True).hash, ".out.*/data.json", before="other"),
    Command("encode", "out", "encode run texts --out out --device cpu", lambda p: apart(bank_state, p), ".out.*/meta.json", done=(2,)),
    Command("encode --append", "out", "encode run more --out out --append --device cpu", lambda p: apart(bank_state, p), "out/memories.lance/_transactions/1-*", before="bank", done=(2,)),
    Command("train", "out", f"{TRAIN} --out out", lambda p: sha256(p / "model/model.safetensors") if (p / "summary.json").exists() else None, "out/.model.*", again="train --resume out", goes_on=True),
    Command("report", "out.html", "report measured --out out.html --figures figures", lambda p: sha256(p), ".out.html.*/*", chained=8),
    Command("measure", "out", f"{MEASURE} --out out", results, "out/.sha256.json.*", chained=8, goes_on=True),
]  # fmt: skip
AT_ONCE = [
    Command("eval", "out", "eval reader --tasks tasks --limit 4 --out out --device cpu", lambda p: whole(p, "eval.json")),
    Command("tasks", "out", "tasks longer --tokens 140 --examples 6 --out out", lambda p: whole(p, "tasks.json"), done=(2,)),
    Command("leaderboard", "out.md", "leaderboard measured --out out.md", lambda p: sha256(p)),
    Command("bench", "out", "bench tokenise --data data --out out --seconds 0.05", lambda p: whole(p, "tokenise.json", "tokenise.md")),
    Command("demo", "out", "demo --source books --out out --scale 0.002", lambda p: whole(p, "report.html")),
]  # fmt: skip


def apart(call, *args):
    """A call in a process of its own: this one forks, and must not have loaded Lance."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(call, *args).result()


def examine(path: Path) -> doctor.Finding:
    """As the doctor finds it, apart."""
    return apart(doctor.examine, path)


def whole(path: Path, *names: str) -> str | None:
    """Of what holds times: that it is all there and as it was written."""
    if not all((path / name).is_file() for name in names):
        return None
    for one in path.glob("*.json"):
        read_json(one)
    return "whole" if examine(path).whole and not list(path.rglob("*.partial")) else None


def bank_state(path: Path) -> str | None:
    """Every memory compared with its checksum."""
    if not path.exists():
        return None
    bank = Bank.open(path)
    bank.memories()
    return f"{bank.version} {[entry.name for entry in bank.documents]}"
