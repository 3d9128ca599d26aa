"""A fresh decoder, fitted to tell chunks from frozen memories alone (paper, Information probe; docs/protocol.md).

The memories are fixed, so they are read from disk and the encoder is not run. Every dimension is brought to mean 0 and
variance 1 first, so that encoders of different scale are read on equal terms. What is known without a memory, the
floor, is counted: a probe's logits are the floor's and, times its trust, what it says of the memory. The trust, a
number for each place, is chosen last, on chunks that were kept aside: a probe that learnt nothing has about none, and
tells what the floor tells.

Families are in measure/families.py; whatever can be fitted to a `Lesson` can be one.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray
KEPT, FEWEST, MOST = 8, 64, 1024  # one training chunk of so many is kept aside, so many at least and at most
_DRAWS = (64.0, 512.0, 4096.0, 32_768.0, 262_144.0)  # how strongly a place's frequencies are drawn to those of all
_PASSES, _ENOUGH = 20, 1e-3  # of the search for the trust: it ends where no place gains so many nats by a step
AT_ONCE, _HELD = 2**25, 4  # numbers of what is said at a time, and how many times so many are held
_IN_CACHE = 2**17  # numbers that a core computes with fastest


class Lesson(NamedTuple):
    """What the probes of one budget and one seed learn from, the memories aside: equal for all encoders."""

    tokens_NT: Array  # chunks, those kept aside first
    aside: int  # how many are
    order_N: Array  # where these are in the budget's chunks
    known_TV: Tensor  # the floor: log frequencies of tokens by place
    vocab_size: int
    seed: int

    def split(self, memories_NM: Array) -> tuple[Array, Array]:
        """Memories of the budget's chunks -> those kept aside, and those to learn from."""
        ordered_NM = np.asarray(memories_NM)[self.order_N]
        return ordered_NM[: self.aside], ordered_NM[self.aside :]


def lesson(tokens_NT: Array, document_N: Array, vocab_size: int, seed: int) -> Lesson:
    """Keep chunks aside, the same share of every document, and count the floor on the others."""
    count = kept_aside(len(tokens_NT))
    rng = np.random.default_rng(seed)
    by_document = np.lexsort((rng.random(len(tokens_NT)), document_N))
    every = len(tokens_NT) / count
    aside = by_document[((rng.random() + np.arange(count)) * every).astype(np.int64)]
    learnt = np.delete(np.arange(len(tokens_NT)), aside)
    order_N = np.concatenate([aside, learnt])
    ordered_NT = tokens_NT[order_N]
    known_TV = frequencies(ordered_NT[count:], ordered_NT[:count], vocab_size)
    return Lesson(ordered_NT, count, order_N, known_TV, vocab_size, seed)


def kept_aside(chunks: int) -> int:
    """How many of the training chunks decide when to stop and whom to trust."""
    return min(max(FEWEST, chunks // KEPT), MOST, chunks // 2)


def frequencies(tokens_NT: Array, aside_NT: Array, vocab_size: int) -> Tensor:
    """Log frequencies of tokens by place [T, V], drawn to those of all places as tells the kept chunks best."""
    N, T = tokens_NT.shape
    flat = (np.arange(T) * vocab_size + tokens_NT).ravel()
    count_TV = np.bincount(flat, minlength=T * vocab_size).reshape(T, vocab_size).astype(float)
    all_V = (count_TV.sum(0) + 0.5) / (N * T + 0.5 * vocab_size)
    tables = (np.log((count_TV + draw * all_V) / (N + draw)) for draw in _DRAWS)
    return torch.from_numpy(max(tables, key=lambda table: table[np.arange(T), aside_NT].sum()).astype(np.float32))


class Probe(nn.Module):
    """memories [B, M] -> standardised -> what is said of them [B, T, V] -> times the trust, on top of the floor."""

    mean_M: Tensor
    scale_M: Tensor
    known_TV: Tensor
    trust_T: Tensor

    def __init__(self, memories_NM: Array, known_TV: Tensor):
        super().__init__()
        mean, spread = (
            torch.from_numpy(of(0, dtype=np.float64).astype(np.float32)) for of in (memories_NM.mean, memories_NM.std)
        )
        self.register_buffer("mean_M", mean)
        self.register_buffer("scale_M", torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0.0))
        self.register_buffer("known_TV", known_TV.clone())
        self.register_buffer("trust_T", torch.ones(len(known_TV)))
        self.kept_nats = math.inf  # of the kept chunks, summed over places

    def standardised(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, M]."""
        return (memory_BM - self.mean_M) * self.scale_M

    def said(self, memory_BM: Tensor) -> Tensor:
        """What it makes of standardised memories: [B, M] -> [B, T, V]; the floor says nothing of them."""
        return self.known_TV.new_zeros(len(memory_BM), *self.known_TV.shape)

    def parts(self, memory_BM: Tensor) -> tuple[Tensor, Tensor]:
        """[B, M] -> what is known without them, [T, V] or [B, T, V], and what is said of them [B, T, V]."""
        return self.known_TV, self.said(self.standardised(memory_BM))

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> logits [B, T, V]."""
        known, said_BTV = self.parts(memory_BM)
        return torch.addcmul(known, self.trust_T[:, None], said_BTV)


class Told(NamedTuple):
    """Some chunks: what is known without their memories, what is said of these, and what the tokens are."""

    known: Tensor  # log probabilities [T, V] or [B, T, V]
    said_BTV: Tensor
    tokens_BT1: Tensor

    def pieces(self) -> Iterator["Told"]:
        """The same, of so few chunks at a time that a core's cache holds them."""
        rows = at_once(self.said_BTV[0])
        known_BTV = self.known.expand_as(self.said_BTV)
        yield from map(Told, known_BTV.split(rows), self.said_BTV.split(rows), self.tokens_BT1.split(rows))

    def logits(self, trust_T: Tensor) -> Tensor:
        """[B, T, V]."""
        return torch.addcmul(self.known, trust_T[:, None], self.said_BTV)


def at_once(of_TV: Tensor) -> int:
    """How many chunks, of so many numbers each, are computed with at a time."""
    return max(1, (_IN_CACHE if of_TV.device.type == "cpu" else AT_ONCE) // of_TV.numel())


def blocks(memories_NM: Array, tokens_NT: Array, rows: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Chunks on the device, so many at a time, one at least: memories [B, M] and tokens [B, T]."""
    both = (torch.from_numpy(np.ascontiguousarray(of)).to(device) for of in (memories_NM, tokens_NT))
    return [*zip(*(of.split(max(1, rows)) for of in both), strict=True)]


@torch.inference_mode()
def best_trust(probe: Probe, memories_NM: Array, tokens_NT: Array) -> Tensor:
    """`trusted` of what a probe says of these chunks."""
    parts = blocks(memories_NM, tokens_NT, AT_ONCE // probe.known_TV.numel(), probe.mean_M.device)

    def told() -> Iterator[Told]:
        for memory_BM, tokens_BT in parts:
            known, said_BTV = probe.parts(memory_BM)
            yield Told(known.log_softmax(-1), said_BTV, tokens_BT.long()[..., None])

    held = list(told()) if len(parts) <= _HELD else None  # else told again and again
    return trusted(lambda: held or told(), len(tokens_NT))


def trusted(told: Callable[[], Iterable[Told]], chunks: int) -> Tensor:
    """By place, the factor of what a probe says at which chunks are told best, from -1/2 to 1,024 [T].

    Places have their own, since a memory that tells the first token alone is not to be believed on the others. Each is
    found by Newton's method between bounds that every slope narrows, as the loss is convex in it. One more chunk is
    thought to be among them whose tokens have nothing to do with its memory, or else what is always right on some
    chunks would be believed without limit; and where all of them together hardly gain by it (one nat or two), the trust
    is drawn to 0.
    """
    one_more = 1 / chunks
    sums = [  # of what is said: of the right tokens, and by what is known
        (
            said_BTV.gather(-1, tokens_BT1).sum((0, 2)),
            torch.einsum("btv,btv->t" if known.ndim == 3 else "btv,tv->t", said_BTV, known.exp()),
        )
        for known, said_BTV, tokens_BT1 in told()
    ]
    right_T, expected_T = (torch.stack(some).sum(0) for some in zip(*sums, strict=True))

    def derivatives(trust_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nats that all chunks gain by a trust, and the slope and the curvature of what is left with one more."""
        norm_T, mean_T, spread_T = (torch.zeros_like(trust_T) for _ in range(3))
        for piece in (piece for some in told() for piece in some.pieces()):
            shares_BTV, said_BTV = piece.logits(trust_T), piece.said_BTV
            top_BT1 = shares_BTV.amax(-1, keepdim=True)
            shares_BTV.sub_(top_BT1).exp_()
            total_BT = shares_BTV.sum(-1)
            norm_T += (total_BT.log() + top_BT1[..., 0]).sum(0)
            mean_BT = shares_BTV.mul_(said_BTV).sum(-1) / total_BT
            mean_T += mean_BT.sum(0)
            spread_T += (shares_BTV.mul_(said_BTV).sum(-1) / total_BT - mean_BT**2).sum(0)
        slope_T = (1 + one_more) * mean_T - right_T - one_more * expected_T
        return trust_T * right_T - norm_T, slope_T, (1 + one_more) * spread_T

    trust_T = torch.ones_like(right_T)
    low_T = torch.full_like(trust_T, -0.5)
    high_T, gain_T = torch.full_like(trust_T, 2.0**10), torch.zeros_like(trust_T)
    for _ in range(_PASSES):
        gain_T, slope_T, curvature_T = derivatives(trust_T)
        low_T, high_T = torch.where(slope_T > 0, low_T, trust_T), torch.where(slope_T > 0, trust_T, high_T)
        # No further than half of the way to a bound, nor than to twice of what it is.
        least_T, most_T = (low_T + trust_T) / 2, ((high_T + trust_T) / 2).minimum(2 * trust_T.abs() + 1)
        next_T = (trust_T - slope_T / curvature_T.clamp(min=1e-9)).clamp(least_T, most_T)
        ends_T = -slope_T * (next_T - trust_T) / 2  # what is gained by it
        trust_T, gain_T = next_T, gain_T + ends_T
        if (ends_T < _ENOUGH).all():
            break
    return trust_T * (1 - 1 / gain_T.clamp(min=1))
