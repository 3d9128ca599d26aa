"""One memory -> the tokens of its chunk: what autoencoders are trained to do, and what a copying reader reads by.

Recall checks itself where the encoder is known: the likeliest tokens are encoded again, and where that is not the
memory, others are searched for (searching.py; bank/check.py does it for memories that are rounded, and tells how sure
it is).
"""

import torch
from torch import Tensor, nn

from memlm.memory.encoder import MemoryEncoder
from memlm.memory.encoder_shape import BRIDGES
from memlm.memory.searching import Search
from memlm.named import named
from memlm.nn.config import StackConfig
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import PAD

# Rounding to 8 bits changes 2e-4 of a memory's squares at most, any other token more; an exchange leaves at most nine
# tenths of the distance, as one of so few wrong tokens is a share of it (LOG.md, 37).
SEARCH = Search(stages=((8, 4), (16, 16), (64, 16)), most=8, nearer=0.9, agree=2e-4)
AT_ONCE = 64  # memories whose logits fit into a cache: a CPU is done with them more than twice as fast
MANY = 64  # memories of which most do not agree are not searched for: in 4 bits, shortened, or of another encoder


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
        parts = memory_BM.split(AT_ONCE if memory_BM.device.type == "cpu" else max(1, len(memory_BM)))
        words_BT = torch.cat([_likeliest(self._trained(part)) for part in parts])
        if not self._encoder:
            return words_BT
        off_B = self._off(words_BT[:, None], memory_BM)[:, 0]
        other_n = (off_B > SEARCH.agree).nonzero()[:, 0]
        if not len(other_n) or (len(off_B) >= MANY and len(other_n) > len(off_B) / 2):
            return words_BT
        words_nT, off_n, memory_nM = words_BT[other_n], off_B[other_n], memory_BM[other_n]
        log_nTV = self._trained(memory_nM).float().log_softmax(-1)
        log_nTC, token_nTC = log_nTV.topk(min(SEARCH.choices, log_nTV.shape[-1]), -1)

        def off(words_nXT: Tensor, which_n: Tensor) -> Tensor:
            return self._off(words_nXT, memory_nM[which_n])

        worth_n = SEARCH.worth(log_nTC[..., 0], off_n)
        for some in worth_n.nonzero()[:, 0].split(AT_ONCE):
            worth_n[some] = ~self._padded(words_nT[some], memory_nM[some])
        SEARCH.improve(words_nT, off_n, worth_n, token_nTC, log_nTC[..., 0], off)
        words_BT[other_n] = words_nT
        return words_BT

    def _trained(self, memory_BM: Tensor) -> Tensor:
        """Logits, as after training."""
        training = self.training
        logits_BTV = self.eval()(memory_BM)
        self.train(training)
        return logits_BTV

    def _padded(self, words_nT: Tensor, memory_nM: Tensor) -> Tensor:
        """Which memories are of fewer tokens, and padding [n]: no token in its place encodes to the memory."""
        place_T = torch.arange(words_nT.shape[1], device=words_nT.device)
        shorter_nTT = words_nT[:, None].masked_fill(place_T >= place_T[:, None], PAD)
        return (self._off(shorter_nTT, memory_nM) <= SEARCH.agree).any(-1)

    def _off(self, words_nXT: Tensor, memory_nM: Tensor) -> Tensor:
        """How far memories are from what tokens encode to [n, X], as a share of their squares."""
        (encode,) = self._encoder
        again_nXM = encode(words_nXT.flatten(0, 1)).unflatten(0, words_nXT.shape[:2]).float()
        memory_n1M = memory_nM.float()[:, None]
        return (again_nXM - memory_n1M).square().sum(-1) / memory_n1M.square().sum(-1).clamp(min=1e-30)


def _likeliest(logits_BTV: Tensor) -> Tensor:
    """The likeliest tokens [B, T]."""
    if logits_BTV.device.type == "cpu" and logits_BTV.dtype == torch.float32:
        return torch.from_numpy(logits_BTV.numpy().argmax(-1))  # four times as fast as torch's
    return logits_BTV.argmax(-1)
