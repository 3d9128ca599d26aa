"""A probe that is trained: memories -> bridge -> a small stack -> head, from nothing said at all.

It stops where it tells the kept chunks best, be that at the start; then its trust is chosen on them. Logits are many
times what they are made of, so that they are made of a few chunks at a time, in a core's cache, and never kept.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from memlm import ui
from memlm.errors import WorkError
from memlm.measure.config import DecoderConfig, ProbeConfig
from memlm.measure.probe import AT_ONCE, Lesson, Probe, Told, at_once, blocks, trusted
from memlm.memory.encoder_shape import BRIDGES
from memlm.named import named
from memlm.nn.stack import build_stack
from memlm.train.optim import build_optimizers, learning_rate, set_learning_rate

Array = np.ndarray
LOOKS = 10  # at the kept chunks, evenly spread over the steps, and one before them
EPOCHS = 16  # at most
_LOOKED = 256  # kept chunks that the trust is chosen on while it learns
_KEPT = 2**27  # numbers, at most, that are kept of what does not learn of kept chunks


class Beside(NamedTuple):
    """What is beside a trained decoder and does not learn."""

    known: Tensor  # [T, V] or [B, T, V]
    said_BTV: Tensor | None = None  # by another probe
    read_BTW: Tensor | None = None  # what else the decoder reads


class TrainedProbe(Probe):
    """A bridge and a stack; the head begins at zero, so that the floor is what it begins with."""

    step = 0  # after which its weights were taken

    def __init__(self, decoder: DecoderConfig, memories_NM: Array, known_TV: Tensor):
        super().__init__(memories_NM, known_TV)
        tokens, vocab_size = known_TV.shape
        self.bridge = named(BRIDGES[decoder.bridge])(tokens, memories_NM.shape[1], decoder.stack.width)
        self.decoder = build_stack(decoder.stack, tokens)
        self.head = nn.Linear(decoder.stack.width, vocab_size, bias=False)
        nn.init.zeros_(self.head.weight)

    def beside(self, memory_BM: Tensor) -> Beside:
        """[B, M] -> what does not learn of them."""
        del memory_BM
        return Beside(self.known_TV)

    def states(self, memory_BM: Tensor, beside: Beside) -> Tensor:
        """[B, M] -> what the head reads [B, T, W]."""
        del beside
        return self.decoder(self.bridge(self.standardised(memory_BM)))

    def parts(self, memory_BM: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Probe`."""
        beside = self.beside(memory_BM)
        said_BTV = self.head(self.states(memory_BM, beside))
        return beside.known, said_BTV if beside.said_BTV is None else said_BTV + beside.said_BTV

    def pieces(self, h_BTW: Tensor, beside: Beside) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The same of what the head reads, for some chunks at a time: which, what is known and what is said of them."""
        rows = at_once(self.known_TV)
        for i in range(0, len(h_BTW), rows):
            part = slice(i, i + rows)
            said_BTV = self.head(h_BTW[part])
            if beside.said_BTV is not None:
                said_BTV += beside.said_BTV[part]
            yield part, beside.known if beside.known.ndim == 2 else beside.known[part], said_BTV


def fit_trained(
    memories_NM: Array,
    lesson: Lesson,
    device: torch.device,
    decoder: DecoderConfig,
    config: ProbeConfig,
    name: str,
    make: Callable[[DecoderConfig, Array, Tensor], TrainedProbe] = TrainedProbe,
) -> Probe:
    """Train what `make` makes; the same config and lesson give the same one. WorkError where the loss is no number."""
    (aside_NM, learnt_NM), count = lesson.split(memories_NM), lesson.aside
    aside_NT, learnt_NT = lesson.tokens_NT[:count], lesson.tokens_NT[count:]
    with torch.random.fork_rng():
        torch.manual_seed(lesson.seed)
        probe = make(decoder, learnt_NM, lesson.known_TV).to(device)
    aside = _Aside(probe, aside_NM, aside_NT)
    optimizers = build_optimizers(probe, decoder.optim)
    batch = min(config.batch, len(learnt_NT))
    steps = min(config.steps, max(LOOKS, EPOCHS * len(learnt_NT) // batch))
    rng, order = np.random.default_rng(lesson.seed), np.empty(0, np.int64)
    looks = {round(steps * i / LOOKS) for i in range(LOOKS + 1)}
    best, kept = math.inf, probe.state_dict()
    with ui.progress(unit="steps") as bar:
        task = bar.add_task(f"{name}: probe", total=steps)
        for step in range(steps + 1):
            if step in looks:
                # Told at its best trust: one that is too sure of what it learnt has learnt it all the same.
                nats = aside.nats(aside.trust(aside.first))
                if not math.isfinite(nats):
                    raise WorkError(f"the probe of {name} left the numbers (loss {nats}): its vectors are too unlike.")
                if nats < best:
                    best, probe.step = nats, step
                    kept = {key: tensor.clone() for key, tensor in probe.state_dict().items()}
            if step == steps:
                break
            if len(order) < batch:  # epochs follow one another without a short batch
                order = np.concatenate([order, rng.permutation(len(learnt_NT))])
            rows, order = np.sort(order[:batch]), order[batch:]
            memory_BM = torch.from_numpy(learnt_NM[rows]).to(device)
            tokens_BT = torch.from_numpy(learnt_NT[rows].astype(np.int64)).to(device)
            set_learning_rate(optimizers, learning_rate(decoder.optim, step, steps))
            probe_step(probe.train(), optimizers, memory_BM, tokens_BT, decoder.optim.clip)
            bar.advance(task)
    probe.load_state_dict(kept)
    probe.trust_T = aside.trust(len(aside.blocks))
    probe.kept_nats = aside.nats(probe.trust_T)
    return probe.eval()


class _Aside:
    """The chunks that are kept aside, looked at again and again: what does not learn is told once, if they are few."""

    def __init__(self, probe: TrainedProbe, memories_NM: Array, tokens_NT: Array):
        numbers = probe.known_TV.numel()
        rows = max(1, min(_LOOKED, AT_ONCE // numbers))
        self.probe, self.chunks = probe, len(tokens_NT)
        self.blocks = blocks(memories_NM, tokens_NT, rows, probe.mean_M.device)
        self.first = -(-_LOOKED // rows)  # blocks that the trust is chosen on while it learns
        self.beside = None
        if self.chunks * numbers <= _KEPT:
            with torch.inference_mode():
                self.beside = [probe.beside(memory_BM) for memory_BM, _ in self.blocks]

    @torch.inference_mode()
    def trust(self, count: int) -> Tensor:
        """The trust that tells the first blocks best [T]."""
        held = list(self._told(count)) if self.beside else None
        return trusted(lambda: held or self._told(count), sum(len(memory_BM) for memory_BM, _ in self.blocks[:count]))

    @torch.inference_mode()
    def nats(self, trust_T: Tensor) -> float:
        """What is not told of a chunk at this trust."""
        nats = 0.0
        for h_BTW, beside, tokens_BT1 in self._states(len(self.blocks)):
            for part, known, said_BTV in self.probe.pieces(h_BTW, beside):
                logits_BTV = torch.addcmul(known, trust_T[:, None], said_BTV)
                nats_BT = logits_BTV.logsumexp(-1) - logits_BTV.gather(-1, tokens_BT1[part])[..., 0]
                nats += float(nats_BT.double().sum())
        return nats / self.chunks

    def _told(self, count: int) -> Iterator[Told]:
        """What is told of the first blocks."""
        for h_BTW, beside, tokens_BT1 in self._states(count):
            said_BTV = torch.cat([said_BTV for _, _, said_BTV in self.probe.pieces(h_BTW, beside)])
            yield Told(beside.known.log_softmax(-1), said_BTV, tokens_BT1)

    def _states(self, count: int) -> Iterator[tuple[Tensor, Beside, Tensor]]:
        """Of the first blocks what the head reads, what is beside it, and the tokens."""
        self.probe.eval()
        for n, (memory_BM, tokens_BT) in enumerate(self.blocks[:count]):
            beside = self.beside[n] if self.beside else self.probe.beside(memory_BM)
            yield self.probe.states(memory_BM, beside), beside, tokens_BT.long()[..., None]


def probe_step(
    probe: TrainedProbe, optimizers: list[torch.optim.Optimizer], memory_BM: Tensor, tokens_BT: Tensor, clip: float
) -> None:
    """One step of the optimisers on one batch, at a trust of one.

    The gradient of the mean cross-entropy by the logits, their softmax less one at what is right, is made at once, and
    what it asks of the head: nobody reads the loss itself.
    """
    with torch.no_grad():
        beside = probe.beside(memory_BM)
    h_BTW, head_VW = probe.states(memory_BM, beside), probe.head.weight
    with torch.no_grad():
        asked_BTW, asked_VW = torch.empty_like(h_BTW), torch.zeros_like(head_VW)
        for part, known, said_BTV in probe.pieces(h_BTW.detach(), beside):
            gradient_BTV = said_BTV.add_(known).softmax(-1)
            right_BT1 = tokens_BT[part, :, None]
            gradient_BTV.scatter_add_(-1, right_BT1, gradient_BTV.new_full(right_BT1.shape, -1.0))
            gradient_BTV /= tokens_BT.numel()
            asked_BTW[part] = gradient_BTV @ head_VW
            asked_VW.addmm_(gradient_BTV.flatten(0, 1).T, h_BTW[part].flatten(0, 1))
    head_VW.grad = asked_VW
    h_BTW.backward(asked_BTW)
    if clip:
        nn.utils.clip_grad_norm_(probe.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
