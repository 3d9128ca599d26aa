"""The cache of models that read memories: tokens of a chunk become a memory, and their places are given up.

    places of the cache:  [ T of the current chunk | S of memory 0 | S of memory 1 | ... ]

After T tokens the chunk is encoded into one more memory, whose S entries are added; the next chunk's start slot is
written over the last one's. Of the prompt only the last chunk, which is not full, is read token by token: all full ones
become memories side by side, and the decoder reads these in one call.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm.decoding.cached import Cached, Prompt, cache_entries, last_entry
from memlm.nn.chunks import Chunks
from memlm.nn.layout import Layout
from memlm.nn.stack import Beside
from memlm.readers.placing import Placing
from memlm.readers.reader import Select
from memlm.readers.select import Held, Where

if TYPE_CHECKING:
    from memlm.models.memory_model import MemoryModel
    from memlm.models.recurrent import RecurrentMemory

Model = TypeVar("Model", "MemoryModel", "RecurrentMemory")


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
        # At the end a chunk more, so that every row has one that is not full.
        ids_BCT = F.pad(prompt.ids, (0, T + -prompt.ids.shape[1] % T)).unflatten(1, (-1, T))
        self.ids_BT = ids_BCT[torch.arange(self.batch, device=device)[:, None], self.chunk_R1][:, 0]
        self.slot_R1 = self.length_R1 % T  # of the last entry: of the start slot, or of a token
        count_R1 = self.count(self.chunk_R1)
        positions_RT = placing.tokens(count_R1[:, 0])
        self.position_R1 = positions_RT.gather(1, self.slot_R1)
        prefix_BKSW = self.read_prompt(ids_BCT[:, :-1], prompt.memories)
        prefix_BmW = None if prefix_BKSW is None else prefix_BKSW.flatten(1, 2)
        m = 0 if prefix_BmW is None else prefix_BmW.shape[1]
        self.cache = self.stack.new_cache(T + m)
        number_m = torch.arange(m, device=device) // max(1, self.S)
        own_RT = torch.arange(T, device=device) <= self.slot_R1
        self.mask_R1P = torch.cat([own_RT, number_m < count_R1], 1)[:, None]
        self._place()
        if prefix_BmW is not None and m:
            self._prefill_memories(prefix_BmW, number_m)
        self._prefill_tokens(positions_RT, max(n % T for n in prompt.lengths) + 1)

    @abstractmethod
    def count(self, chunk_R1: Tensor) -> Tensor:
        """How many memories the chunks of these numbers see."""

    @abstractmethod
    def places(self) -> int:
        """How many places there have to be by now."""

    @abstractmethod
    def read_prompt(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> Tensor | None:
        """What stands for the memories before each row's last chunk [B, K + C, S, W]; too many for a shorter row.

        None where nothing does.
        """

    @abstractmethod
    def read_chunk(self, rows: Tensor | slice) -> Tensor:
        """What stands for the memories of the chunks `ids_BT` of some rows, now full [b, S, W]."""

    def keep_chunk(self, rows_r: Tensor) -> None:
        """Where S is 0: keep what is wanted of the chunks `ids_BT` of these rows, now full. Nothing by default."""

    def beside(self, slot_RQ: Tensor) -> Sequence[Beside]:
        """What entries at these places of the chunks are given of memories that are no entries. Nothing by default."""
        return ()

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`; where a chunk is full its memory is formed first."""
        self.ids_BT.scatter_(1, self.slot_R1.expand(self.batch, 1), tokens_B[:, None])
        self.read += 1
        self.slot_R1 += 1
        self.position_R1 += 1
        x_B1W = self.model.embed(tokens_B)[:, None]
        if (rows_r := self.filled()) is not None:
            self._turn(rows_r)
            x_B1W[self.of_batch(rows_r)] = self.start(self.model.start, rows_r)
        x_B1W = x_B1W + self.model.place(self.slot_R1)
        self.mask_R1P.scatter_(2, self.slot_R1[..., None], True)
        layout = self.layout(self.position_R1, self.mask_R1P, self.slot_R1)
        h_B1W = self.stack(x_B1W, layout, self.cache, self.beside(self.slot_R1))
        self.logits = self.model.head(h_B1W[:, 0])
        return self.logits

    def _turn(self, rows_r: Tensor) -> None:
        """The chunks of these rows are full: give up their tokens, and keep the entries of their memories."""
        self.chunk_R1[rows_r] += 1
        self.slot_R1[rows_r] = 0
        count_r = self.count(self.chunk_R1[rows_r])[:, 0]
        self.position_R1[rows_r] = self.placing.tokens(count_r)[:, :1]
        self.mask_R1P[rows_r, :, : self.T] = False
        if not self.S:
            self.keep_chunk(rows_r)
            return
        if self.places() > self.cache.places:
            self.grow(self.places())
            self._place()
        slots_rS = self.T + (count_r[:, None] - 1) * self.S + torch.arange(self.S, device=rows_r.device)
        self.mask_R1P[rows_r[:, None], 0, slots_rS] = True
        mask_rSP = self.mask_R1P[rows_r].expand(-1, self.S, -1)
        layout = self.layout(self.placing.memories(count_r - 1), mask_rSP, slots_rS)
        rows = self.of_batch(rows_r)
        x_bSW = self.read_chunk(rows)
        if isinstance(rows, slice):
            self.stack(x_bSW, layout, self.cache)
        else:
            part = self.cache.rows(rows)
            self.stack(x_bSW, layout, part)
            self.cache.put_rows(rows, part)

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
        self.stack(x_BmW, Layout(positions_m, rule, slots=slots_m), self.cache)

    def _prefill_tokens(self, positions_RT: Tensor, entries: int) -> None:
        """Entries of the last chunks, and the first logits. A row with fewer has empty ones, as above."""
        model, Q = self.model, entries
        x_BQW = torch.cat([self.start(model.start), model.embed(self.ids_BT[:, : Q - 1])], 1) + model.place.weight[:Q]
        memories_RQm = self.mask_R1P[:, :, self.T :].expand(-1, Q, -1)
        past_QT = memories_RQm.new_ones(Q, self.T).tril()
        mask_RQP = torch.cat([past_QT.expand(len(memories_RQm), -1, -1), memories_RQm], 2)
        slots_RQ = torch.arange(Q, device=x_BQW.device).expand(len(memories_RQm), -1)
        h_BQW = self.stack(
            x_BQW, self.layout(positions_RT[:, :Q], mask_RQP, slots_RQ), self.cache, self.beside(slots_RQ)
        )
        self.logits = model.head(last_entry(h_BQW, self.slot_R1))


class MemoryDecoding(ChunkDecoding["MemoryModel"]):
    """Of a memory model: its memories stay, those given with the prompt first. Without a reader there are none."""

    def count(self, chunk_R1: Tensor) -> Tensor:
        """As of `ChunkDecoding`."""
        return self.given + chunk_R1

    def places(self) -> int:
        """As of `ChunkDecoding`: as many as the row with the longest text needs."""
        return cache_entries(self.S, self.T, self.longest + self.read, self.given)

    def read_prompt(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> Tensor | None:
        """As of `ChunkDecoding`."""
        return self.model.reader(self.memories(ids_BCT, memory_BKM)) if self.S else None

    def memories(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> Tensor:
        """All before each row's last chunk [B, K + C, M]; the full chunks of all rows are encoded side by side."""
        model, most, device = self.model, self.longest // self.T, ids_BCT.device
        own_BCM = model.embed.weight.new_zeros(self.batch, most, model.memory_dim)
        if most:
            full_BC = (torch.arange(most, device=device) < self.chunk_R1).expand(self.batch, -1)
            own_BCM[full_BC] = model.encode_chunks(ids_BCT[:, :most][full_BC][:, None])[:, 0]
        return own_BCM if memory_BKM is None else torch.cat([memory_BKM.to(own_BCM), own_BCM], 1)

    def read_chunk(self, rows: Tensor | slice) -> Tensor:
        """As of `ChunkDecoding`."""
        return self.model.reader(self.model.encode_chunks(self.ids_BT[rows][:, None]))[:, 0]


class SelectDecoding(MemoryDecoding):
    """Of a memory model that selects: its cache has T places alone, and beside it are the memories and their keys."""

    held: Held

    @property
    def nbytes(self) -> int:
        """Bytes of the cache, of memories and of their keys."""
        return self.cache.nbytes + self.held.nbytes

    @property
    def reader(self) -> Select:
        """The model's."""
        return cast(Select, self.model.reader)

    def read_prompt(self, ids_BCT: Tensor, memory_BKM: Tensor | None) -> None:
        """As of `ChunkDecoding`: they are held, and no entries."""
        memory_BKM = self.memories(ids_BCT, memory_BKM)
        number_1K = torch.arange(memory_BKM.shape[1], device=memory_BKM.device)[None]
        self.held = self.reader.hold(memory_BKM, number_1K)

    def keep_chunk(self, rows_r: Tensor) -> None:
        """As of `ChunkDecoding`."""
        memory_BKM, key_BKLX = self.held.memory_BKM, self.held.key_BKLX
        if more := self.given + (self.longest + self.read) // self.T - memory_BKM.shape[1]:
            memory_BKM, key_BKLX = F.pad(memory_BKM, (0, 0, 0, more)), F.pad(key_BKLX, (0, 0, 0, 0, 0, more))
        rows, number_r1 = self.of_batch(rows_r), self.count(self.chunk_R1[rows_r]) - 1
        formed = self.reader.hold(self.model.encode_chunks(self.ids_BT[rows][:, None]), number_r1)
        rows_B1 = torch.arange(self.batch, device=rows_r.device)[rows][:, None]
        memory_BKM[rows_B1, number_r1], key_BKLX[rows_B1, number_r1] = formed.memory_BKM, formed.key_BKLX
        self.held = Held(memory_BKM, key_BKLX)

    def beside(self, slot_RQ: Tensor) -> Sequence[Beside]:
        """As of `ChunkDecoding`."""
        return self.reader.beside(self.held, Where(self.count(self.chunk_R1).expand_as(slot_RQ), slot_RQ))


class RecurrentDecoding(ChunkDecoding["RecurrentMemory"]):
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

    def read_chunk(self, rows: Tensor | slice) -> Tensor:
        """As of `ChunkDecoding`."""
        memory_bM = self.model.carried(self.ids_BT[rows][:, None], self.memory_BM[rows])[:, 0]
        self.memory_BM[rows] = memory_bM
        return self.model.read(memory_bM)[:, None]
