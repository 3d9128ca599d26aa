"""The tasks that tell what a model gets from its memories: held-out text -> examples, and which figures they give."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from memlm.errors import UsageError
from memlm.measure.config import LONG
from memlm.measure.subject import Makers
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch
from memlm.objectives.facts import Facts, Quote
from memlm.objectives.recall import Recall
from memlm.objectives.symbols import Symbols, symbols
from memlm.objectives.text import Copy, Same

PREDICTED = 64  # chunks of a text whose next tokens are scored, at most
ASKING = 16  # chunks of questions about a long text, at most


@dataclass(frozen=True)
class Task:
    """Examples, and how they are looked at.

    Scored places are told apart by `chunk` (its number), `distance` (in chunks, from the question back to what is asked
    for) or `depth` (the number of the chunk that holds the needle).
    """

    batch: Batch  # all examples
    metrics: tuple[str, ...]  # names of the figures (measure/access.py)
    group: str | None = None  # what scored places are told apart by
    group_BN: Tensor | None = None  # that number at every scored place [B, N], or [B, 1]
    symbols: Symbols | None = None  # that keys and values are drawn from; None: it has none
    chance: float | None = None  # the accuracy of a uniform guess among all tokens that answers are drawn from
    chance_told: float | None = None  # the accuracy of a guess among the values that the example tells


def with_needles(text_Bn: Tensor, chunk_tokens: int, place_B: Tensor, key_B: Tensor, value_B: Tensor) -> Batch:
    """Whole chunks of text, key and value put at a place of each, then the key again and its value to be told."""
    needle_B2 = torch.stack([key_B, value_B], 1)
    text_Bn = text_Bn.scatter(1, torch.stack([place_B, place_B + 1], 1), needle_B2)
    ids_BN = torch.cat([text_Bn, needle_B2], 1)
    labels_BN = torch.full_like(ids_BN, IGNORED)
    labels_BN[:, -1] = value_B
    marks_BC = torch.zeros(len(ids_BN), text_Bn.shape[1] // chunk_tokens + 1, dtype=torch.bool)
    marks_BC[:, -1] = True
    return Batch(ids_BN, labels_BN, marks_BC)


def causal(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Task:
    """Every token from those before it, by the number of its chunk; of long texts those of the last chunks."""
    group_BN = (torch.arange(tokens_BW.shape[1]) // chunk_tokens).expand(len(tokens_BW), -1)
    batch = Same(own=False)(tokens_BW, chunk_tokens, max(0, tokens_BW.shape[1] // chunk_tokens - PREDICTED))
    return Task(batch, ("cross_entropy", "bits_per_byte", "token_accuracy"), "chunk", group_BN)


def _far(objective: Callable[[int], Facts | Quote], tokens_BW: Tensor, chunk_tokens: int, vocab_size: int) -> Batch:
    """Questions about all chunks but the last ones, of which there are as many as the text is long enough for."""
    chunks = tokens_BW.shape[1] // chunk_tokens
    asking = max(2, min(ASKING, chunks // 4))
    return objective(vocab_size)(tokens_BW, chunk_tokens, max(1, chunks - asking))


_OF_FACTS = ("token_accuracy", "found", "cross_entropy")


def facts(
    tokens_BW: Tensor,
    chunk_tokens: int,
    vocab_size: int,
    seed: int,
    which: Symbols = "unseen",
    kind: tuple[int, bool] = (2, False),
) -> Task:
    """Facts of a kind (`Facts`), one in every remembered chunk."""
    asked = partial(Facts, kind=kind, seed=seed, which=which, telling=tokens_BW.shape[1] // chunk_tokens)
    batch = _far(asked, tokens_BW, chunk_tokens, vocab_size)
    return Task(batch, _OF_FACTS, symbols=which, chance=1 / len(symbols(vocab_size, which)))


def quote(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Task:
    """How passages of the remembered chunks go on."""
    return Task(_far(partial(Quote, seed=seed), tokens_BW, chunk_tokens, vocab_size), _OF_FACTS)


def _refuse_long(half_BW: Tensor, chunk_tokens: int) -> None:
    if half_BW.shape[1] > LONG // 2 * chunk_tokens:
        raise UsageError(f"of texts of more than {LONG} chunks quotations are asked (quote), and no copies of a half.")


_OF_COPIES = ("token_accuracy", "exact_match", "chunk_match", "cross_entropy")


def copy(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Task:
    """The second half, which repeats the first, shown token by token."""
    _refuse_long(tokens_BW, chunk_tokens)
    return Task(Copy(blank=False)(tokens_BW, chunk_tokens), _OF_COPIES)


def blank(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Task:
    """The first half, at the places of blanks."""
    _refuse_long(tokens_BW, chunk_tokens)
    return Task(Copy(blank=True)(tokens_BW, chunk_tokens), _OF_COPIES)


def recall(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int, which: Symbols = "unseen") -> Task:
    """Values of random keys, by how many chunks ago they were told."""
    pairs = Recall(vocab_size, which)
    batch = pairs(tokens_BW, chunk_tokens)
    before = tokens_BW.shape[1] - chunk_tokens
    told_BP, asked_BQ = batch.input_ids[:, :before:2], batch.input_ids[:, before::2]
    pair_BQ = (asked_BQ[:, :, None] == told_BP[:, None]).int().argmax(-1)
    group_BN = torch.zeros_like(batch.labels)
    group_BN[:, before + 1 :: 2] = before // chunk_tokens - 2 * pair_BQ // chunk_tokens
    told = told_BP.shape[1]
    chances = 1 / (len(pairs.symbols_S) - told), 1 / told
    return Task(batch, ("token_accuracy", "cross_entropy"), "distance", group_BN, which, *chances)


def needle(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int, which: Symbols = "unseen") -> Task:
    """A fact in a text: somewhere in one chunk a key and its value, in the last chunk the key again, its value asked.

    [B, C*T] -> [B, (C - 1) * T + 2]. Example i has its needle in chunk i mod (C - 1), at a random even place, by whose
    number it is told apart. The key is drawn uniformly among those symbols that the text itself has not got, or has
    fewest of; the value uniformly among the others: nothing but a memory of the pair tells it. UsageError where chunks
    have no room for a pair, or there is none before the last.
    """
    rows, T, symbols_S = len(tokens_BW), chunk_tokens, symbols(vocab_size, which)
    chunks, S = tokens_BW.shape[1] // T, len(symbols_S)
    if T < 2 or chunks < 2 or S < 2:
        raise UsageError("a needle needs at least two chunks, of at least two tokens, and two symbols.")
    text_Bn, depth_B = tokens_BW[:, : (chunks - 1) * T], torch.arange(rows) % (chunks - 1)
    generator = torch.Generator().manual_seed(seed)
    often_BV = torch.zeros(rows, vocab_size).scatter_add_(1, text_Bn, torch.ones(text_Bn.shape))
    often_BS = often_BV[:, symbols_S]
    key_B = (often_BS + torch.rand(often_BS.shape, generator=generator)).argmin(1)
    value_B = (key_B + torch.randint(1, S, (rows,), generator=generator)) % S
    even_B = 2 * torch.randint(T // 2, (rows,), generator=generator)
    batch = with_needles(text_Bn, T, depth_B * T + even_B, symbols_S[key_B], symbols_S[value_B])
    return Task(batch, ("token_accuracy", "cross_entropy"), "depth", depth_B[:, None], which, 1 / (S - 1))


def _whole(chunks: int) -> int:
    return chunks


_DRAWN = {  # those whose keys and values are symbols
    "facts": facts,
    "facts-3": partial(facts, kind=(3, False)),
    "facts-changed": partial(facts, kind=(3, True)),
    "recall": recall,
    "needle": needle,
}
TASKS: Makers[Task] = {
    "causal": (causal, _whole),
    "quote": (quote, _whole),
    "copy": (copy, lambda chunks: chunks // 2),  # an odd chunk more is left out
    "blank": (blank, lambda chunks: chunks // 2),
    **{name: (make, _whole) for name, make in _DRAWN.items()},
}
TRAINED: Makers[Task] = {name: (partial(make, which="trained"), _whole) for name, make in _DRAWN.items()}
