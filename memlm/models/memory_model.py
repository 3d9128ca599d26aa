"""The memory model: chunks become memories side by side, and a decoder reads memories in the place of tokens.

What is unusual:
- one encoder call and one decoder call for all chunks, whatever their number (readers/sequence.py);
- every token is predicted, the first of each chunk too (models/chunk_model.py);
- a chunk's tokens see memories of earlier chunks and their own chunk's past, nothing else;
- how memories are read is the reader's, and may be none of them: entries of the sequence, residuals of the blocks, a
  share of the prediction (readers/reader.py).
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.decoding.cached import Decoding, Prompt, cache_entries
from memlm.decoding.chunks import MemoryDecoding
from memlm.errors import UsageError
from memlm.memory.encoder import ChunkEncoder
from memlm.models.chunk_model import ChunkModel
from memlm.models.model import Given, Predicted, chunked
from memlm.models.shapes import MemoryShape
from memlm.nn.loss import IGNORED
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import token_embedding
from memlm.readers.placing import Placing
from memlm.readers.reader import Queries, Reader, Sizes, build_reader, in_order, logp_of, recent_tokens
from memlm.readers.sequence import Form, read_chunks, read_windows


class ReadsMemories(ChunkModel):
    """The memory model without the parts that it is made of, which are ours or those of a model of others.

    Attributes:
        reader: what its decoder gets of memories.
        placing: where memories and tokens stand.
        form: how they are laid out; both give the same numbers.
    """

    reader: Reader
    placing: Placing
    form: Form = "packed"

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from memories of earlier chunks and the earlier tokens of its own."""
        ids_BCT, memory_BKM = chunked(given.ids_BN, self.chunk_tokens), None
        if given.read and self.reader.reads:
            own_BCM = self.encode_chunks(ids_BCT[:, :-1]) if given.own_BCM is None else given.own_BCM
            memory_BKM = own_BCM if given.memory_BKM is None else torch.cat([given.memory_BKM, own_BCM], 1)
        predicted = self.decode(ids_BCT, given.marks_BC, memory_BKM, given.asked_BN)
        N = given.ids_BN.shape[1]
        opened, shares = (x if x is None else x[:, :N] for x in (predicted.opened, predicted.shares))
        return predicted._replace(logits=predicted.logits[:, :N], opened=opened, shares=shares)

    def remember(self, remembered: int, given: Given) -> Given:
        """As of `TextMemory`: of the chunks that are only read there are memories, and nothing of the decoder."""
        memory_BKM, own_BCM = given.memory_BKM, given.own_BCM
        first_BN, rest_BN = given.ids_BN.tensor_split((remembered * self.chunk_tokens,), 1)
        if remembered and given.read and self.reader.reads:
            whole = self.encode_chunks(chunked(first_BN, self.chunk_tokens)) if own_BCM is None else own_BCM
            first_BKM, own_BCM = whole[:, :remembered], None if own_BCM is None else whole[:, remembered:]
            memory_BKM = first_BKM if memory_BKM is None else torch.cat([memory_BKM, first_BKM], 1)
        marks_BC = None if given.marks_BC is None else given.marks_BC[:, remembered:]
        return given._replace(ids_BN=rest_BN, marks_BC=marks_BC, memory_BKM=memory_BKM, own_BCM=own_BCM)

    def decode(
        self, ids_BCT: Tensor, marks_BC: Tensor | None, memory_BKM: Tensor | None, asked_BN: Tensor | None = None
    ) -> Predicted:
        """What is predicted of chunks after K >= C - 1 memories, the last C - 1 the chunks' own; None: none is read.

        Raises:
            UsageError: more memories than the decoder has room for.
        """
        C, T = ids_BCT.shape[1:]
        K = C - 1 if memory_BKM is None else memory_BKM.shape[1]
        most = self.most_tokens(K - C + 1)
        if most is not None and most < C * T:
            raise UsageError(
                f"the model has room for {most} tokens after {K - C + 1} memories, not {C * T}: give less."
            )
        if memory_BKM is None:
            x_BCTW = self.embed_chunks(ids_BCT, marks_BC)
            return Predicted(self.head(read_chunks(self.decoder, self.placing, self.form, x_BCTW, None, K)))
        before_C, hidden = torch.arange(K - C + 1, K + 1, device=ids_BCT.device), self.placing.hidden
        seen_C = before_C if hidden is None else before_C - (before_C > hidden).long()
        x_BCTW = self.embed_chunks(ids_BCT, marks_BC, seen_C > 0)
        kept = self.reader.keep(memory_BKM)
        place_N = torch.arange(T, device=ids_BCT.device).repeat(C)
        recent_BNn = recent_tokens(ids_BCT, self.reader.recent).flatten(1, 2)
        order_BN = in_order(None if marks_BC is None else marks_BC.repeat_interleave(T, 1), place_N, T)
        queries = Queries(before_C.repeat_interleave(T)[None], place_N[None], recent_BNn, hidden, order=order_BN)
        residuals = self.reader.residuals(kept, queries)
        if (w := self.reader.window) is None:
            entry_BKSW = self.reader.entries(memory_BKM)
            h_BNW = read_chunks(self.decoder, self.placing, self.form, x_BCTW, entry_BKSW, K, residuals)
        else:
            entry_BkSW = self.reader.entries(memory_BKM[:, max(0, K - C + 1 - w) :])
            h_BNW = read_windows(self.decoder, self.placing, self.form, x_BCTW, entry_BkSW, K, w)
        logits_BNV = self.head(h_BNW)
        if self.reader.told_logp:
            logp_BCT = logp_of(logits_BNV, ids_BCT.flatten(1)).unflatten(1, (C, T))
            queries = replace(queries, logp=recent_tokens(logp_BCT, self.reader.recent).flatten(1, 2))

        if asked_BN is not None:
            queries = replace(queries, asked=F.pad(asked_BN, (0, C * T - asked_BN.shape[1])))
        mixed = self.reader.mix(logits_BNV, h_BNW, kept, queries)
        teach = mixed.lesson

        def lesson(labels_BN: Tensor) -> Tensor:
            assert teach is not None
            whole_BN = F.pad(labels_BN, (0, C * T - labels_BN.shape[1]), value=IGNORED)
            return teach(whole_BN)[:, : labels_BN.shape[1]]

        return Predicted(mixed.logits, memory_BKM, None if teach is None else lesson, mixed.opened, mixed.shares)

    def decoding(self, prompt: Prompt) -> Decoding:
        """What is kept of `prompt` while it is continued: memories, and the chunk that is written."""
        return MemoryDecoding(self, self.placing, prompt)

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text of so many tokens, after so many memories: layers x 2 x width x (S (K + N/T) + T).

        Of a reader with a window w, S w at most; what it keeps beside its entries is added for each memory.
        """
        one_11M = next(self.parameters()).new_zeros(1, 1, self.memory_dim)
        with torch.inference_mode():
            beside = sum(t.nbytes for t in self.reader.keep(one_11M)) if self.reader.reads else 0
        known, window = memories + tokens // self.chunk_tokens, self.reader.window
        read = known if window is None else min(window, known)
        entries = cache_entries(self.reader.vectors, self.chunk_tokens, 0, read)
        return entries * self.decoder.entry_bytes + known * beside

    def memories_before(self, chunk: np.ndarray) -> np.ndarray:
        """As of `Generative`: one for every earlier chunk."""
        return chunk if self.reader.reads else super().memories_before(chunk)

    @property
    def recall(self):  # noqa: D102  as of `TextMemory`
        return self.reader.recall if self.reader.config.recalls else None

    @property
    def recalling(self):  # noqa: D102  as of `TextMemory`
        return self.reader.recalling

    @property
    def reads_given_memories(self) -> bool:
        """Whether it reads any."""
        return self.reader.reads

    @property
    def files_memories(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether its reader does."""
        return self.reader.files

    @property
    def reads_earlier(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether it reads any."""
        return self.reader.reads

    @property
    def reader_name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The kind of its reader."""
        return self.reader.config.kind


class MemoryModel(ReadsMemories, shape=MemoryShape):
    """Parallel encoder-decoder over chunks (paper, Memory model)."""

    def build(self, shape: MemoryShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        T, M, V, decoder = shape.chunk_tokens, shape.memory_dim, vocab_size, shape.decoder
        self.embed = token_embedding(V, decoder.width)
        self.reader = build_reader(shape.reader, Sizes(T, M, decoder.width, decoder.layers, self.embed))
        self.encoder = ChunkEncoder(shape.encoder, V) if self.reader.reads else None
        if self.encoder is not None and self.reader.recalling is not None:
            self.reader.recalling.checked_by(self.encoder)
        window = self.reader.window
        self.placing = Placing(T, self.reader.vectors, shape.positions, shape.chunks if window is None else window)
        self.make_inputs(decoder.width)
        self.decoder = build_stack(decoder, self.placing.length)
        self.head = nn.Linear(decoder.width, V, bias=False)

    def most_tokens(self, memories: int = 0) -> int | None:
        """As of `Generative`: fixed positions end somewhere."""
        if self.placing.scheme != "fixed" or self.reader.window is not None:
            return None
        return max(0, self.placing.most + 1 - memories) * self.chunk_tokens
