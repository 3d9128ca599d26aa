"""Tasks with needs, done one after the other, or by several processes at once, each as soon as what it needs is done.

A process that computes in few threads is not slowed down by others as one with many is: models of this size keep a core
busy, not sixteen, so that as many tasks as there are cores end soonest.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from memlm.errors import WorkError
from memlm.provenance import cores


class Task(NamedTuple):
    """A call that another process can make, and the names of the tasks that come before it."""

    call: Callable[..., object]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()


def do_all(tasks: Mapping[str, Task], jobs: int) -> None:
    """Do all tasks, at most `jobs` at once; with one, in this process and in their order.

    Raises:
        WorkError: a worker was killed. What a task raises ends it all: those that run end first, others are not begun.
    """
    if jobs == 1:
        for task in tasks.values():
            task.call(*task.arguments)
        return
    waiting, running, done = dict(tasks), dict[Future[object], str](), set[str]()
    context = multiprocessing.get_context("spawn")  # torch's threads and CUDA do not live through a fork
    threads = max(1, cores() // jobs)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by a worker when it starts
    try:
        with ProcessPoolExecutor(jobs, context) as pool:
            try:
                while waiting or running:
                    ready = [name for name, task in waiting.items() if done.issuperset(task.needs)]
                    for name in ready[: jobs - len(running)]:  # no more, so that what is stopped has finished stages
                        task = waiting.pop(name)
                        running[pool.submit(task.call, *task.arguments)] = name
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        future.result()
                        done.add(running.pop(future))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise WorkError("a worker was killed, for want of memory perhaps: go on with fewer --jobs.") from None
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
