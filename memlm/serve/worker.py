"""One thread owns the models: requests wait in two queues, and those that ask the same are computed together.

The first that waits and all that ask the same of the same model become one batch. Short work (encoding, recalling,
searching) has a queue of its own: between two tokens of texts that are generated a batch of it is done, so that nobody
who encodes waits for somebody who generates.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from memlm.serve.metrics import Metrics

TOGETHER = 16  # texts generated at once: sixteen take about twice as long as one (LOG.md, section 28)


class Busy(Exception):
    """As many requests wait as may."""


class Stopped(Exception):
    """Nobody waits for this any more."""


@dataclass(eq=False)
class Job:
    """What one request asks.

    Attributes:
        do: takes what all jobs of a batch ask, a list, and gives as many results, or exceptions.
        key: jobs of equal keys may be done together.
        asked: what `do` is given.
        long: whether it is text that is generated.
        done: its result, or why there is none.
        stop: is set when nobody waits for it any more; text that is generated then ends.
    """

    do: Callable[[list[Any]], list[Any]]
    key: Hashable
    asked: Any
    long: bool = False
    done: "Future[Any]" = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)


class Worker:
    """The thread, and what waits for it; `ended` is set when it takes nothing more.

    Args:
        batch: jobs done together at most.
        queue: jobs that may wait.
        metrics: are told of every batch.
    """

    def __init__(self, batch: int, queue: int, metrics: Metrics):
        self._batch, self._most, self._metrics = batch, queue, metrics
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._changed, self.ended = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="memlm-worker", daemon=True)
        self._thread.start()
        metrics.waiting.set_function(lambda: len(self._short) + len(self._long))

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            Busy: too many wait already, or the server ends.
        """
        with self._changed:
            if self.ended or len(self._short) + len(self._long) >= self._most:
                raise Busy
            (self._long if job.long else self._short).append(job)
            self._changed.notify()

    def close(self) -> None:
        """Do nothing more: what waits or is generated is given up; what is computed is finished."""
        with self._changed:
            self.ended = True
            self._changed.notify()
        self._thread.join()

    def between_tokens(self) -> None:
        """Do a batch of short work while texts are generated."""
        self._do(self._next(self._short, self._batch))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.ended or self._short or self._long)
                if self.ended:
                    break
            self._do(self._next(self._short, self._batch) or self._next(self._long, TOGETHER))
        for job in [*self._short, *self._long]:
            job.done.cancel()

    def _next(self, waiting: deque[Job], most: int) -> list[Job]:
        """The oldest job that waits and those that can be done together with it; none, if none waits."""
        with self._changed:
            same = [job for job in waiting if job.key == waiting[0].key][:most]
            for job in same:
                waiting.remove(job)
            return same

    def _do(self, jobs: list[Job]) -> None:
        """Do jobs together; if they fail, each by itself, so that only those fail that are to blame."""
        jobs = [job for job in jobs if job.done.running() or job.done.set_running_or_notify_cancel()]
        if not jobs:
            return
        self._metrics.batch.observe(len(jobs))
        try:
            results = jobs[0].do([job.asked for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
            else:
                for job in jobs:
                    self._do([job])
            return
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)
