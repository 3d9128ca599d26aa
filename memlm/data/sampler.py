"""Batches of windows over a token stream: any step at once, so that resuming is exact by construction.

Epoch e cuts the stream into windows from a random phase on and visits each exactly once, in the order of a keyed
permutation that is computed, not stored: a Feistel network over the window numbers, walked until it lands among them
(Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). Nothing depends on what was drawn before.
"""

import numpy as np

from memlm.errors import UsageError

_ROUNDS = 6


class ChunkSampler:
    """Windows of a token stream [n], memory-mapped or not; a batch of them for every step.

    Windows begin at multiples of `align`, so that they are made of whole chunks of the stream; it divides `window`.
    UsageError where the stream is shorter than a window, or `window` cannot be divided evenly.
    """

    def __init__(self, stream: np.ndarray, window: int, batch: int, seed: int, align: int = 1):
        if window % align:
            raise UsageError(
                f"a window of {window} tokens is not made of whole chunks of {align}: change --model.chunks "
                "(copies need an even number)."
            )
        if len(stream) < window:
            raise UsageError(f"the stream has {len(stream)} tokens, fewer than one window of {window}.")
        self.window, self.batch, self.align = window, batch, align
        # a plain array over the same memory: indexing a memmap is slower
        self._tokens = np.asarray(stream)
        self._columns = np.arange(window)
        self._rows = np.arange(batch)
        self._key = _mix(np.array([seed % 2**64], np.uint64))
        self._most = len(stream) // window  # windows of an epoch; one fewer where the phase is too large
        self._bits = max(2, (self._most - 1).bit_length())
        self._first = np.zeros(1, np.int64)  # [epochs + 1] the number of each epoch's first window

    def batch_at(self, step: int) -> np.ndarray:
        """The windows of a step: int64 [batch, window]."""
        return self._tokens[self.starts_at(step)[:, None] + self._columns].astype(np.int64)

    def starts_at(self, step: int) -> np.ndarray:
        """Where the windows of a step begin in the stream: int64 [batch]."""
        number = step * self.batch + self._rows
        while self._first[-1] <= step * self.batch + self.batch:
            self._know_more_epochs()
        epoch = np.searchsorted(self._first, number, side="right") - 1
        count = self._first[epoch + 1] - self._first[epoch]
        window = self._permute(number - self._first[epoch], count, epoch)
        return self._phase(epoch) + window * self.window

    def _know_more_epochs(self) -> None:
        """Count the windows of as many epochs again as are known (at first 64)."""
        known = len(self._first) - 1
        epoch = np.arange(known, known + max(64, known))
        count = (len(self._tokens) - self._phase(epoch)) // self.window
        self._first = np.concatenate([self._first, self._first[-1] + np.cumsum(count)])

    def _phase(self, epoch: np.ndarray) -> np.ndarray:
        """Every epoch's first token, a multiple of `align` in [0, window)."""
        drawn = _mix(self._key + epoch.astype(np.uint64)) % np.uint64(self.window // self.align)
        return drawn.astype(np.int64) * self.align

    def _permute(self, index: np.ndarray, count: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        """Send every index in [0, count) to its place in its epoch's permutation of [0, count)."""
        low_bits = np.uint64(self._bits // 2)
        low_mask, high_mask = (np.uint64((1 << n) - 1) for n in (self._bits // 2, self._bits - self._bits // 2))
        rounds = np.arange(1, _ROUNDS + 1, dtype=np.uint64)[:, None]
        keys = _mix(self._key ^ _mix(epoch.astype(np.uint64) * np.uint64(_ROUNDS + 1) + rounds))
        value, count = index.astype(np.uint64), count.astype(np.uint64)
        outside = np.ones(len(value), bool)
        while outside.any():
            low, high = value & low_mask, value >> low_bits
            for r in range(0, _ROUNDS, 2):
                high ^= _scramble(low + keys[r]) & high_mask
                low ^= _scramble(high + keys[r + 1]) & low_mask
            np.copyto(value, high << low_bits | low, where=outside)
            outside = value >= count
        return value.astype(np.int64)


def _scramble(x: np.ndarray) -> np.ndarray:
    """The round function: half of `_mix`, which is enough where rounds follow one another."""
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(32)
    x *= np.uint64(0x94D049BB133111EB)
    return x >> np.uint64(32)


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection on 64 bits that leaves no pattern (the finaliser of splitmix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
