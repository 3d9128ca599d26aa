"""Key-value recall: pairs over many chunks, some of the keys again in the last one, their values to be told.

Keys and values are drawn uniformly from the vocabulary, keys without repetition within an example: nothing but a
memory of the pair itself tells a value. An example is drawn from a generator that its window of text seeds, so that a
batch depends on the step alone, and held-out examples are always the same.
"""

import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.memory.vocabulary import END
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch


class Recall:
    """[k v k v ...] over all chunks but the last, then [k v ...] again for some of the keys; their values are scored.

    Args:
        vocab_size: V; the special tokens are left out.
    """

    def __init__(self, vocab_size: int):
        self.first, self.count = END + 1, vocab_size - END - 1

    def window(self, tokens: int) -> int:
        """As many tokens of text as the example has; they seed it."""
        return tokens

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, N] -> pairs and queries; the last chunk is marked."""
        rows, n = tokens_BW.shape
        chunks = n // chunk_tokens
        told, asked = (chunks - 1) * chunk_tokens // 2, chunk_tokens // 2
        if chunk_tokens % 2 or chunks < 2 or told > self.count:
            raise UsageError(
                "key-value recall needs chunks of an even number of tokens, at least two, and enough keys."
            )
        keys_BP, values_BP, order_BQ = self._draw(tokens_BW, told, asked)
        pairs_BN = torch.stack([keys_BP, values_BP], 2).flatten(1)
        queries_BQ2 = torch.stack([keys_BP.gather(1, order_BQ), values_BP.gather(1, order_BQ)], 2)
        answers_BQ2 = queries_BQ2.clone()
        answers_BQ2[..., 0] = IGNORED
        labels = torch.cat([torch.full_like(pairs_BN, IGNORED), answers_BQ2.flatten(1)], 1)
        marks = torch.arange(chunks, device=tokens_BW.device).expand(rows, -1) == chunks - 1
        return Batch(torch.cat([pairs_BN, queries_BQ2.flatten(1)], 1), labels, marks)

    def _draw(self, tokens_BW: Tensor, told: int, asked: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values [B, told], and which of the pairs are asked for [B, asked]; drawn on the CPU."""
        place = torch.arange(1, tokens_BW.numel() + 1).view(tokens_BW.shape)
        generator = torch.Generator().manual_seed(int((tokens_BW.cpu() * place).sum()))
        rows, device = len(tokens_BW), tokens_BW.device
        keys = torch.rand(rows, self.count, generator=generator).argsort(1)[:, :told] + self.first
        values = torch.randint(self.first, self.first + self.count, (rows, told), generator=generator)
        order = torch.rand(rows, told, generator=generator).argsort(1)[:, :asked]
        return keys.to(device), values.to(device), order.to(device)
