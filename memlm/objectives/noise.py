"""Uniformly random tokens: what an encoder can store when nothing about its input can be guessed."""

import torch
from torch import Tensor

from memlm.nn.vocabulary import END
from memlm.objectives.batch import Batch, Objective


class Noise(Objective):
    """Random tokens, all of them, from their own memory; as many as the window has, which seeds them.

    Args:
        vocab_size: V; the special tokens are left out.
    """

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, W] -> as many random ones."""
        random_BW = torch.randint(END + 1, self.vocab_size, tokens_BW.shape, generator=seeded_by(tokens_BW))
        random_BW = random_BW.to(tokens_BW.device)
        return Batch(random_BW, random_BW, own_rows=len(random_BW))


def seeded_by(tokens_BW: Tensor) -> torch.Generator:
    """A generator on the CPU that these tokens seed: examples depend on the step alone, held-out ones never change."""
    place = torch.arange(1, tokens_BW.numel() + 1).view(tokens_BW.shape)
    return torch.Generator().manual_seed(int((tokens_BW.cpu() * place).sum()))
