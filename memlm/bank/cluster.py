"""Documents -> a bank, by as many workers as a Ray cluster has: files in, fragments of the table out, one commit.

    driver   holds the bank's lock, sends files to workers, and commits what they wrote as one version
    worker   opens the model once; reads, tokenises and encodes a file; writes its rows as fragments that no version
             names, and answers with what they are called

A file whose worker was killed is given to another by Ray, and only what was answered is committed: nothing is lost or
stands there twice, and what the killed one wrote is removed after the commit. Documents stand in the order of the
files, as one process would have written them. Sources, model and bank have to be where all workers see them.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memlm import ui
from memlm.bank.bank import Bank, Meta
from memlm.bank.encode import asked_bank, encode_into
from memlm.bank.kept import ANY, Keeping
from memlm.bank.opening import open_model
from memlm.bank.writing import BankWriter, adding, making
from memlm.data.readers import read_file
from memlm.data.sources import Source
from memlm.errors import MemlmError, UsageError, WorkError, first_line
from memlm.locks import one_writer
from memlm.precision import Device, computing


@one_writer
def encode_on_cluster(
    model: Path | str,
    sources: Sequence[Source],
    out: Path | str,
    *,
    keeping: Keeping = ANY,
    append: bool = False,
    batch: int = 256,
    device: Device = "auto",
    column: str = "text",
    workers: int | None = None,
) -> Bank:
    """Encode the documents of files on a Ray cluster; the one that RAY_ADDRESS names, or one of this machine's cores.

    Args:
        model: a run or a saved folder that every worker can open.
        sources: files or folders; a worker takes a file at a time.
        out: as of `encode_documents`, like `keeping`, `append` and `batch`.
        device: of every worker.
        column: of the files, which holds the text.
        workers: how many; as many as the cluster has cores (with `cuda`, GPUs), if not given.

    Returns:
        The bank, opened.

    Raises:
        UsageError: as `encode_documents`, or a source of no files.
        WorkError: as `encode_documents`, or no worker is left.
    """
    if find_spec("ray") is None:
        raise ModuleNotFoundError(name="ray")
    out = Path(out)
    files = [file for source in sources for file in _files(source, column)]
    files = [{"number": number, **file} for number, file in enumerate(files)]
    opened = open_model(model, device)
    meta, old = asked_bank(*opened, out, keeping, append, model)
    gpus = int(opened[0].device.type == "cuda")
    del opened
    with _ray() as ray, making(out, meta) if old is None else adding(old) as writer:
        work = {"model": str(Path(model).resolve()), "place": str(writer.path.resolve()), "meta": meta}
        work |= {"batch": batch, "device": device}
        have = ray.cluster_resources()
        most = max(1, min(len(files), workers or int(have.get("GPU" if gpus else "CPU", 1))))
        rows = ray.data.from_items(files, override_num_blocks=len(files)).map(
            _Worker, fn_constructor_kwargs=work, num_cpus=0 if gpus else 1, num_gpus=gpus, concurrency=(1, most)
        )
        answers: list[Any] = []
        with _failing(), ui.progress(unit="files") as bar:
            task = bar.add_task(f"encoding by {most} workers", total=len(files))
            for row in rows.iter_rows():
                if row["refused"]:
                    raise (UsageError if row["usage"] else WorkError)(row["refused"])
                answers.append(row)
                bar.advance(task)
        for row in sorted(answers, key=lambda row: row["number"]):
            writer.take(row["fragments"], row["names"])
    return Bank.open(out)


class _Worker:
    """What runs in a worker's process: opened once, called with a file at a time."""

    def __init__(self, model: str, place: str, meta: Meta, batch: int, device: Device):
        self.place, self.meta, self.batch = Path(place), meta, batch
        self.model, self.tokenizer = open_model(model, device)

    def __call__(self, file: dict[str, Any]) -> dict[str, Any]:
        """Encode a file; a refusal is an answer, as Ray would try again what was raised."""
        found = {"number": file["number"], "fragments": [], "names": [], "refused": "", "usage": True}
        try:
            writer = BankWriter(self.place, self.meta)
            documents = read_file(Path(file["path"]), file["title"], file["column"])
            with computing(self.model.device):
                encode_into(writer, self.model, self.tokenizer, documents, self.batch)
            found["fragments"], found["names"] = writer.handed_over()
        except MemlmError as error:
            found |= {"refused": str(error), "usage": isinstance(error, UsageError)}
        return found


def _files(source: Source, column: str) -> Iterator[dict[str, Any]]:
    if not source.files:
        raise UsageError(f"{source.name} is no file or folder: --engine ray shares files among workers.")
    for title, path in source.files:
        yield {"title": title, "path": str(path.resolve()), "column": column}


@contextmanager
def _ray() -> Iterator[Any]:
    """Ray, connected to the cluster that is asked for, quiet."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray  # pyright: ignore[reportMissingImports]
    import ray.data  # pyright: ignore[reportMissingImports]

    started = not ray.is_initialized()
    with redirect_stdout(sys.stderr):  # it tells of workers that ended, at the latest when it is shut down
        if started:
            own: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **own)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield ray
        finally:
            if started:
                ray.shutdown()


@contextmanager
def _failing() -> Iterator[None]:
    """Turn what Ray raises when nobody is left to do the work into a sentence."""
    try:
        yield
    except (MemlmError, MemoryError):
        raise
    except Exception as error:
        raise WorkError(f"the workers failed ({first_line(error)}): look at their logs, and encode again.") from error
