"""Text larger than memory: 2 GB go through in less than 1 GB."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SIZE = 2_000_000_000  # bytes

PREPARE = """
import resource, sys
from pathlib import Path
from memlm.data.prepare import Prepare, prepare
corpus = prepare(Prepare(source=sys.argv[1], out=Path(sys.argv[2])))
print(sum(corpus.meta[part]["bytes"] for part in ("train", "tune", "test")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _lines(seed: int):
    """Endless lines of words in a Zipf distribution, each with a number that no other line has."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxzéß"))
    words = np.array(["".join(rng.choice(letters, rng.integers(1, 11))) for _ in range(50_000)])
    number = 0
    while True:
        ranks = np.minimum(rng.zipf(1.3, 200_000), len(words)) - 1
        text = words[ranks]
        for start in range(0, len(text), 100):
            number += 1
            yield f"{' '.join(text[start : start + 100])} {number * 7919}."


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_two_gigabytes_stay_under_one_gigabyte_of_memory(tmp_path: Path, kind: str) -> None:
    source, written = tmp_path / f"large.{kind}", 0
    with open(source, "w", encoding="utf-8") as file:
        for line in _lines(0):
            written += len(line.encode()) + 1
            file.write(json.dumps({"text": line}, ensure_ascii=False) + "\n" if kind == "jsonl" else line + "\n")
            if written >= SIZE:
                break
    began = time.perf_counter()
    command = [sys.executable, "-c", PREPARE, str(source), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read, peak_kib = map(int, done.stdout.split())
    print(f"{kind}: {read / 1e6 / (time.perf_counter() - began):.1f} MB/s, peak {peak_kib / 1024:.0f} MiB")
    assert read > 0.99 * SIZE
    assert peak_kib < 1_000_000
