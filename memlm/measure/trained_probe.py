"""A probe that is trained: memories -> bridge -> a small stack -> head, from nothing said at all.

It stops where it tells the kept chunks best, be that at the start; then its trust is chosen on them.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from memlm import ui
from memlm.errors import WorkError
from memlm.measure.config import DecoderConfig, ProbeConfig
from memlm.measure.probe import Lesson, Probe, best_trust
from memlm.measure.scores import score_chunks
from memlm.memory.encoder_shape import BRIDGES
from memlm.named import named
from memlm.nn.stack import build_stack
from memlm.train.optim import build_optimizers, learning_rate, set_learning_rate

Array = np.ndarray
LOOKS = 10  # at the kept chunks, evenly spread over the steps, and one before them
EPOCHS = 16  # at most
_LOOKED = 256  # kept chunks that the trust is chosen on while it learns


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

    def said(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, V]."""
        return self.head(self.decoder(self.bridge(memory_BM)))


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
                probe.eval().trust_T = best_trust(probe, aside_NM[:_LOOKED], aside_NT[:_LOOKED])
                nats = score_chunks(probe, aside_NM, aside_NT, device).nats_N.mean()
                probe.trust_T = torch.ones_like(probe.trust_T)
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
    probe.eval().trust_T = best_trust(probe, aside_NM, aside_NT)
    probe.kept_nats = float(score_chunks(probe, aside_NM, aside_NT, device).nats_N.mean())
    return probe


def probe_step(
    probe: Probe, optimizers: list[torch.optim.Optimizer], memory_BM: Tensor, tokens_BT: Tensor, clip: float
) -> None:
    """One step of the optimisers on one batch, at a trust of one.

    The gradient of the mean cross-entropy by the logits, their softmax less one at what is right, is made at once:
    nobody reads the loss itself.
    """
    known, said_BTV = probe.parts(memory_BM)
    with torch.no_grad():
        gradient_BTV = (known + said_BTV).softmax(-1)
        gradient_BTV.scatter_add_(-1, tokens_BT[..., None], gradient_BTV.new_full((*tokens_BT.shape, 1), -1.0))
        gradient_BTV /= tokens_BT.numel()
    said_BTV.backward(gradient_BTV)
    if clip:
        nn.utils.clip_grad_norm_(probe.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
