"""A fresh decoder, trained to regenerate chunks from frozen memories alone (paper, Information probe).

The memories are fixed, so they are read from disk and the encoder is not run. Every dimension is brought to mean 0
and variance 1 first, so that encoders of different scale are read on equal terms. Without memory the very same
decoder reads zeros: it learns token frequencies by position, the floor that usable information is counted from.

A probe may ignore its memory (Xu et al. 2020, A theory of usable information under computational constraints): its
logits are the floor's, and its decoder adds to them what the memory says, nothing at first. Its last training chunks
are kept aside; what it reads best there is kept, be it the floor itself. Usable information thus is what this decoder
gets out after so many steps and chunks: a lower bound of what the memory holds, and about 0 if that is nothing.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from memlm import ui
from memlm.errors import UsageError, WorkError
from memlm.measure.config import ProbeConfig
from memlm.measure.scores import score_chunks
from memlm.memory.encoder_shape import BRIDGES
from memlm.named import named
from memlm.nn.loss import token_loss
from memlm.nn.stack import build_stack
from memlm.train.optim import build_optimizers, learning_rate, set_learning_rate

Array = np.ndarray
LOOKS = 10  # at the kept chunks, evenly spread over the steps


class Probe(nn.Module):
    """memories [B, M] -> standardised -> bridge -> decoder -> logits [B, T, V], on top of what is known without."""

    mean_M: Tensor
    scale_M: Tensor
    known_TV: Tensor
    step = 0  # after which its weights were taken

    def __init__(
        self, config: ProbeConfig, tokens: int, memories_NM: Array, vocab_size: int, floor: "Probe | None" = None
    ):
        super().__init__()
        memory_dim, width = memories_NM.shape[1], config.decoder.width
        mean, spread = (
            torch.from_numpy(of(0, dtype=np.float64).astype(np.float32)) for of in (memories_NM.mean, memories_NM.std)
        )
        self.register_buffer("mean_M", mean)
        self.register_buffer("scale_M", torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0.0))
        self.bridge = named(BRIDGES[config.bridge])(tokens, memory_dim, width)
        self.decoder = build_stack(config.decoder, tokens)
        self.head = nn.Linear(width, vocab_size, bias=False)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("known_TV", floor.known() if floor else torch.zeros(tokens, vocab_size))

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, V]."""
        return self.known_TV + self.head(self.decoder(self.bridge((memory_BM - self.mean_M) * self.scale_M)))

    @torch.no_grad()
    def known(self) -> Tensor:
        """What it says of a mean memory, which is all that there is to say without one [T, V]."""
        return self(self.mean_M[None])[0].cpu()


def train_floor(config: ProbeConfig, tokens_NT: Array, vocab_size: int, device: torch.device) -> Probe:
    """The probe without memory, which reads zeros.

    It is trained twice, the second time from where it was, as every probe with a memory is: or else these would gain
    by their training alone (0.04 bits a token of 32 on 2,500 chunks, as much as some encoders tell).
    """
    nothing_N1 = np.zeros((len(tokens_NT), 1), np.float32)
    first = train_probe(config, nothing_N1, tokens_NT, vocab_size, device, "no memory")
    return train_probe(config, nothing_N1, tokens_NT, vocab_size, device, "no memory, again", first)


def train_probe(
    config: ProbeConfig,
    memories_NM: Array,
    tokens_NT: Array,
    vocab_size: int,
    device: torch.device,
    name: str,
    floor: Probe | None = None,
) -> Probe:
    """Train a probe on memories and the chunks they are of; the same config and data give the same probe.

    The last chunks decide when to stop: what comes back is the probe at that of eleven steps, the first and the last
    among them, that reads these best. It begins with what `floor`, the probe without memory of the same chunks, knows.
    UsageError where there are fewer than two chunks, WorkError where the loss is no number.
    """
    if len(tokens_NT) < 2:
        raise UsageError("a probe needs two training chunks at least, one of which tells it when to stop.")
    learnt = len(tokens_NT) - kept_aside(len(tokens_NT))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        probe = Probe(config, tokens_NT.shape[1], memories_NM[:learnt], vocab_size, floor).to(device)
    optimizers = build_optimizers(probe, config.optim)
    rng, order = np.random.default_rng(config.seed), np.empty(0, np.int64)
    looks = {round(config.steps * i / LOOKS) for i in range(LOOKS + 1)}
    best, kept = math.inf, probe.state_dict()
    with ui.progress(unit="steps") as bar:
        task = bar.add_task(f"{name}: probe", total=config.steps)
        for step in range(config.steps + 1):
            if step in looks:
                nats = score_chunks(probe.eval(), memories_NM[learnt:], tokens_NT[learnt:], device).nats_N.mean()
                if not math.isfinite(nats):
                    raise WorkError(f"the probe of {name} left the numbers (loss {nats}): lower its --probe.optim.lr.")
                if nats < best:
                    best, probe.step = nats, step
                    kept = {key: tensor.clone() for key, tensor in probe.state_dict().items()}
            if step == config.steps:
                break
            if len(order) < config.batch:  # epochs follow one another without a short batch
                order = np.concatenate([order, rng.permutation(learnt)])
            rows, order = np.sort(order[: config.batch]), order[config.batch :]
            memory_BM = torch.from_numpy(memories_NM[rows]).to(device)
            tokens_BT = torch.from_numpy(tokens_NT[rows].astype(np.int64)).to(device)
            set_learning_rate(optimizers, learning_rate(config.optim, step, config.steps))
            probe_step(probe.train(), optimizers, memory_BM, tokens_BT, config.optim.clip)
            bar.advance(task)
    probe.load_state_dict(kept)
    return probe.eval()


def kept_aside(chunks: int) -> int:
    """How many of the training chunks decide when to stop."""
    return min(max(64, chunks // 16), 256, chunks // 2)


def probe_step(
    probe: Probe, optimizers: list[torch.optim.Optimizer], memory_BM: Tensor, tokens_BT: Tensor, clip: float
) -> None:
    """One step of the optimisers on one batch."""
    token_loss(probe(memory_BM), tokens_BT).backward()
    if clip:
        nn.utils.clip_grad_norm_(probe.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
