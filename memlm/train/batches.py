"""Batches of a run: made on the CPU, and where a GPU trains, one ahead in a thread, in pinned memory."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]  # arguments of a model's forward pass


class Batches:
    """The inputs of any step, on the device.

    Args:
        make: the number of a batch -> its inputs, on the CPU; depends on the number alone, so that whatever was made
            ahead when a run stops is made again when it goes on.
        device: where they are needed.
        count: how many there are; none is made ahead beyond the last.
    """

    def __init__(self, make: Callable[[int], Inputs], device: torch.device, count: int):
        self.make, self.device, self.count = make, device, count
        self.pool = ThreadPoolExecutor(1) if device.type == "cuda" else None
        self.ahead: tuple[int, Future[Inputs]] | None = None

    def __getitem__(self, number: int) -> Inputs:
        """The inputs of batch `number`."""
        if self.pool is None:
            return self.make(number)
        ready = self.ahead[1].result() if self.ahead and self.ahead[0] == number else self._pinned(number)
        if number + 1 < self.count:
            self.ahead = number + 1, self.pool.submit(self._pinned, number + 1)
        return {name: v.to(self.device, non_blocking=True) if isinstance(v, Tensor) else v for name, v in ready.items()}

    def _pinned(self, number: int) -> Inputs:
        return {name: v.pin_memory() if isinstance(v, Tensor) else v for name, v in self.make(number).items()}

    def close(self) -> None:
        """End the thread."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
