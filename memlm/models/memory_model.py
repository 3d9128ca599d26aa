"""The memory model: chunks become memories side by side, and a decoder reads memories in the place of tokens.

What is unusual:
- one encoder call and one decoder call for all chunks, whatever their number (memory/placing.py);
- every token is predicted, the first of each chunk too: a chunk begins with a start slot, and what stands at place n
  is the prediction of token n;
- a chunk's tokens see memories of earlier chunks and their own chunk's past, nothing else;
- the baselines without memory and with all tokens are this model with another reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.decoding.cached import Cached, Prompt, cache_entries
from memlm.decoding.chunks import MemoryDecoding, SelectDecoding
from memlm.decoding.flat import FullDecoding
from memlm.decoding.generate import Generative
from memlm.errors import UsageError
from memlm.huggingface import ModelOutput, register
from memlm.memory.encoder import ChunkEncoder, NoEncoder
from memlm.models.model import ShapeConfig
from memlm.models.shapes import MemoryShape
from memlm.nn.loss import token_loss
from memlm.nn.stack import Beside, build_stack
from memlm.nn.vocabulary import PAD, token_embedding
from memlm.readers.placing import Placing, folded, packed
from memlm.readers.reader import READERS, Select, Soft
from memlm.readers.select import Where

Form = Literal["packed", "folded"]


class MemoryModelConfig(ShapeConfig[MemoryShape]):
    """The Hugging Face config of a `MemoryModel`."""

    model_type = "memlm-memory"
    shape_class = MemoryShape


@dataclass
class MemoryOutput(ModelOutput):
    """What a forward pass gives: `loss` (nats), `logits` [B, N, V], and `memories` [B, C - 1, M] that were read."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    memories: Tensor | None = None


class MemoryModel(Generative):
    """Parallel encoder-decoder over chunks (paper, Memory model)."""

    config_class = MemoryModelConfig

    def __init__(self, config: MemoryModelConfig):
        super().__init__(config)
        shape = cast(MemoryShape, config.read_shape())
        self.chunk_tokens, self.memory_dim, self.reader_kind = shape.chunk_tokens, shape.memory_dim, shape.reader
        width = shape.decoder.width
        self.embed = token_embedding(config.vocab_size, width)
        self.reader = READERS[shape.reader](shape, self.embed)
        self.encoder = ChunkEncoder(shape.encoder, config.vocab_size) if self.reader.reads else NoEncoder(shape.encoder)
        self.placing = Placing(shape.chunk_tokens, self.reader.vectors, shape.positions, shape.chunks)
        self.start = token_embedding(2, width)  # before a chunk's first token: text goes on, or a copy is wanted
        self.place = token_embedding(shape.chunk_tokens, width)
        self.decoder = build_stack(shape.decoder, self.placing.length)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        # Memories that are no entries leave nothing to pack: chunks alone are shorter sequences.
        self.form: Form = "folded" if isinstance(self.reader, Select) else "packed"
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        marks: Tensor | None = None,
        weights: Tensor | None = None,
        memories: Tensor | None = None,
        own_memories: Tensor | None = None,
        read: bool = True,
        own: Tensor | None = None,
    ) -> MemoryOutput:
        """Predict every token from memories of earlier chunks and from the earlier tokens of its own chunk.

        Args:
            input_ids: token ids [B, N], any N, padded at the end with id 0.
            labels: the token ids to score [B, N], -100 where nothing is scored; unshifted.
            marks: bool [B, C], chunks that shall copy from memory; none by default.
            weights: what a label counts [B, N]; the mean over the scored ones by default.
            memories: of what comes before the text [B, K, M].
            own_memories: of the text's own chunks but the last [B, C - 1, M], where they are known already.
            read: False leaves all memories unread: what the model does without them.
            own: bool [B], rows whose every chunk is told from its own memory instead, as an autoencoder does it.
        """
        if own is None:
            logits_BNV, memory_BKM = self._predict(input_ids, marks, memories, own_memories, read)
        else:
            marks, memories, own_memories = (x if x is None else x[~own] for x in (marks, memories, own_memories))
            told_bNV, memory_BKM = self._predict(input_ids[~own], marks, memories, own_memories, read)
            logits_BNV = told_bNV.new_empty(*input_ids.shape, told_bNV.shape[-1])
            logits_BNV[~own], logits_BNV[own] = told_bNV, self._recall(input_ids[own]).to(told_bNV)
        loss = None if labels is None else token_loss(logits_BNV, labels, weights)
        return MemoryOutput(loss=loss, logits=logits_BNV, memories=memory_BKM)

    def _predict(
        self, ids_BN: Tensor, marks: Tensor | None, memories: Tensor | None, own_memories: Tensor | None, read: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Logits [B, N, V], and the memories that were read."""
        ids_BCT = chunked(ids_BN, self.chunk_tokens)
        memory_BKM = None
        if read and self.reader.reads:
            own_BCM = self.encode_chunks(ids_BCT[:, :-1]) if own_memories is None else own_memories
            memory_BKM = own_BCM if memories is None else torch.cat([memories, own_BCM], 1)
        x_BCTW = self.embed_chunks(ids_BCT, marks)
        if self.reader_kind == "full":
            h_BNW = self.decoder(self.embed_all(x_BCTW, ids_BCT))
        else:
            h_BNW = self.decode(x_BCTW, memory_BKM)
        return self.head(h_BNW[:, : ids_BN.shape[1]]), memory_BKM

    def _recall(self, ids_BN: Tensor) -> Tensor:
        """Logits [B, N, V] of every chunk from its own memory alone.

        Raises:
            UsageError: the reader does not tell what tokens a memory holds.
        """
        if not isinstance(self.reader, Soft):
            raise UsageError("only a reader of soft tokens tells a chunk from its memory: set --model.reader soft.")
        memory_BCM = self.encode_chunks(chunked(ids_BN, self.chunk_tokens))
        logits_XTV = self.reader.text(memory_BCM.flatten(0, 1))
        return logits_XTV.unflatten(0, memory_BCM.shape[:2]).flatten(1, 2)[:, : ids_BN.shape[1]]

    def encode_chunks(self, ids_BCT: Tensor) -> Tensor:
        """Chunks of token ids [B, C, T] -> memories [B, C, M], all at once."""
        return self.encoder(ids_BCT.flatten(0, 1)).unflatten(0, ids_BCT.shape[:2])

    def embed_chunks(self, ids_BCT: Tensor, marks_BC: Tensor | None = None) -> Tensor:
        """What the decoder reads of each chunk: its start slot, then its tokens but the last. [B, C, T, W]."""
        start_BC = ids_BCT.new_zeros(ids_BCT.shape[:2]) if marks_BC is None else marks_BC.long()
        x_BCTW = torch.cat([self.start(start_BC)[:, :, None], self.embed(ids_BCT[..., :-1])], 2)
        return x_BCTW + self.place.weight

    def decode(self, x_BCTW: Tensor, memory_BKM: Tensor | None) -> Tensor:
        """Embedded chunks and memories -> hidden states [B, N, W]; K >= C - 1 memories, the last C - 1 the chunks' own.

        Raises:
            UsageError: more memories than fixed positions have room for.
        """
        B, C = x_BCTW.shape[:2]
        K = C - 1 if memory_BKM is None else memory_BKM.shape[1]
        if self.placing.scheme == "fixed" and self.placing.most < K:
            raise UsageError(
                f"the model has room for {self.placing.most} memories, not {K}: give it less text at once."
            )
        prefix_BKSW = x_BCTW[:, :0] if memory_BKM is None else self.reader(memory_BKM)
        x_BNW, prefix_BmW = x_BCTW.flatten(1, 2), prefix_BKSW.flatten(1, 2)
        m, read = prefix_BmW.shape[1], memory_BKM is not None
        beside = self._beside(memory_BKM, C)
        if self.form == "packed":
            layout = packed(self.placing, K, C, x_BNW.device, read=read)
            return self.decoder(torch.cat([prefix_BmW, x_BNW], 1), layout, beside=beside)[:, m:]
        layout = folded(self.placing, K, C, B, x_BNW.device, read=read)
        entries_BCPW = torch.cat([prefix_BmW[:, None].expand(-1, C, -1, -1), x_BCTW], 2)
        # What is beside is of the tokens of all chunks, in one sequence.
        beside = [
            lambda h_ETW, give=give: give(h_ETW.reshape(B, -1, h_ETW.shape[2])).reshape(h_ETW.shape) for give in beside
        ]
        h_EPW = self.decoder(entries_BCPW.flatten(0, 1), layout, beside=beside)
        return h_EPW[:, m:].unflatten(0, (B, C)).flatten(1, 2)

    def _beside(self, memory_BKM: Tensor | None, chunks: int) -> Sequence[Beside]:
        """What tokens of the last chunks [B, N, W] are given of memories that are no entries."""
        if memory_BKM is None or not isinstance(self.reader, Select):
            return ()
        T, K, device = self.chunk_tokens, memory_BKM.shape[1], memory_BKM.device
        number_1K = torch.arange(K, device=device)[None]
        before_1N = torch.arange(K - chunks + 1, K + 1, device=device).repeat_interleave(T)[None]
        place_1N = torch.arange(T, device=device).repeat(chunks)[None]
        where = Where(before_1N, place_1N, self.placing.hidden)
        return self.reader.beside(self.reader.hold(memory_BKM, number_1K), where)

    def embed_all(self, x_BCTW: Tensor, ids_BCT: Tensor) -> Tensor:
        """What the reader `full` reads of embedded chunks [B, N, W]: a start slot also holds the token before it."""
        before_BC = ids_BCT[:, :-1, -1]
        start_BCW = x_BCTW[:, :, 0] + F.pad(self.embed(before_BC), (0, 0, 1, 0))
        return torch.cat([start_BCW[:, :, None], x_BCTW[:, :, 1:]], 2).flatten(1, 2)

    def decoding(self, prompt: Prompt) -> Cached:
        """What is kept of `prompt` while it is continued."""
        if self.reader_kind == "full":
            return FullDecoding(self, prompt)
        if isinstance(self.reader, Select):
            return SelectDecoding(self, self.placing, prompt)
        return MemoryDecoding(self, self.placing, prompt)

    @property
    def reads_given_memories(self) -> bool:
        """Whether it can be given memories of what comes before the text."""
        return self.reader.reads

    def most_tokens(self, memories: int = 0) -> int | None:
        """How many tokens there is room for after so many memories; None: no end."""
        if self.placing.scheme != "fixed" or self.reader_kind == "full":
            return None
        return max(0, self.placing.most + 1 - memories) * self.chunk_tokens

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text of so many tokens, after so many memories: layers x 2 x width x (S (K + N/T) + T).

        The reader `select` has S = 0, and keeps of each memory its M numbers and layers keys of D + T x d.
        """
        kept = self.chunk_tokens if self.reader_kind == "full" else self.reader.vectors
        entries = cache_entries(kept, self.chunk_tokens, tokens, memories)
        return entries * self.decoder.entry_bytes + (memories + tokens // self.chunk_tokens) * self.reader.held_bytes


def chunked(ids_BN: Tensor, tokens: int) -> Tensor:
    """Token ids [B, N] -> chunks of `tokens` [B, C, T], the last one padded."""
    return F.pad(ids_BN, (0, -ids_BN.shape[1] % tokens), value=PAD).unflatten(1, (-1, tokens))


register(MemoryModelConfig, MemoryModel)
