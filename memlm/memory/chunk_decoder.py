"""One memory -> the tokens of its chunk: what autoencoders are trained to do, and readers of soft tokens build on.

Recall checks itself where the encoder is known: the likeliest tokens are encoded again, and where that is not the
memory, single tokens, the least certain first, are exchanged for the next likeliest while that brings the two nearer
(bank/check.py does it for memories that are rounded, and tells what it found).
"""

import torch
from torch import Tensor, nn

from memlm.memory.encoder import MemoryEncoder
from memlm.memory.encoder_shape import BRIDGES
from memlm.named import named
from memlm.nn.config import StackConfig
from memlm.nn.stack import build_stack

STAGES = (8, 4), (16, 16), (64, 16)  # how many places of a chunk are tried, and how many tokens at each
MOST = 8  # wrong tokens of a chunk that are searched for: exchanges in a stage
NEARER = 0.9  # what an exchange leaves of the distance, at most: one of so few wrong tokens is a share of it
AGREE = 2e-4  # share of a memory's squares: rounding to 8 bits changes less, any other token more (LOG.md, 37)
MANY = 64  # memories of which most do not agree are not searched for: in 4 bits, shortened, or of another encoder
_AT_ONCE = 64  # chunks


class ChunkDecoder(nn.Module):
    """memory -> bridge -> stack -> head: all tokens side by side, none is fed back (paper, Autoencoder)."""

    def __init__(self, tokens: int, memory_dim: int, bridge: str, stack: StackConfig, vocab_size: int):
        super().__init__()
        self.bridge = named(BRIDGES[bridge])(tokens, memory_dim, stack.width)
        self.stack = build_stack(stack, tokens)
        self.head = nn.Linear(stack.width, vocab_size, bias=False)
        self._encoder: tuple[MemoryEncoder, ...] = ()  # in a tuple: not a part of it, which would be saved twice

    def checked_by(self, encoder: MemoryEncoder) -> None:
        """Let `words` check what is recalled by the encoder of the memories."""
        self._encoder = (encoder,)

    def forward(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] for all the chunk's positions."""
        return self.head(self.stack(self.bridge(memory_BM)))

    @torch.no_grad()
    def words(self, memory_BM: Tensor) -> Tensor:
        """The likeliest token of every place [B, T], as after training; checked, and searched for, by the encoder."""
        training = self.training
        logits_BTV = self.eval()(memory_BM)
        self.train(training)
        if logits_BTV.device.type == "cpu" and logits_BTV.dtype == torch.float32:
            words_BT = torch.from_numpy(logits_BTV.numpy().argmax(-1))  # four times as fast as torch's
        else:
            words_BT = logits_BTV.argmax(-1)
        if not self._encoder:
            return words_BT
        off_B = self._off(words_BT[:, None], memory_BM)[:, 0]
        if len(off_B) >= MANY and (off_B > AGREE).float().mean() > 0.5:
            return words_BT
        for places, choices in STAGES:
            for some in (off_B > AGREE).nonzero()[:, 0].split(_AT_ONCE):
                words_BT[some], off_B[some] = self._searched(
                    words_BT[some], off_B[some], memory_BM[some], logits_BTV[some], places, choices
                )
        return words_BT

    def _searched(
        self, words_nT: Tensor, off_n: Tensor, memory_nM: Tensor, logits_nTV: Tensor, places: int, choices: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens after exchanges of single ones, and how far off they are; as they were where many are uncertain."""
        (n, T), V = words_nT.shape, logits_nTV.shape[-1]
        log_nTC, token_nTC = logits_nTV.float().log_softmax(-1).topk(min(choices, V), -1)
        hopeless_n = (1 - log_nTC[..., 0].exp()).sum(-1) > min(MOST, T / 3)
        if hopeless_n.all():
            return words_nT, off_n
        place_nP = log_nTC[..., 0].argsort(-1)[:, :places]
        token_nX = token_nTC.gather(1, place_nP[..., None].expand(-1, -1, token_nTC.shape[-1])).flatten(1)
        place_nX = place_nP.repeat_interleave(token_nTC.shape[-1], 1)
        for _ in range(MOST):
            tried_nXT = words_nT[:, None].repeat(1, place_nX.shape[1], 1)
            tried_nXT.scatter_(2, place_nX[..., None], token_nX[..., None])
            best_n, at_n = self._off(tried_nXT, memory_nM).min(-1)
            nearer_n = (best_n < off_n * NEARER) & (off_n > AGREE) & ~hopeless_n
            if not nearer_n.any():
                break
            words_nT = torch.where(nearer_n[:, None], tried_nXT[torch.arange(n, device=at_n.device), at_n], words_nT)
            off_n = torch.where(nearer_n, best_n, off_n)
        return words_nT, off_n

    def _off(self, words_nXT: Tensor, memory_nM: Tensor) -> Tensor:
        """How far memories are from what tokens encode to [n, X], as a share of their squares."""
        (encode,) = self._encoder
        again_nXM = encode(words_nXT.flatten(0, 1)).unflatten(0, words_nXT.shape[:2]).float()
        memory_n1M = memory_nM.float()[:, None]
        return (again_nXM - memory_n1M).square().sum(-1) / memory_n1M.square().sum(-1).clamp(min=1e-30)
