"""The cache of models that read memories: tokens of a chunk become a memory, and their places are given up.

    places of the cache:  [ T of the current chunk | S of memory 0 | S of memory 1 | ... ]

After T tokens the chunk is encoded into one more memory, whose S entries are added, and what its reader keeps of it
beside; the next chunk's start slot is written over the last one's. Of the prompt only the last chunk, which is not
full, is read token by token: all full ones become memories side by side, and the decoder reads these in one call.
"""

from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.decoding.cached import Cached, Chunked, Prompt, cache_entries, last_entry
from memlm.nn.chunks import Chunks
from memlm.nn.layout import Layout
from memlm.readers.placing import Placing
from memlm.readers.reader import Kept, Queries, Reader, in_order, logp_of, recent_tokens


class ReadsMemories(Chunked, Protocol):
    """What is asked of a memory model."""

    reader: Reader
    memory_dim: int
    dtype: Any

    def encode_chunks(self, ids_BCT: Tensor) -> Tensor: ...  # noqa: D102


class Carries(Chunked, Protocol):
    """What is asked of a recurrent model."""

    read: nn.Linear
    memory_dim: int

    def carried(self, ids_BCT: Tensor, memory_BM: Tensor | None = None) -> Tensor: ...  # noqa: D102


Model = TypeVar("Model", ReadsMemories, Carries)


class ChunkDecoding(Cached, Generic[Model]):
    """What memory models and the recurrent one share.

    Args:
        model: the model.
        placing: where its memories and tokens stand.
        prompt: what is continued.
    """

    @torch.inference_mode()
    def __init__(self, model: Model, placing: Placing, prompt: Prompt):
        super().__init__(model.decoder, model.chunk_tokens, prompt)
        self.model, self.placing, self.S = model, placing, placing.vectors
        device, T = prompt.ids.device, self.T
        self.given = 0 if prompt.memories is None else prompt.memories.shape[1]
        if (index := prompt.index) is not None:
            self.given, self.index, self.filed = len(index), index, len(index)
        # At the end a chunk more, so that every row has one that is not full.
        ids_BCT = F.pad(prompt.ids, (0, T + -prompt.ids.shape[1] % T)).unflatten(1, (-1, T))
        self.ids_BT = ids_BCT[torch.arange(self.batch, device=device)[:, None], self.chunk_R1][:, 0]
        self.slot_R1 = self.length_R1 % T  # of the last entry: of the start slot, or of a token
        count_R1 = self.count(self.chunk_R1)
        positions_RT = placing.tokens(count_R1[:, 0])
        self.position_R1 = positions_RT.gather(1, self.slot_R1)
        entry_BmW = self.read_prompt(ids_BCT[:, :-1], prompt.memories).flatten(1, 2)
        m = entry_BmW.shape[1]
        self.cache = self.stack.new_cache(T + m)
        number_m = torch.arange(m, device=device) // max(1, self.S)
        own_RT = torch.arange(T, device=device) <= self.slot_R1
        self.mask_R1P = torch.cat([own_RT, number_m < count_R1], 1)[:, None]
        self._place()
        if m:
            self._prefill_memories(entry_BmW, number_m)
        self._prefill_tokens(positions_RT, max(n % T for n in prompt.lengths) + 1)

    @abstractmethod
    def count(self, chunk_R1: Tensor) -> Tensor:
        """How many memories the chunks of these numbers see."""

    @abstractmethod
    def places(self) -> int:
        """How many places there have to be by now."""

    @abstractmethod
    def read_prompt(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> Tensor:
        """Entries of the memories before each row's last chunk [B, K + C, S, W]; too many for a shorter row."""

    @abstractmethod
    def read_chunk(self, rows: Tensor | slice, chunk_r1: Tensor) -> tuple[Tensor, Tensor]:
        """The chunks `ids_BT` of some rows are full, and others of these numbers begin.

        Returns:
            Entries [b, n, S, W] to be put among those of memories, and at which numbers there [r, n].
        """

    def decode(self, x_BQW: Tensor, layout: Layout, slot_RQ: Tensor) -> Tensor:
        """Entries at these places of the chunks -> hidden states [B, Q, W]."""
        return self.stack(x_BQW, layout, self.cache)

    def predict(self, h_B1W: Tensor) -> Tensor:
        """The hidden states of the last entries -> logits [B, V]."""
        return self.model.head(h_B1W)[:, 0]

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`; where a chunk is full its memory is formed first."""
        self.ids_BT.scatter_(1, self.slot_R1.expand(self.batch, 1), tokens_B[:, None])
        self.read += 1
        self.slot_R1 += 1
        self.position_R1 += 1
        if (rows_r := self.filled()) is not None:
            self._turn(rows_r)
        self.mask_R1P.scatter_(2, self.slot_R1[..., None], True)
        layout = self._layout(self.position_R1, self.mask_R1P, self.slot_R1)
        x_B1W = self.model.inputs(tokens_B[:, None], self.slot_R1, self.marks(), self.count(self.chunk_R1) > 0)
        self.logits = self.predict(self.decode(x_B1W, layout, self.slot_R1))
        return self.logits

    def _turn(self, rows_r: Tensor) -> None:
        """The chunks of these rows are full: give up their tokens, and keep the entries of their memories."""
        self.chunk_R1[rows_r] += 1
        self.slot_R1[rows_r] = 0
        count_r = self.count(self.chunk_R1[rows_r])[:, 0]
        self.position_R1[rows_r] = self.placing.tokens(count_r)[:, :1]
        self.mask_R1P[rows_r, :, : self.T] = False
        rows = self.of_batch(rows_r)
        entry_bnSW, number_rn = self.read_chunk(rows, self.chunk_R1[rows_r])
        if not self.S:
            return
        if self.places() > self.cache.places:
            self.grow(self.places())
            self._place()
        number_m = torch.arange(self.cache.places - self.T, device=rows_r.device) // self.S
        self.mask_R1P[rows_r, 0, self.T :] = number_m < count_r[:, None]
        slots_rm = (self.T + number_rn[..., None] * self.S + torch.arange(self.S, device=rows_r.device)).flatten(1)
        upto_rmP = number_m <= number_rn.repeat_interleave(self.S, 1)[..., None]
        mask_rmP = F.pad(upto_rmP, (self.T, 0))
        layout = self._layout(self.placing.memories(number_rn).flatten(1), mask_rmP, slots_rm)
        x_bmW = entry_bnSW.flatten(1, 2)
        if isinstance(rows, slice):
            self.stack(x_bmW, layout, self.cache)
        else:
            part = self.cache.rows(rows)
            self.stack(x_bmW, layout, part)
            self.cache.put_rows(rows, part)

    def _layout(self, positions_rQ: Tensor, mask_rQP: Tensor, slots_rQ: Tensor) -> Layout:
        """As `layout`; what stands after a chunk's places are memories."""
        return self.layout(positions_rQ, mask_rQP, slots_rQ, slice(self.T, None))

    def _place(self) -> None:
        """Where the places stand, which chooses a mixer's weights; only with fixed positions it can be one."""
        if self.placing.scheme == "fixed":
            device = self.ids_BT.device
            memories = (self.cache.places - self.T) // max(1, self.S)
            tokens_T = self.placing.tokens(torch.zeros((), dtype=torch.long, device=device))
            self.seen_P = torch.cat([tokens_T, self.placing.memories(torch.arange(memories, device=device)).flatten()])

    def _prefill_memories(self, x_BmW: Tensor, number_m: Tensor) -> None:
        """All memories' entries. A row with fewer has empty ones at the end: seen by no other, later written over."""
        rule = Chunks(chunks=0, prefix=len(number_m), block=self.S)
        slots_m = torch.arange(self.T, self.cache.places, device=number_m.device)
        positions_m = self.placing.memories(number_m[:: self.S]).flatten()
        self.stack(x_BmW, Layout(positions_m, rule, slots=slots_m, prefix=slice(self.T, None)), self.cache)

    def _prefill_tokens(self, positions_RT: Tensor, entries: int) -> None:
        """Entries of the last chunks, and the first logits. A row with fewer has empty ones, as above."""
        Q, before_BQ = entries, F.pad(self.ids_BT, (1, 0))[:, :entries]
        slots_RQ = torch.arange(Q, device=before_BQ.device).expand(len(positions_RT), -1)
        x_BQW = self.model.inputs(before_BQ, slots_RQ, self.marks(), self.count(self.chunk_R1) > 0)
        memories_RQm = self.mask_R1P[:, :, self.T :].expand(-1, Q, -1)
        past_QT = memories_RQm.new_ones(Q, self.T).tril()
        mask_RQP = torch.cat([past_QT.expand(len(memories_RQm), -1, -1), memories_RQm], 2)
        h_BQW = self.decode(x_BQW, self._layout(positions_RT[:, :Q], mask_RQP, slots_RQ), slots_RQ)
        self.read_tokens(h_BQW)
        self.logits = self.predict(last_entry(h_BQW, self.slot_R1)[:, None])

    def read_tokens(self, h_BQW: Tensor) -> None:
        """Told the hidden states at the first places of the last chunks."""


class MemoryDecoding(ChunkDecoding[ReadsMemories]):
    """Of a memory model: its memories stay, those given with the prompt first. Without a reader there are none."""

    index: Any = None  # of so many memories, in the place of what is kept of them
    filed = 0
    kept: Kept = ()  # of those after them, by the reader: tensors [B, at least as many, ...]
    newest_BwM: Tensor  # memories that a reader of a window reads, of a row with fewer than w the first places
    logp_BT: Tensor  # of the chunks' tokens, by the decoder alone
    alone_BV: Tensor  # its logits

    @property
    def nbytes(self) -> int:
        """Bytes of the cache, and of what the reader keeps beside it."""
        filed = 0 if self.index is None else self.index.nbytes
        return super().nbytes + sum(t.nbytes for t in self._known()) + filed

    @property
    def known(self) -> int:
        """How many memories there are by now, of the row with the longest text."""
        return self.given + (self.longest + self.read) // self.T

    @property
    def most(self) -> int:
        """How many of them have entries at most."""
        window = self.model.reader.window
        return self.known if window is None else min(window, self.known)

    def count(self, chunk_R1: Tensor) -> Tensor:
        """As of `ChunkDecoding`."""
        return (self.given + chunk_R1).clamp(max=self.most)

    def places(self) -> int:
        """As of `ChunkDecoding`: as many as the row with the longest text needs."""
        return cache_entries(self.S, self.T, 0, self.most)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `ChunkDecoding`; how probable the token was is noted."""
        if self.model.reader.told_logp:
            at_B1 = self.slot_R1.expand(self.batch, 1)
            self.logp_BT.scatter_(1, at_B1, logp_of(self.alone_BV, tokens_B)[:, None])
        return super().step(tokens_B)

    def read_prompt(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> Tensor:
        """As of `ChunkDecoding`; the full chunks of all rows are encoded side by side."""
        model, most, device = self.model, self.longest // self.T, ids_BCT.device
        self.logp_BT = torch.zeros(self.batch, self.T, dtype=model.dtype, device=device)
        own_BCM = torch.zeros(self.batch, most, model.memory_dim, dtype=model.dtype, device=device)
        if not model.reader.reads:
            return model.reader.entries(own_BCM)
        if most:
            full_BC = (torch.arange(most, device=device) < self.chunk_R1).expand(self.batch, -1)
            own_BCM[full_BC] = model.encode_chunks(ids_BCT[:, :most][full_BC][:, None])[:, 0]
        memory_BKM = own_BCM if memory_BKM is None else torch.cat([memory_BKM.to(own_BCM), own_BCM], 1)
        self.kept = model.reader.keep(memory_BKM, () if self.index is None else self.index.last)
        if (window := model.reader.window) is None:
            return model.reader.entries(memory_BKM)
        first_R1 = self.given + self.chunk_R1 - self.count(self.chunk_R1)
        if self.index is not None:
            newest_1wM = self.index.newest_kM[None].to(own_BCM)
            memory_BKM, first_R1 = torch.cat([newest_1wM, own_BCM], 1), first_R1 - self.filed + newest_1wM.shape[1]
        else:
            self.index = model.reader.index(self.kept, memory_BKM[:, -window:])
            if self.index is not None:
                self.kept, self.filed = tuple(t[:, :0] for t in self.kept), memory_BKM.shape[1]
        number_Bw = (first_R1 + torch.arange(window, device=device)).expand(self.batch, -1)
        padded_BKM = F.pad(memory_BKM, (0, 0, 0, window))
        self.newest_BwM = padded_BKM.gather(1, number_Bw[..., None].expand(-1, -1, memory_BKM.shape[2]))
        return model.reader.entries(self.newest_BwM[:, : self.most])

    def read_chunk(self, rows: Tensor | slice, chunk_r1: Tensor) -> tuple[Tensor, Tensor]:
        """As of `ChunkDecoding`; what its reader keeps is put to the rest."""
        model, number_r1 = self.model, self.given + chunk_r1 - 1
        if not model.reader.reads:
            return model.reader.entries(number_r1.new_zeros(len(number_r1), 1, 1)), number_r1
        memory_b1M = model.encode_chunks(self.ids_BT[rows][:, None])
        if self.kept:
            room = self.kept[0].shape[1]
            if self.known - self.filed > room:  # twice the room, so that growing copies each memory but a few times
                more = max(self.known - self.filed - room, room)
                self.kept = tuple(torch.cat([t, t.new_zeros(len(t), more, *t.shape[2:])], 1) for t in self.kept)
            rows_b1 = torch.arange(self.batch, device=number_r1.device)[rows][:, None]
            at_r1 = number_r1 - self.filed
            if self.filed == self.known - 1:
                before = self.index.last if self.filed else ()
            else:  # of the first there is none, that is zeros
                some_r1, before_r1 = at_r1 > 0, (at_r1 - 1).clamp(min=0)
                before = tuple(t[rows_b1, before_r1] * some_r1.view(-1, *[1] * (t.ndim - 1)) for t in self.kept)
            for kept, new in zip(self.kept, model.reader.keep(memory_b1M, before), strict=True):
                kept[rows_b1, at_r1] = new
        if (window := model.reader.window) is None:
            return model.reader.entries(memory_b1M), number_r1
        extended_bxM = F.pad(self.newest_BwM[rows], (0, 0, 0, 1))
        seen_b11 = number_r1.clamp(max=window).expand(len(extended_bxM), 1)[..., None]
        extended_bxM.scatter_(1, seen_b11.expand(-1, -1, extended_bxM.shape[2]), memory_b1M)
        kept_bw = (number_r1 >= window) + torch.arange(window, device=number_r1.device)
        at_bwM = kept_bw.expand(len(extended_bxM), -1)[..., None].expand(-1, -1, extended_bxM.shape[2])
        self.newest_BwM[rows] = extended_bxM.gather(1, at_bwM)
        number_rn = torch.arange(self.most, device=number_r1.device).expand(len(number_r1), -1)
        return model.reader.entries(self.newest_BwM[rows][:, : self.most]), number_rn

    def read_tokens(self, h_BQW: Tensor) -> None:
        """As of `ChunkDecoding`: how probable the tokens were is noted."""
        if self.model.reader.told_logp:
            tokens_BQ = self.ids_BT[:, : h_BQW.shape[1]]
            self.logp_BT[:, : h_BQW.shape[1]] = logp_of(self.model.head(h_BQW), tokens_BQ)

    def decode(self, x_BQW: Tensor, layout: Layout, slot_RQ: Tensor) -> Tensor:
        """As of `ChunkDecoding`, with the reader's residuals."""
        if not self.model.reader.reads:
            return super().decode(x_BQW, layout, slot_RQ)
        residuals = self.model.reader.residuals(self._known(), self._queries(slot_RQ))
        return self.stack(x_BQW, layout, self.cache, residuals)

    def predict(self, h_B1W: Tensor) -> Tensor:
        """As of `ChunkDecoding`, with what the reader mixes in."""
        if not self.model.reader.reads:
            return super().predict(h_B1W)
        self.alone_BV = super().predict(h_B1W)
        logits_B1V = self.alone_BV[:, None]
        queries = self._queries(self.slot_R1)
        mixed = self.model.reader.mix(logits_B1V, h_B1W, self._known(), queries, self.index)
        if mixed.opened is not None and mixed.shares is not None:
            self.opened = mixed.opened[:, 0], mixed.shares[:, 0]
        return mixed.logits[:, 0]

    def _known(self) -> Kept:
        """What is kept of the memories that there are by now."""
        return tuple(t[:, : self.known - self.filed] for t in self.kept)

    def _queries(self, slot_RQ: Tensor) -> Queries:
        at_BQn = slot_RQ.expand(self.batch, -1)[..., None].expand(-1, -1, self.model.reader.recent)
        recent_BQn, logp_BQn = (
            recent_tokens(x_BT, self.model.reader.recent).gather(1, at_BQn) for x_BT in (self.ids_BT, self.logp_BT)
        )
        order_BQ = in_order(self.marks(), slot_RQ, self.T)
        return Queries(
            (self.given + self.chunk_R1).expand_as(slot_RQ), slot_RQ, recent_BQn, logp=logp_BQn, order=order_BQ
        )


class RecurrentDecoding(ChunkDecoding[Carries]):
    """Of the recurrent model: one memory, carried on at every full chunk, whose one entry is written over."""

    memory_BM: Tensor

    def count(self, chunk_R1: Tensor) -> Tensor:
        """As of `ChunkDecoding`: one, before the first chunk of zeros."""
        return torch.ones_like(chunk_R1)

    def places(self) -> int:
        """As of `ChunkDecoding`: they never grow."""
        return self.T + 1

    def read_prompt(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> Tensor:
        """As of `ChunkDecoding`: chunk after chunk; a row with fewer is carried on and what it had by then is taken."""
        model = self.model
        memory_BCM = model.read.weight.new_zeros(self.batch, 1, model.memory_dim)
        if self.longest >= self.T:
            memory_BCM = torch.cat([memory_BCM, model.carried(ids_BCT[:, : self.longest // self.T])], 1)
        self.memory_BM = last_entry(memory_BCM, self.chunk_R1)
        return model.read(self.memory_BM)[:, None, None]

    def read_chunk(self, rows: Tensor | slice, chunk_r1: Tensor) -> tuple[Tensor, Tensor]:
        """As of `ChunkDecoding`."""
        memory_bM = self.model.carried(self.ids_BT[rows][:, None], self.memory_BM[rows])[:, 0]
        self.memory_BM[rows] = memory_bM
        return self.model.read(memory_bM)[:, None, None], torch.zeros_like(chunk_r1)
