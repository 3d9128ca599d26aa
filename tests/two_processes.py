"""Two processes of one run, as torchrun starts them; a server that has imported all forks them, so they cost little."""

import json
import multiprocessing
import os
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["memlm.train.curriculum", "torch.distributed.checkpoint", "two_processes"])


def start(work: Callable[[Any], int | None], argument: Any, logs: Path, world: int = 2) -> list[Any]:
    """Processes that do `work`, whose exit code it returns, and write what they say to logs/0, logs/1, ..."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs.mkdir()
    processes = [SERVER.Process(target=_one, args=(rank, world, port, logs, work, argument)) for rank in range(world)]
    for process in processes:
        process.start()
    return processes


def codes(processes: list[Any], seconds: float = 300) -> list[int | None]:
    """Their exit codes, once they have ended; None of one that had to be killed."""
    found = []
    for process in processes:
        process.join(seconds)
        found.append(process.exitcode)
        process.kill()
        process.join()
    return found


def _one(rank: int, world: int, port: int, logs: Path, work: Callable[[Any], int | None], argument: Any) -> None:
    log = os.open(logs / f"{rank}", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    shared = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in shared.items()}
    sys.exit(work(argument))


def command(argv: list[str]) -> int:
    """A command line of ours."""
    from memlm.cli import main

    return main(argv)


def jobs(file: Path) -> None:
    """Go through the jobs of a file, each a call of `train`, and write down how each ended."""
    import torch.distributed as dist

    from memlm.errors import MemlmError
    from memlm.locks import held
    from memlm.records import from_dict
    from memlm.train.config import TrainConfig
    from memlm.train.loop import train
    from memlm.train.tracking import Metrics

    rank = int(os.environ["RANK"])
    write = Metrics.write
    for job in json.loads(file.read_text()):
        out = Path(job["out"])
        if job.get("cut"):  # a run of before, as it was at its first checkpoint
            if rank == 0:
                cut(Path(job["cut"]), out)
            dist.barrier()

        def stop(*_: object, wanted: bool = bool(job.get("stop"))) -> None:
            if wanted:
                raise KeyboardInterrupt

        Metrics.write = lambda *args: (write(*args), stop())[0]
        with held(out) if job.get("locked") and rank == 0 else nullcontext():
            try:
                end = train(from_dict(TrainConfig, job["config"]), out, resume=bool(job.get("cut")))
            except MemlmError as error:
                end = {"error": type(error).__name__, "sentence": str(error), "told": error.told}
            except KeyboardInterrupt:
                end = {"error": "KeyboardInterrupt"}
        Path(f"{job.get('told', out)}.{rank}.json").write_text(json.dumps(end))


def cut(run: Path, out: Path) -> None:
    """Copy a run as if it had been killed after its first checkpoint."""
    shutil.copytree(run, out)
    (out / "summary.json").unlink()
    for later in sorted((out / "checkpoints").iterdir())[1:]:
        shutil.rmtree(later)
