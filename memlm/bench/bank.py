"""A bank of a million memories, on Lance and as memlm 0.2 kept it: opened under 100 ms, 1,000 appended under 200 ms.

The format of before is three files that are exchanged for new ones with every change: memories.npy, which is mapped,
chunks.npy and meta.json with all documents. What wrote it is gone from the package and stands here.
"""

import hashlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from memlm.bank.bank import FORMAT, Bank, Meta, chunk_rows
from memlm.bank.digest import sha256_rows
from memlm.bank.kept import Stored
from memlm.bank.rows import Label
from memlm.bank.search import nearest
from memlm.bank.table import compact
from memlm.bank.writing import BankWriter, adding, compact_bank, making, remove_documents
from memlm.bench.form import Options, Report
from memlm.files import atomic_folder, read_json, write_json
from memlm.leftovers import entries
from memlm.locks import held

MEMORIES, APPENDED, WIDTH, CHUNKS, T = 1_000_000, 1_000, 256, 50, 64
BEFORE = "before (0.2), fp32"
SIDES: dict[str, Stored] = {"Lance, fp32": "fp32", "Lance, fp16": "fp16", "Lance, int8": "int8"}
META = Meta(
    format=FORMAT,
    memlm="",
    commit="",
    model=None,
    encoder="0" * 64,
    tokenizer="0" * 64,
    chunk_tokens=T,
    memory_dim=WIDTH,
    dtype="fp32",
    fill="repeat",
)


def run(
    options: Options, *, memories: int = MEMORIES, appended: int = APPENDED, rounds: int = 5, alone: bool = True
) -> Report:
    """Every operation, if `alone` in a process of its own, so that its memory is its own; nothing is encoded."""
    report = Report(
        name="bank",
        columns=("operation", "bank", "seconds (median)", "most memory, MB", "on disk, MB"),
        setting=(
            f"{memories:,} random memories of {WIDTH} numbers in documents of {CHUNKS}; {appended:,} appended; files "
            f"are in the page cache and synced; {rounds} rounds of what is short, each operation in a process that has "
            "imported what it needs"
        ),
    )
    with tempfile.TemporaryDirectory(prefix="memlm-bench-") as place:
        for side in (BEFORE, *SIDES):
            path = Path(place) / "bank"
            for name, work, times in operations(path, side, memories, appended, rounds):
                found = (_apart if alone else _measured)(work, times)
                disk = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
                report.rows.append((name, side, median(found["seconds"]), found["peak"] / 1e6, disk / 1e6))
                report.raw.setdefault(name, {})[side] = found | {"disk": disk}
            shutil.rmtree(path)
    told = {(name, side): seconds for name, side, seconds, *_ in report.rows}
    for name, asked in (("opened", "below 0.1 s"), (f"{appended:,} appended", "below 0.2 s")):
        for side in SIDES:
            report.ratios[f"{name}, {side}: seconds ({asked})"] = told[name, side]
        report.ratios[f"{name}, before / Lance, fp32"] = told[name, BEFORE] / told[name, "Lance, fp32"]
    return report


def operations(path: Path, side: str, memories: int, appended: int, rounds: int) -> Iterator[tuple[str, "Work", int]]:
    """What is done to a bank, one after the other, and how often."""
    some, last = slice(memories // 2, memories // 2 + 4096), f"{memories // CHUNKS - 1}"
    if side == BEFORE:
        yield "made", Work(write_before, path, 0, memories), 1
        yield "opened", Work(open_before, path), rounds
        yield f"{appended:,} appended", Work(write_before, path, memories, appended), min(3, rounds)
        yield "4,096 memories read", Work(read_before, path, some), rounds
        yield "10 nearest of all", Work(search_before, path), min(3, rounds)
        return
    yield "made", Work(make, path, memories, SIDES[side]), 1
    yield "opened", Work(Bank.open, path), rounds
    yield "its documents listed", Work(documents, path), rounds
    yield f"{appended:,} appended", Work(append, path, memories, appended), rounds
    yield "4,096 memories read", Work(read, path, some), rounds
    yield "10 nearest of all", Work(search, path), min(3, rounds)
    yield "a document removed", Work(remove_documents, path, [last]), 1
    yield "compacted", Work(compacted, path), 1
    if SIDES[side] == "fp32":
        yield "filed by angles", Work(compact_bank, path), 1
        yield "about 10 nearest, filed", Work(search_filed, path), rounds


class Work:
    """A call that can be sent to another process; one that appends is told its round."""

    def __init__(self, call: Callable[..., Any], *args: Any):
        self.call, self.args = call, args

    def __call__(self, number: int) -> None:
        """Do it for the `number`th time."""
        args = (*self.args, number) if self.call in (append, write_before) else self.args
        self.call(*args)


def made_up(first: int, count: int, number: int = 0) -> Iterator[tuple[np.ndarray, list[Label]]]:
    """Documents of `CHUNKS` random memories; those of another round have other names."""
    for document in range(first // CHUNKS, (first + count) // CHUNKS):
        name = f"{document}" if not number else f"{document}-{number}"
        labels = [Label(name, chunk, T) for chunk in range(CHUNKS)]
        facts = 4 * CHUNKS * T, 4 * CHUNKS * T, hashlib.sha256(name.encode()).hexdigest()
        labels[-1] = Label(name, CHUNKS - 1, T, *facts)
        yield np.random.default_rng([document, number]).standard_normal((CHUNKS, WIDTH), np.float32), labels


def make(path: Path, memories: int, dtype: Stored) -> None:
    """A new bank on Lance."""
    with held(path), making(path, replace(META, dtype=dtype)) as writer:
        _fill(writer, 0, memories, 0)


def append(path: Path, first: int, count: int, number: int) -> None:
    """Its lock, its opening, its names compared and its next version."""
    with held(path), adding(Bank.open(path)) as writer:
        _fill(writer, first, count, number)


def _fill(writer: BankWriter, first: int, count: int, number: int) -> None:
    for memory_KM, labels in made_up(first, count, number):
        writer.add(memory_KM, labels)


def documents(path: Path) -> None:
    """How many there are, and the last one by its name."""
    bank = Bank.open(path)
    bank.find(bank.documents[-1].name)


def read(path: Path, some: slice) -> None:
    """Memories out of the middle, compared with their checksums."""
    Bank.open(path).memories(some)


def search(path: Path) -> None:
    """Exactly: every memory is read."""
    nearest(Bank.open(path), np.ones(WIDTH, np.float32), 10, exact=True)


def compacted(path: Path) -> None:
    """Small files joined, and the room of what was removed freed; no index."""
    with held(path):
        compact(Bank.open(path).table, timedelta(0), index=False)


def search_filed(path: Path) -> None:
    """By the index, if there are so many that there is one."""
    nearest(Bank.open(path), np.ones(WIDTH, np.float32), 10)


def open_before(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The format of before: every row of chunks.npy was compared with meta.json."""
    meta = read_json(path / "meta.json")
    memory_KM, chunks = np.load(path / "memories.npy", mmap_mode="r"), np.load(path / "chunks.npy", mmap_mode="r")
    first = 0
    for number, entry in enumerate(meta["documents"]):
        rows = chunks[first : first + entry["chunks"]]
        assert np.array_equal(rows, chunk_rows(number, entry["tokens"], T))
        first += entry["chunks"]
    return meta, memory_KM


def write_before(path: Path, first: int, count: int, number: int) -> None:
    """The format of before: all is written again beside the old one, and exchanged for it."""
    meta, old_KM = open_before(path) if entries(path) else ({"documents": []}, None)
    with held(path), atomic_folder(path, replace=True) as folder:
        kept = 0 if old_KM is None else len(old_KM)
        shape = (kept + count // CHUNKS * CHUNKS, WIDTH)
        memory_KM = np.lib.format.open_memmap(folder / "memories.npy", "w+", np.float32, shape)
        for start in range(0, kept, 4096):
            assert old_KM is not None
            memory_KM[start : min(start + 4096, kept)] = old_KM[start : start + 4096]
        for own_nM, labels in made_up(first, count, number):
            memory_KM[kept : kept + len(own_nM)] = own_nM
            kept += len(own_nM)
            last = labels[-1]
            entry = {"name": last.document, "characters": last.characters, "bytes": last.bytes, "sha256": last.sha256}
            entry |= {"tokens": CHUNKS * T, "chunks": CHUNKS, "memories_sha256": sha256_rows(own_nM)}
            meta["documents"].append(entry)
        memory_KM.flush()
        rows = [chunk_rows(number, entry["tokens"], T) for number, entry in enumerate(meta["documents"])]
        np.save(folder / "chunks.npy", np.concatenate(rows))
        write_json(folder / "meta.json", meta)


def read_before(path: Path, some: slice) -> None:
    """Memories out of the middle, and their documents' SHA-256."""
    meta, memory_KM = open_before(path)
    first = some.start // CHUNKS
    for number, entry in enumerate(meta["documents"][first : -(-some.stop // CHUNKS)]):
        start = (first + number) * CHUNKS
        assert sha256_rows(memory_KM[start : start + CHUNKS]) == entry["memories_sha256"]
    memory_KM[some].astype(np.float32)


def search_before(path: Path) -> None:
    """What a user could do with the mapped array."""
    memory_KM = open_before(path)[1]
    query_M, scores = np.ones(WIDTH, np.float32), []
    for start in range(0, len(memory_KM), 8192):
        block_nM = memory_KM[start : start + 8192]
        scores.append(block_nM @ query_M / np.linalg.norm(block_nM, axis=1))
    np.argpartition(-np.concatenate(scores), 9)


def _apart(work: Work, times: int) -> dict[str, Any]:
    """Seconds of each call, and the bytes that the calls had beside what the process had."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # all but Lance, which no fork may have
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, work, times).result()


def _measured(work: Work, times: int) -> dict[str, Any]:
    import lance  # noqa: F401, what is imported once is no part of an operation
    import pyarrow.compute  # noqa: F401

    before, seconds = _peak(), []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "peak": _peak() - before}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
