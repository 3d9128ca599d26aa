"""Key-value recall: pairs over many chunks, some of the keys again in the last one, their values to be told.

Keys are drawn uniformly from one set of tokens, without repetition within an example, and values from another: nothing
but a memory of the pair itself tells a value (compare Arora et al. 2023, "Zoology", multi-query associative recall).
The sets are small, 64 tokens each where that is enough, so that a model learns to look up long before it has met
every token of its vocabulary often enough as a key.
"""

import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch, Objective
from memlm.objectives.noise import seeded_by

SYMBOLS = 64  # keys, and as many values, to draw from; more where an example tells more pairs


class Recall(Objective):
    """[k v k v ...] over all chunks but the last, then [k v ...] again for some of the keys; their values are scored.

    Args:
        vocab_size: V; keys and values are of its upper half, whose tokens a text really has.
    """

    def __init__(self, vocab_size: int):
        self.first, self.room = vocab_size // 2, vocab_size - vocab_size // 2

    def symbols(self, tokens: int, chunk_tokens: int) -> int:
        """From how many tokens the values of an example of `tokens` tokens are drawn: 1 over it is chance."""
        return min(max(SYMBOLS, tokens // 2 - chunk_tokens // 2), self.room // 2)

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, N] -> pairs and queries; the last chunk is marked."""
        rows, n = tokens_BW.shape
        chunks = n // chunk_tokens
        told, asked = (chunks - 1) * chunk_tokens // 2, chunk_tokens // 2
        symbols = self.symbols(n, chunk_tokens)
        if chunk_tokens % 2 or chunks < 2:
            raise UsageError("key-value recall needs at least two chunks, of an even number of tokens.")
        if told > symbols:
            raise UsageError(f"key-value recall has {symbols} keys for {told} pairs: take fewer chunks or more tokens.")
        keys_BP, values_BP, order_BQ = self._draw(tokens_BW, told, asked, symbols)
        pairs_BN = torch.stack([keys_BP, values_BP], 2).flatten(1)
        queries_BQ2 = torch.stack([keys_BP.gather(1, order_BQ), values_BP.gather(1, order_BQ)], 2)
        answers_BQ2 = queries_BQ2.clone()
        answers_BQ2[..., 0] = IGNORED
        labels = torch.cat([torch.full_like(pairs_BN, IGNORED), answers_BQ2.flatten(1)], 1)
        marks = torch.arange(chunks, device=tokens_BW.device).expand(rows, -1) == chunks - 1
        return Batch(torch.cat([pairs_BN, queries_BQ2.flatten(1)], 1), labels, marks)

    def _draw(self, tokens_BW: Tensor, told: int, asked: int, symbols: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values [B, told], and which of the pairs are asked for [B, asked]; drawn on the CPU."""
        generator = seeded_by(tokens_BW)
        rows, device = len(tokens_BW), tokens_BW.device
        keys = torch.rand(rows, symbols, generator=generator).argsort(1)[:, :told] + self.first
        values = torch.randint(symbols, 2 * symbols, (rows, told), generator=generator) + self.first
        order = torch.rand(rows, told, generator=generator).argsort(1)[:, :asked]
        return keys.to(device), values.to(device), order.to(device)
