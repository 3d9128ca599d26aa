"""A fresh decoder, trained to regenerate chunks from frozen memories alone (paper, Information probe).

The memories are fixed, so they are read from disk and the encoder is not run. Every dimension is brought to mean 0
and variance 1 first, so that encoders of different scale are read on equal terms. Without memory the very same
decoder reads zeros: it learns token frequencies by position, the floor that usable information is counted from.
"""

import numpy as np
import torch
from torch import Tensor, nn

from memlm import ui
from memlm.errors import WorkError
from memlm.measure.config import ProbeConfig
from memlm.memory.bridge import BRIDGES
from memlm.nn.loss import token_loss
from memlm.nn.stack import build_stack
from memlm.train.optim import build_optimizers, learning_rate, set_learning_rate


class Probe(nn.Module):
    """memories [B, M] -> standardised -> bridge -> decoder -> logits [B, T, V]."""

    mean_M: Tensor
    scale_M: Tensor

    def __init__(self, config: ProbeConfig, tokens: int, memories_NM: np.ndarray, vocab_size: int):
        super().__init__()
        memory_dim, width = memories_NM.shape[1], config.decoder.width
        self.register_buffer("mean_M", torch.from_numpy(memories_NM.mean(0, dtype=np.float64).astype(np.float32)))
        spread = torch.from_numpy(memories_NM.std(0, dtype=np.float64).astype(np.float32))
        self.register_buffer("scale_M", torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0.0))
        self.bridge = BRIDGES[config.bridge](tokens, memory_dim, width)
        self.decoder = build_stack(config.decoder, tokens)
        self.head = nn.Linear(width, vocab_size, bias=False)

    def forward(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, V]."""
        return self.head(self.decoder(self.bridge((memory_BM - self.mean_M) * self.scale_M)))


def train_probe(
    config: ProbeConfig,
    memories_NM: np.ndarray,
    tokens_NT: np.ndarray,
    vocab_size: int,
    device: torch.device,
    name: str,
) -> Probe:
    """Train a probe on memories and the chunks they are of; the same config and data give the same probe.

    Raises:
        WorkError: the loss is no number.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        probe = Probe(config, tokens_NT.shape[1], memories_NM, vocab_size).to(device)
    optimizers = build_optimizers(probe, config.optim)
    rng = np.random.default_rng(config.seed)
    order, loss = np.empty(0, np.int64), torch.tensor(torch.nan)
    with ui.progress(unit="steps") as bar:
        task = bar.add_task(f"{name}: probe", total=config.steps)
        for step in range(config.steps):
            if len(order) < config.batch:  # epochs follow one another without a short batch
                order = np.concatenate([order, rng.permutation(len(tokens_NT))])
            rows, order = np.sort(order[: config.batch]), order[config.batch :]
            memory_BM = torch.from_numpy(memories_NM[rows]).to(device)
            tokens_BT = torch.from_numpy(tokens_NT[rows].astype(np.int64)).to(device)
            set_learning_rate(optimizers, learning_rate(config.optim, step, config.steps))
            loss = token_loss(probe(memory_BM), tokens_BT)
            loss.backward()
            if config.optim.clip:
                nn.utils.clip_grad_norm_(probe.parameters(), config.optim.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            bar.advance(task)
    if not torch.isfinite(loss):
        raise WorkError(f"the probe of {name} left the numbers (loss {loss.item()}): lower its --probe.optim.lr.")
    return probe.eval()
