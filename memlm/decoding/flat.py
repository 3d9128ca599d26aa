"""The cache of models that read every token: entry n, which predicts token n, stands at place n and is never given up.

These are the baseline that reads all tokens and the causal language model.
"""

from abc import abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.decoding.cached import Cached, Chunked, Prompt, cache_entries, last_entry
from memlm.nn.chunks import Chunks
from memlm.nn.layout import Layout
from memlm.nn.stack import Stack
from memlm.nn.vocabulary import END


class AllTokens(Chunked, Protocol):
    """What is asked of a model that reads all tokens."""

    def embed_chunks(self, ids_BCT: Tensor, marks_BC: Tensor | None = None) -> Tensor: ...  # noqa: D102


class Causal(Protocol):
    """What is asked of a causal language model."""

    chunk_tokens: int
    head: Any
    encoder: Any


class FlatDecoding(Cached):
    """What the two share: what differs is how tokens are embedded, and how many places there are.

    Args:
        model: the model.
        stack: its stack that reads tokens.
        prompt: what is continued.
    """

    def __init__(self, model: AllTokens | Causal, stack: Stack, prompt: Prompt):
        super().__init__(stack, model.chunk_tokens, prompt)
        self.head = model.head
        self.cache = stack.new_cache(self.places())
        self.slot_R1 = self.length_R1.clone()  # of the last entry, and where it stands
        place_P = torch.arange(self.places(), device=prompt.ids.device)
        self.mask_R1P = (place_P <= self.slot_R1)[:, None]
        self._place()
        x_BQW = self.embed_prompt(prompt.ids)[:, : self.longest + 1]
        slots_Q = place_P[: x_BQW.shape[1]]
        # A row with fewer tokens has empty entries at the end: seen by no other, later written over.
        layout = Layout(slots_Q, Chunks(tokens=len(slots_Q)), slots=slots_Q)
        self.logits = self.head(last_entry(stack(x_BQW, layout, self.cache), self.slot_R1))

    @abstractmethod
    def places(self) -> int:
        """How many places there have to be by now."""

    @abstractmethod
    def embed_prompt(self, ids_BN: Tensor) -> Tensor:
        """The entries that predict the tokens and the one that follows: at least [B, N + 1, W]."""

    @abstractmethod
    def embed_next(self, tokens_B: Tensor) -> Tensor:
        """The entries after these tokens [B, 1, W]."""

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`."""
        self.read += 1
        self.slot_R1 += 1
        if self.places() > self.cache.places:
            self.grow(self.places())
            self._place()
        x_B1W = self.embed_next(tokens_B)
        self.mask_R1P.scatter_(2, self.slot_R1[..., None], True)
        h_B1W = self.stack(x_B1W, self.layout(self.slot_R1, self.mask_R1P, self.slot_R1), self.cache)
        self.logits = self.head(h_B1W[:, 0])
        return self.logits

    def _place(self) -> None:
        self.seen_P = torch.arange(self.cache.places, device=self.slot_R1.device)


class FullDecoding(FlatDecoding):
    """Of a model that reads all tokens: chunks only say where start slots are. Grows by T places."""

    @torch.inference_mode()
    def __init__(self, model: AllTokens, prompt: Prompt):
        self.model = model
        super().__init__(model, model.decoder, prompt)

    def places(self) -> int:
        """As of `FlatDecoding`."""
        return cache_entries(self.T, self.T, self.longest + self.read)

    def embed_prompt(self, ids_BN: Tensor) -> Tensor:
        """As of `FlatDecoding`."""
        ids_BCT = F.pad(ids_BN, (0, self.T - ids_BN.shape[1] % self.T)).unflatten(1, (-1, self.T))
        marks_BC = None
        if self.marks_BC is not None:
            chunks = ids_BCT.shape[1]
            marks_BC = F.pad(self.marks_BC, (0, max(0, chunks - self.marks_BC.shape[1])))[:, :chunks]
        return self.model.embed_chunks(ids_BCT, marks_BC).flatten(1, 2)

    def embed_next(self, tokens_B: Tensor) -> Tensor:
        """As of `FlatDecoding`."""
        if (rows_r := self.filled()) is not None:
            self.chunk_R1[rows_r] += 1
        return self.model.inputs(tokens_B[:, None], self.slot_R1 % self.T, self.marks())


class CausalDecoding(FlatDecoding):
    """Of a causal language model, which reads `<|end|>` first: places for T + 1 tokens from the beginning."""

    @torch.inference_mode()
    def __init__(self, model: Causal, prompt: Prompt):
        self.model = model
        super().__init__(model, model.encoder.stack, prompt)

    def places(self) -> int:
        """As of `FlatDecoding`."""
        return self.T + 1

    def embed_prompt(self, ids_BN: Tensor) -> Tensor:
        """As of `FlatDecoding`."""
        return self.model.encoder.embed(F.pad(ids_BN, (1, 0), value=END))

    def embed_next(self, tokens_B: Tensor) -> Tensor:
        """As of `FlatDecoding`."""
        return self.model.encoder.embed(tokens_B)[:, None]
