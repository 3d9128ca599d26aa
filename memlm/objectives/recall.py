"""Key-value recall: pairs over many chunks, some of the keys again in the last one, their values to be told.

Keys are drawn uniformly from all symbols (memlm/objectives/symbols.py), without repetition within an example, and each
value from all that are no key of it: nothing but a memory of the pair itself tells a value (compare Arora et al. 2023,
"Zoology", multi-query associative recall).
"""

import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import MADE, Batch, Objective
from memlm.objectives.noise import seeded_by
from memlm.objectives.symbols import Symbols, symbols


class Recall(Objective):
    """[k v k v ...] over all chunks but the last, then [k v ...] again for some of the keys; their values are scored.

    Args:
        vocab_size: V.
        which: symbols that keys and values are of; None: those of training.
    """

    def __init__(self, vocab_size: int, which: Symbols | None = None):
        self.symbols_S = symbols(vocab_size, which)

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """Tokens [B, N] -> pairs and queries; the last chunk is marked."""
        rows, n = tokens_BW.shape
        chunks = n // chunk_tokens
        told, asked = (chunks - 1) * chunk_tokens // 2, chunk_tokens // 2
        if chunk_tokens % 2 or chunks < 2:
            raise UsageError("key-value recall needs at least two chunks, of an even number of tokens.")
        if told >= len(self.symbols_S):
            raise UsageError(
                f"key-value recall has {len(self.symbols_S)} symbols for {told} pairs: take fewer chunks or a larger "
                "vocabulary."
            )
        keys_BP, values_BP, order_BQ = self._draw(tokens_BW, told, asked)
        pairs_BN = torch.stack([keys_BP, values_BP], 2).flatten(1)
        queries_BQ2 = torch.stack([keys_BP.gather(1, order_BQ), values_BP.gather(1, order_BQ)], 2)
        answers_BQ2 = queries_BQ2.clone()
        answers_BQ2[..., 0] = IGNORED
        labels = torch.cat([torch.full_like(pairs_BN, IGNORED), answers_BQ2.flatten(1)], 1)
        marks = torch.arange(chunks, device=tokens_BW.device).expand(rows, -1) == chunks - 1
        sources = torch.full(marks.shape, MADE, device=tokens_BW.device)
        return Batch(torch.cat([pairs_BN, queries_BQ2.flatten(1)], 1), labels, marks, sources=sources)

    def _draw(self, tokens_BW: Tensor, told: int, asked: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values [B, told], and which of the pairs are asked for [B, asked]; drawn on the CPU."""
        generator = seeded_by(tokens_BW)
        rows, count, device = len(tokens_BW), len(self.symbols_S), tokens_BW.device
        order_BS = torch.stack([torch.randperm(count, generator=generator) for _ in range(rows)])
        value_BP = order_BS.gather(1, torch.randint(told, count, (rows, told), generator=generator))
        asked_BQ = torch.rand(rows, told, generator=generator).argsort(1)[:, :asked]
        return self.symbols_S[order_BS[:, :told]].to(device), self.symbols_S[value_BP].to(device), asked_BQ.to(device)
