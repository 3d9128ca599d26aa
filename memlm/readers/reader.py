"""How a decoder reads memories: what a reader may do, in the order in which it is asked.

    memories [B, K, M] ─ entries ──> S entries a memory before the tokens of the decoder's sequence
                       └ keep ─> what is kept of each memory ─┬ residuals ─> added to the input of each block
                                                              └ mix ───────> mixed into the prediction

A reader does any of the four; the model, the forms of its sequence and its cache ask for all of them and know no reader
by name. A new reader is a subclass in a file of its own and a config in `readers/config.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.named import named
from memlm.nn.stack import Residual
from memlm.nn.vocabulary import PAD
from memlm.readers.config import ReaderConfig

Kept = tuple[Tensor, ...]  # what is kept of K memories beside their entries: tensors [B, K, ...]


@dataclass(frozen=True)
class Sizes:
    """What a reader is made for.

    Args:
        chunk_tokens: T.
        memory_dim: M.
        width: W, of the decoder.
        layers: L, blocks of the decoder.
        words: the decoder's word embeddings [V, W], which stay the model's own.
    """

    chunk_tokens: int
    memory_dim: int
    width: int
    layers: int
    words: nn.Module


@dataclass(frozen=True)
class Queries:
    """Where Q entries of chunks stand that read memories, in R rows: one for each sequence, or one for all.

    Args:
        before: how many memories there are before the chunk of each [R, Q]; it sees these and no others.
        place: of each in its own chunk [R, Q].
        recent: the `Reader.recent` tokens of its chunk before each, the nearest first, padded [B, Q, n].
        hidden: index of a memory that none sees; positions do not change.
        logp: of the recent tokens, the log-probability that the decoder alone gave each, 0 where there is none
            [B, Q, n]; for `mix`, of readers that are told.
        order: in a marked chunk, the place of the text that stands as far from its beginning as each entry from the
            first of the marked chunks in a row [B, Q], -1 elsewhere; None: no chunk is marked.
        asked: bool, of which a prediction is scored, in training [B, Q]; None: all may be.
    """

    before: Tensor
    place: Tensor
    recent: Tensor
    hidden: int | None = None
    logp: Tensor | None = None
    order: Tensor | None = None
    asked: Tensor | None = None

    def sees(self, memories: int) -> Tensor:
        """Which of the first `memories` each entry sees: bool [R, Q, K]."""
        number_K = torch.arange(memories, device=self.before.device)
        seen_RQK = number_K < self.before[..., None]
        return seen_RQK if self.hidden is None else seen_RQK & (number_K != self.hidden)

    def part(self, some: slice) -> "Queries":
        """Some of them."""
        logp, order = (x if x is None else x[:, some] for x in (self.logp, self.order))
        parts = {"before": self.before[:, some], "place": self.place[:, some], "recent": self.recent[:, some]}
        return replace(self, **parts, logp=logp, order=order)

    def at(self, row_r1: Tensor, at_rA: Tensor) -> "Queries":
        """Of some sequences, those at A places each."""
        B = len(self.recent)
        before, place = (x.expand(B, -1)[row_r1, at_rA] for x in (self.before, self.place))
        logp, order = (x if x is None else x[row_r1, at_rA] for x in (self.logp, self.order))
        return Queries(before, place, self.recent[row_r1, at_rA], self.hidden, logp, order)


class Mixed(NamedTuple):
    """A prediction with what memories say of it.

    Args:
        logits: [B, Q, V].
        opened: numbers of the memories that were looked into [B, Q, k], if the reader chooses.
        shares: how much of the probability comes from each [B, Q, k].
        lesson: labels [B, Q] -> what training minimises beside their loss: nats [B, Q], weighed as it weighs them.
    """

    logits: Tensor
    opened: Tensor | None = None
    shares: Tensor | None = None
    lesson: Callable[[Tensor], Tensor] | None = None


class Reader(nn.Module):
    """Reads nothing: what a subclass does not say.

    Attributes:
        vectors: S, entries of a memory in the decoder's sequence.
        recent: how many tokens before a place its queries are told.
        told_logp: whether they are told how probable these were.
        files: whether it files memories: `index`, and `index_words` and `words` for those of a bank.
        recalling: the part that tells which words a memory holds, of a reader that reads nothing else of memories, and
            can be given words [B, K, T] in their place; None: it reads memories.
        window: how many of the newest memories have entries, made anew for each chunk; None: all have. A reader of a
            window gives no residuals.
    """

    vectors = 0
    recent = 0
    told_logp = False
    files = False
    recalling: ChunkDecoder | None = None
    window: int | None = None

    def __init__(self, config: ReaderConfig, sizes: Sizes):
        super().__init__()
        self.config, self._width = config, sizes.width

    @property
    def reads(self) -> bool:
        """Whether memories are read at all."""
        return self.config.reads

    def entries(self, memory_BKM: Tensor) -> Tensor:
        """Memories [B, K, M] -> their entries in the decoder's sequence [B, K, S, W]."""
        return memory_BKM.new_empty(*memory_BKM.shape[:2], 0, self._width)

    def keep(self, memory_BKM: Tensor, before: Kept = ()) -> Kept:
        """Memories [B, K, M] -> what is kept of each for `residuals` and `mix`: tensors [B, K, ...].

        `before` is what is kept of the memory before them, [B, 1, ...], where there is one.
        """
        return ()

    def residuals(self, kept: Kept, queries: Queries) -> Sequence[Residual]:
        """For each block, what is added to its input: [B, Q, W] -> [B, Q, W]; none of them by default."""
        return ()

    def index(self, kept: Kept, newest_BwM: Tensor) -> Any:
        """What finds among the many memories of one sequence without a look at each; None where nothing is gained.

        `newest_BwM` are the newest of them, as many as the window has. It takes the place of what is kept of them in
        `mix`, which then is given what is kept of later ones.
        """
        return None

    def mix(self, logits_BQV: Tensor, h_BQW: Tensor, kept: Kept, queries: Queries, index: Any = None) -> Mixed:
        """The prediction [B, Q, V] with what memories say of it; unchanged by default."""
        return Mixed(logits_BQV)

    def recall(self, memory_BM: Tensor) -> Tensor:
        """Memories [B, M] -> logits [B, T, V] of the tokens that they hold; of readers whose config `recalls`."""
        raise TypeError(f"{type(self).__name__} does not recall")

    def begin_as(self, vectors_VW: Tensor) -> None:
        """Initialise entries near the token vectors of a language model that has never seen any."""


def build_reader(config: ReaderConfig, sizes: Sizes) -> Reader:
    """The reader that `config` describes."""
    return named(config.module)(config, sizes)


def in_order(marks_BQ: Tensor | None, place_RQ: Tensor, chunk_tokens: int) -> Tensor | None:
    """`Queries.order` by the numbers of marked chunks (`numbered`) and places in them, of shapes that broadcast."""
    if marks_BQ is None:
        return None
    return torch.where(marks_BQ > 0, (marks_BQ - 1) * chunk_tokens + place_RQ, -1)


def recent_tokens(ids_BCT: Tensor, count: int) -> Tensor:
    """Of every place what stands at the `count` places of its chunk before it, the nearest first: [B, C, T, count].

    PAD, which is 0, before the first; T may be cut.
    """
    shifted = [F.pad(ids_BCT, (i, 0), value=PAD)[..., : ids_BCT.shape[-1]] for i in range(1, count + 1)]
    return torch.stack(shifted, -1) if shifted else ids_BCT.new_empty(*ids_BCT.shape, 0)


def logp_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities of tokens [...] by logits [..., V]."""
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)
