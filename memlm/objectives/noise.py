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


class Spots(Objective):
    """Text in which tokens are random ones, a share of each chunk up to `MOST`, from its own memory.

    An autoencoder of text and of noise alone errs where a few tokens are no text, as those of a told fact are.

    Args:
        vocab_size: V; the special tokens are left out.
    """

    most = 0.3

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, C * T] -> the same with random ones among them."""
        generator, shape = seeded_by(tokens_BW), tokens_BW.shape
        random_BW = torch.randint(END + 1, self.vocab_size, shape, generator=generator)
        share_BC = self.most * torch.rand(len(tokens_BW), -(-shape[1] // chunk_tokens), generator=generator)
        share_BW = share_BC.repeat_interleave(chunk_tokens, 1)[:, : shape[1]]
        spots_BW = torch.rand(shape, generator=generator) < share_BW
        read_BW = torch.where(spots_BW.to(tokens_BW.device), random_BW.to(tokens_BW.device), tokens_BW)
        return Batch(read_BW, read_BW, own_rows=len(read_BW))


def seeded_by(tokens_BW: Tensor) -> torch.Generator:
    """A generator on the CPU that these tokens seed: examples depend on the step alone, held-out ones never change."""
    place = torch.arange(1, tokens_BW.numel() + 1).view(tokens_BW.shape)
    return torch.Generator().manual_seed(int((tokens_BW.cpu() * place).sum()))
