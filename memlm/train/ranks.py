"""The processes of one run: what they share, what they agree on, and that none waits for one that has ended.

torchrun or accelerate starts them (docs/processes.md). They go through the same code in the same order; the first one
alone writes files and speaks. A block `together` fails in all if it fails in one; in a block `watched` a thread of each
process hears whether the others live, so that a process that waits for one that was killed ends with a sentence.
"""

import _thread
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, Store

from memlm import ui
from memlm.errors import MemlmError, UsageError, WorkError, first_line, of_the_system
from memlm.locks import held
from memlm.precision import device_of
from memlm.train.config import TrainConfig
from memlm.train.tracking import refuse_trackers

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
BEAT = 0.5  # seconds between signs of life
SILENT = 15.0  # seconds without one after which a process is held for dead
GRACE = 5.0  # seconds in which a process that waits in vain may end by itself
WAIT = timedelta(hours=2)  # for one another; only where all live and one is stuck does this end a run
_REFUSED = {
    "DEEPSPEED": "DeepSpeed",
    "MEGATRON_LM": "Megatron-LM",
    "FSDP": "its FSDP",
    "PARALLELISM_CONFIG": "its parallelism",
}


class Ranks:
    """Process `rank` of `world`."""

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world
        self._over: threading.Event | None = None  # of the block that is watched
        self._blocks = 0
        self._word: list[Any] | None = None  # who ended first, and how: rank, kind of error, sentence
        self._turns = 0  # of `_listen`, which are counted, not timed: what stops a process may stop its threads
        self._silent = SILENT

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def agreed(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, or its refusal, in all of them."""
        with self.together():
            made = [make() if self.first else None]
        if self.world > 1:
            dist.broadcast_object_list(made)
        return made[0]  # pyright: ignore[reportReturnType]

    def all(self, mine: T) -> list[T]:
        """What every process has."""
        found = [mine] * self.world
        if self.world > 1:
            dist.all_gather_object(found, mine)
        return found

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(x)
        return x

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block in which processes do not wait for one another: if it fails in one it fails in all."""
        if self.world == 1:
            yield
            return
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        told = self.all(failed and _told(failed))
        if failed:
            raise failed
        for one in told:
            if one:
                raise _as_error(*one)

    @contextmanager
    def held(self, path: Path) -> Iterator[None]:
        """Hold the lock of a folder (memlm/locks.py), by the first process for all."""
        with ExitStack() as stack:
            self.agreed(lambda: stack.enter_context(held(path)) if self.first else None)
            yield

    @contextmanager
    def patient(self) -> Iterator[None]:
        """A block in which all may be silent for long: while large files are made, a process's threads stand still."""
        self._silent = 60 * SILENT
        try:
            yield
        finally:
            self._silent = SILENT

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block that ends in all processes if it ends in one, however that ended.

        Raises:
            WorkError: another process failed, or gives no sign of life.
            KeyboardInterrupt: another process was told to stop.
        """
        if self.world == 1 or self._over is not None:
            yield
            return
        self._blocks += 1
        shared: Any = distributed_c10d._get_default_store()
        store = PrefixStore(f"memlm/{self._blocks}", shared.clone())  # of a thread
        self._over = over = threading.Event()
        self._word, self._turns = None, 0
        # Two threads: a call to a store whose process stands still does not come back.
        threads = [threading.Thread(target=self._listen, args=(store, over), daemon=True)]
        threads.append(threading.Thread(target=self._watch, args=(over,), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException as error:
            if (ended := self._ended(error, store)) is not error:
                raise ended from None
            raise
        finally:
            over.set()
            for thread in threads:
                thread.join(GRACE)
            self._over = None
        dist.barrier()  # the first process may hold the store: it leaves last

    def _ended(self, error: BaseException, store: Store) -> BaseException:
        """What this process says of its end: its own error, or that of the process that ended first."""
        lost = isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
        lost = lost or (self._word is not None and isinstance(error, KeyboardInterrupt))  # which `_watch` raised
        mine = None if lost else _told(error)
        with suppress(Exception):  # the store is gone with the process that held it
            if mine:
                store.compare_set("ended", "", json.dumps([self.rank, *mine]))
            deadline = time.monotonic() + GRACE  # until all have heard: this process may hold the store
            while time.monotonic() < deadline and (self._word is None or store.add("heard", 0) < self.world):
                time.sleep(BEAT / 10)
        rank, *told = self._word or [self.rank, "WorkError", _silent("another process")]
        if isinstance(error, MemlmError) and rank != self.rank and mine == tuple(told):
            error.told = True
        return error if mine else _as_error(*told)

    def _listen(self, store: Store, over: threading.Event) -> None:
        """Give signs of life, and hear those of others: the first process of all others, these of it."""
        heard: dict[int, tuple[int, int]] = dict.fromkeys(range(1, self.world) if self.first else range(1), (0, 0))
        try:
            while self._word is None and not over.wait(BEAT):
                store.add(f"{self.rank}", 1)
                for rank, (signs, turns) in heard.items():  # so many, and turns without a new one
                    now = store.add(f"{rank}", 0)
                    heard[rank] = now, 0 if now > signs else turns + 1
                    if heard[rank][1] * BEAT > self._silent:
                        told = [rank, "WorkError", _silent(f"process {rank}")]
                        store.compare_set("ended", "", json.dumps(told))
                if store.check(["ended"]):
                    self._word = json.loads(store.get("ended"))
                    store.add("heard", 1)
                self._turns += 1
        except Exception:  # the store is gone with the process that held it
            self._word = self._word or [0, "WorkError", _silent("another process")]

    def _watch(self, over: threading.Event) -> None:
        """End this process where another has ended and it does not notice by itself."""
        seen, waited = 0, 0
        while self._word is None and not over.wait(BEAT):
            seen, waited = self._turns, waited + 1 if self._turns == seen else 0
            if waited * BEAT > self._silent:
                self._word = [0, "WorkError", _silent("process 0")]
        if over.wait(GRACE):
            return
        _thread.interrupt_main()  # which works on its own, and waits for nobody yet
        if not over.wait(GRACE) and self._word is not None:
            with suppress(Exception):
                print(f"memlm: {self._word[2]}", file=sys.stderr, flush=True)
            os._exit(130 if self._word[1] == "KeyboardInterrupt" else 1)  # nothing else leads out of a call that waits


ALONE = Ranks()
_of = cache(Ranks)  # one for all runs of a process, one after the other or one in another


def start(config: TrainConfig, out: Path) -> tuple["Accelerator", Ranks]:
    """The device and the processes of a run.

    Raises:
        UsageError: no such device here, a tracker that is not installed, or what cannot be shared by processes.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs  # of the extra train; who only encodes has no need of it

    refuse_trackers(config.trackers)
    for name, what in _REFUSED.items():
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true", "yes", "on"):
            raise UsageError(
                f"accelerate's config asks for {what}, which memlm does not train with: start it by torchrun, or by "
                "accelerate launch --multi_gpu, and set --parallel to ddp or fsdp."
            )
    cpu = device_of(config.device).type == "cpu"
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no",  # the policy is ours, one for all commands: memlm/precision.py
        log_with=list(config.trackers) or None,
        project_dir=str(out),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)],
    )
    ranks = _of(accelerator.process_index, accelerator.num_processes)
    if config.batch % ranks.world:
        raise UsageError(
            f"a batch of {config.batch} cannot be divided among {ranks.world} processes: choose a multiple."
        )
    ui.console().quiet = not ranks.first
    return accelerator, ranks


def leave() -> bool:
    """Part from the other processes, when all is done; whether this one is the first, which tells of it."""
    if dist.is_initialized():
        dist.destroy_process_group()
    return os.environ.get("RANK", "0") == "0"


def _told(error: BaseException) -> tuple[str, str]:
    """An error as what others are told of it."""
    if not isinstance(error, Exception):
        return "KeyboardInterrupt", "another process of this run was stopped."
    if known := error if isinstance(error, MemlmError) else of_the_system(error):
        return type(known).__name__, str(known)
    return "WorkError", f"another process of this run failed ({type(error).__name__}: {first_line(error)})."


def _as_error(kind: str, sentence: str) -> BaseException:
    return {"UsageError": UsageError, "KeyboardInterrupt": KeyboardInterrupt}.get(kind, WorkError)(sentence)


def _silent(who: str) -> str:
    return f"{who} of this run has ended without a word (killed, or its machine is gone): go on with --resume."
