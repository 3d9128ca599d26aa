"""One memory -> the tokens of its chunk: what autoencoders are trained to do, and readers of soft tokens build on."""

import torch
from torch import Tensor, nn

from memlm.memory.encoder_shape import BRIDGES
from memlm.named import named
from memlm.nn.config import StackConfig
from memlm.nn.stack import build_stack


class ChunkDecoder(nn.Module):
    """memory -> bridge -> stack -> head: all tokens side by side, none is fed back (paper, Autoencoder)."""

    def __init__(self, tokens: int, memory_dim: int, bridge: str, stack: StackConfig, vocab_size: int):
        super().__init__()
        self.bridge = named(BRIDGES[bridge])(tokens, memory_dim, stack.width)
        self.stack = build_stack(stack, tokens)
        self.head = nn.Linear(stack.width, vocab_size, bias=False)

    def forward(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] for all the chunk's positions."""
        return self.head(self.stack(self.bridge(memory_BM)))

    @torch.no_grad()
    def words(self, memory_BM: Tensor) -> Tensor:
        """The likeliest token of every place [B, T], as after training; on a CPU by numpy, four times as fast."""
        training = self.training
        logits_BTV = self.eval()(memory_BM)
        self.train(training)
        if logits_BTV.device.type == "cpu" and logits_BTV.dtype == torch.float32:
            return torch.from_numpy(logits_BTV.numpy().argmax(-1))
        return logits_BTV.argmax(-1)
