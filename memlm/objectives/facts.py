"""What a reader of long contexts is asked: facts that a text tells once, and passages of it that are quoted.

A fact is a key of two or three tokens and a value of two, `k1 k2 v1 v2`, all drawn uniformly from all symbols
(memlm/objectives/symbols.py), so that nothing but the text itself tells a value. Between them may stand a link of some
tokens, the same in all facts of a text, as in "... of X is Y": then it is not the words just before a value that tell
it. One is written over each remembered chunk, at a random place; the chunks that are predicted ask for some of them,
many at once.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.errors import UsageError
from memlm.nn.loss import IGNORED
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import MADE, Batch, Objective, same_chunks
from memlm.objectives.noise import seeded_by
from memlm.objectives.symbols import Symbols, symbols

VALUE = 2  # tokens of a value
TELLING = 128  # chunks of an example that tell a fact, in training: of a longer context the others are read from disk
FEWEST = 32  # symbols of a batch of facts that resemble one another
LINKS = (0, 0, 0, 1, 2, 3)  # tokens of a link
KINDS = ((2, False), (2, False), (3, False), (3, True))  # tokens of a key, and whether one of them is asked otherwise


class Facts(Objective):
    """Remembered chunks tell a fact each; the others ask `T // (key + link + value)` each; values are scored.

    Without chunks that are only remembered all but the last one tell.

    Args:
        vocab_size: V.
        kind: tokens of a key, and whether one of them is changed in the question; None: drawn for each batch.
        seed: of what is drawn; None: the windows themselves seed it.
        which: symbols that keys and values are of; None: those of training.
        telling: chunks that tell a fact, at most; drawn where there are more.
        fewest: keys and values of a batch are of so many of these symbols at least, their logarithm drawn uniformly, so
            that keys agree in part as often as among many more facts; None: of all.
        links: tokens of a link, of which one number is drawn for each batch, of those that a chunk has room for.
    """

    def __init__(
        self,
        vocab_size: int,
        kind: tuple[int, bool] | None = None,
        seed: int | None = None,
        which: Symbols | None = None,
        telling: int = TELLING,
        fewest: int | None = None,
        links: Sequence[int] = (0,),
    ):
        self.symbols_S, self.kind, self.seed, self.telling = symbols(vocab_size, which), kind, seed, telling
        self.fewest, self.links = fewest, links

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """As `__call__` without chunks that are only remembered."""
        return self(tokens_BW, chunk_tokens)

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int, remembered: int = 0) -> Batch:
        """Tokens [B, C * T] -> facts and questions."""
        T, C = chunk_tokens, tokens_BW.shape[1] // chunk_tokens
        K = remembered or C - 1
        generator = seeded_by(tokens_BW) if self.seed is None else torch.Generator().manual_seed(self.seed)
        length, changed = self.kind or KINDS[int(torch.randint(len(KINDS), (), generator=generator))]
        links = [link for link in self.links if length + link + VALUE <= T] or self.links
        link = links[int(torch.randint(len(links), (), generator=generator)) if len(links) > 1 else 0]
        before, size = length + link, length + link + VALUE
        if size > T or C <= K or K < 1:
            raise UsageError(f"facts need two chunks at least, of {size} tokens or more: change the model's chunks.")
        each, rows, k = T // size, len(tokens_BW), min(K, self.telling)
        symbols_S = self.symbols_S
        if self.fewest is not None and self.fewest < len(symbols_S):
            few = self.fewest * (len(symbols_S) / self.fewest) ** torch.rand((), generator=generator).item()
            symbols_S = symbols_S[torch.randperm(len(symbols_S), generator=generator)[: int(few)]]
        fact_BkF = torch.stack([_facts(len(symbols_S), k, length, generator) for _ in range(rows)])
        if link:
            link_BkL = torch.randint(len(symbols_S), (rows, 1, link), generator=generator).expand(-1, k, -1)
            fact_BkF = torch.cat([fact_BkF[..., :length], link_BkL, fact_BkF[..., length:]], -1)
        chunk_Bk = torch.arange(K).expand(rows, -1)
        if k < K:
            chunk_Bk = torch.rand(rows, K, generator=generator).topk(k)[1].sort()[0]
        place_Bk = torch.randint(T - size + 1, (rows, k), generator=generator) + T * chunk_Bk
        place_BkF = place_Bk[..., None] + torch.arange(size)
        device = tokens_BW.device
        told_Bf = symbols_S[fact_BkF].flatten(1)
        told_Bn = tokens_BW[:, : K * T].scatter(1, place_BkF.flatten(1).to(device), told_Bf.to(device))
        source_BK = same_chunks(rows, K, device).scatter(1, chunk_Bk.to(device), MADE)

        asked_BA = torch.stack([_some(k, each * (C - K), generator) for _ in range(rows)])
        question_BAF = fact_BkF.gather(1, asked_BA[..., None].expand(-1, -1, size))
        answer_BAF = symbols_S[question_BAF]
        answer_BAF[..., :before] = IGNORED
        if changed:
            at_BA1 = torch.randint(length, (*asked_BA.shape, 1), generator=generator)
            other = torch.randint(1, len(symbols_S), at_BA1.shape, generator=generator)
            other_BA1 = (question_BAF.gather(2, at_BA1) + other) % len(symbols_S)
            question_BAF = question_BAF.scatter(2, at_BA1, other_BA1)
        question_BAF = symbols_S[question_BAF]
        holder_BAF = chunk_Bk.gather(1, asked_BA)[..., None].expand_as(answer_BAF)
        batch = _asked(told_Bn, question_BAF, answer_BAF, holder_BAF, each, T, remembered)
        return replace(batch, sources=F.pad(source_BK, (0, C - K), value=MADE))


class Quote(Objective):
    """Passages of the remembered chunks, each in chunks of its own: its first tokens are told, the next are scored.

    Without chunks that are only remembered the last few quote those before them.
    """

    told, asked = 8, 16  # tokens of a passage

    def __init__(self, vocab_size: int, seed: int | None = None):
        self.seed = seed

    def make(self, tokens_BW: Tensor, chunk_tokens: int) -> Batch:
        """As `__call__` without chunks that are only remembered."""
        return self(tokens_BW, chunk_tokens)

    def __call__(self, tokens_BW: Tensor, chunk_tokens: int, remembered: int = 0) -> Batch:
        """Tokens [B, C * T] -> the same, the chunks after the remembered ones in the place of what stood there."""
        T, C, size = chunk_tokens, tokens_BW.shape[1] // chunk_tokens, self.told + self.asked
        each = -(-size // T)  # chunks of a passage
        K = remembered or max(1, C - each)
        if each > C - K:
            raise UsageError(f"a quotation needs {each} chunks of its own: change the model's chunks.")
        text_Bn, rows, count = tokens_BW[:, : K * T], len(tokens_BW), (C - K) // each
        generator = seeded_by(tokens_BW) if self.seed is None else torch.Generator().manual_seed(self.seed)
        room = max(0, K * T - size)
        place_BA1 = torch.randint(room + 1, (rows, count, 1), generator=generator)
        place_BAS = (place_BA1 + torch.arange(size)).clamp(max=K * T - 1).to(tokens_BW.device)
        passage_BAS = text_Bn.gather(1, place_BAS.flatten(1)).unflatten(1, (count, size))
        answer_BAS = passage_BAS.clone()
        answer_BAS[..., : self.told] = IGNORED
        batch = _asked(text_Bn, passage_BAS, answer_BAS, place_BAS // T, 1, each * T, remembered)
        sources = F.pad(same_chunks(rows, K, tokens_BW.device), (0, C - K), value=MADE)
        rest = (0, tokens_BW.shape[1] - batch.labels.shape[1])  # less than a passage has room in
        filled = {"input_ids": PAD, "labels": IGNORED, "holders": -1}
        padded = {name: F.pad(getattr(batch, name), rest, value=fill) for name, fill in filled.items()}
        return replace(batch, sources=sources, **padded)


def _facts(S: int, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Facts [count, length + VALUE], as places among S symbols; their keys all differ."""
    keys = torch.randint(max(1, S) ** length, (2 * count + 8,), generator=generator).unique()
    if len(keys) < count or S < 2:
        raise UsageError(f"the vocabulary is too small for {count} facts with different keys: take fewer chunks.")
    keys = keys[torch.randperm(len(keys), generator=generator)[:count]]
    parts = [keys // S**i % S for i in range(length)]
    return torch.cat([torch.stack(parts, 1), torch.randint(S, (count, VALUE), generator=generator)], 1)


def _asked(
    text_Bn: Tensor, ids_BAF: Tensor, labels_BAF: Tensor, holders_BAF: Tensor, each: int, tokens: int, remembered: int
) -> Batch:
    """A text, and after it questions, `each` of them at the beginning of every `tokens` places."""

    def after(before_Bn: Tensor, x_BAF: Tensor, fill: int) -> Tensor:
        x_BCN = x_BAF.to(before_Bn.device).unflatten(1, (-1, each)).flatten(2)
        return torch.cat([before_Bn, F.pad(x_BCN, (0, tokens - x_BCN.shape[2]), value=fill).flatten(1)], 1)

    return Batch(
        after(text_Bn, ids_BAF, PAD),
        after(torch.full_like(text_Bn, IGNORED), labels_BAF, IGNORED),
        remembered=remembered,
        holders=after(torch.full_like(text_Bn, -1), holders_BAF, -1),
    )


def _some(of: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` numbers below `of`, each as often as any other, or once more."""
    rounds = [torch.randperm(of, generator=generator) for _ in range(-(-count // of))]
    return torch.cat(rounds)[:count]


def facts(vocab_size: int) -> Facts:
    """What training asks: `Facts` of few symbols, half of the batches with a link.

    Of few symbols they resemble one another as among many more memories; with a link the longest agreement tells a
    value, not the newest.
    """
    return Facts(vocab_size, fewest=FEWEST, links=LINKS)
