"""Encoding by the workers of a cluster: the bank that one process makes, though a worker is killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from banks import autoencoder, contents, tokenizer

from memlm.bank.bank import Bank
from memlm.cli import main
from memlm.loading import save_model

pytest.importorskip("ray", reason="a cluster of 79 MB, which the lock leaves out: pip install 'memlm[ray]'")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("cluster")
    save_model(autoencoder(), tokenizer(), place / "auto")
    (place / "texts").mkdir()
    for number in range(24):
        rows = ({"text": f"the sea was calm and a cold wind {number} {row} came " * 4} for row in range(30))
        (place / "texts" / f"part-{number:02}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["encode", str(place / "auto"), str(place / "texts"), "--out", str(place / "bank")]) == 0
    return place


def encoding(place: Path, out: str, *more: str) -> subprocess.Popen:
    call = ["encode", str(place / "auto"), str(place / "texts"), "--out", str(place / out), "--engine", "ray"]
    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "memlm", *call, "--workers", "2", "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def workers_of(pid: int) -> list[int]:
    """Processes below one that encode: Ray names them after what they do."""
    import psutil

    found = []
    for one in psutil.Process(pid).children(recursive=True):
        try:
            if "_Worker" in " ".join(one.cmdline()):
                found.append(one.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
    return found


def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(place):
    process, killed = encoding(place, "shared"), 0
    try:
        while process.poll() is None and not killed:
            written = list(place.glob(".shared.*.partial/memories.lance/data/*"))
            if len(written) >= 3 and (found := workers_of(process.pid)):
                os.kill(found[0], signal.SIGKILL)
                killed = found[0]
            time.sleep(0.01)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert killed, "all was done before a worker could be killed"
    assert json.loads(out)["documents"] == 24 * 30
    one, many = Bank.open(place / "bank"), Bank.open(place / "shared")
    assert contents(many) == contents(one)
    named = {file.path for fragment in many.table.data.get_fragments() for file in fragment.metadata.files}
    assert {file.name for file in place.glob("shared/memories.lance/data/*")} == named  # no half of the killed one's
    assert not list(place.glob(".shared*"))
