"""A memory model whose decoder is a causal language model of others (paper, Published numbers: Llama as decoder).

What is unusual beside `MemoryModel`, all of whose ways of training, measuring and generating it has:
- the decoder's weights are frozen but for LoRA, or all trained, and are never saved here if they are frozen;
- memories enter as soft tokens of the decoder's width, at positions before the text's own, under the same masks;
- LoRA works only where memories are read: without any, the base model's outputs are unchanged to the bit.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from memlm.decoding.cached import Cached, Prompt
from memlm.decoding.chunks import MemoryDecoding
from memlm.errors import UsageError
from memlm.huggingface import register
from memlm.models.memory_model import MemoryModel, MemoryOutput
from memlm.nn.loss import token_loss
from memlm.pretrained.adapter import Adapter
from memlm.pretrained.base import Base, Head, Nowhere, Starts, Tokens
from memlm.pretrained.over import OverBase, OverConfig
from memlm.pretrained.shapes import BaseEncoderShape, PretrainedShape
from memlm.pretrained.soft import BaseEncoder, EmbeddingEncoder, SoftSlots, SoftVector
from memlm.pretrained.stack import PretrainedStack
from memlm.readers.placing import Placing, folded, packed
from memlm.readers.reader import Reader

READERS: dict[str, Callable[[PretrainedShape, Base], Reader]] = {
    "vector": lambda shape, base: SoftVector(shape.vectors, shape.memory_dim, base),
    "slots": lambda shape, base: SoftSlots(shape.chunk_tokens, shape.memory_dim, shape.soft, base),
}


class PretrainedMemoryConfig(OverConfig[PretrainedShape]):
    """The Hugging Face config of a `PretrainedMemory`."""

    model_type = "memlm-pretrained"
    shape_class = PretrainedShape


class PretrainedMemory(OverBase, MemoryModel):  # pyright: ignore[reportIncompatibleMethodOverride]
    """chunks -> memories -> soft tokens before a chunk -> the language model -> logits over our ids."""

    config_class = PretrainedMemoryConfig
    base_part = "decoder"

    def __init__(self, config: PretrainedMemoryConfig):
        super(MemoryModel, self).__init__(config)  # none of its parts is made: all have others in their places
        shape = cast(PretrainedShape, config.read_shape())
        self.chunk_tokens, self.memory_dim, self.reader_kind = shape.chunk_tokens, shape.memory_dim, shape.reader
        self.base, self.base_trained = self.open(config, shape.base), shape.decoder.trained
        lm = self.base.lm.requires_grad_(shape.decoder.trained)
        self.embed = Tokens(self.base)
        self.start = Starts(self.base)
        self.go_on = nn.Parameter(torch.zeros(self.base.width))  # added to the start of a chunk that reads memories
        self.place = Nowhere(shape.chunk_tokens)
        self.head = Head(self.base)
        rank, targets = shape.decoder.lora_rank, shape.decoder.lora_targets
        self.adapter = Adapter(lm, rank, targets) if rank else None
        self.decoder = PretrainedStack(lm, shape.chunk_tokens, self.adapter, shape.decoder.trained)
        self.reader = READERS[shape.reader](shape, self.base)
        self.encoder = (
            BaseEncoder(shape.encoder, self.base, self.embed, self.decoder)
            if isinstance(shape.encoder, BaseEncoderShape)
            else EmbeddingEncoder(shape.encoder, self.base, self.embed)
        )
        self.placing = Placing(shape.chunk_tokens, self.reader.vectors, shape.positions, shape.chunks)
        self.form = "packed"
        # Learned positions end somewhere; rotary ones only become strange there, but are not asked to either.
        self.positions = getattr(lm.config.get_text_config(), "max_position_embeddings", None)

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
        """As of `MemoryModel.forward`; a text of one chunk that reads nothing is not even padded: sizes decide bits."""
        given = memories is not None and memories.shape[1] > 0 and read
        if given or own is not None or not 0 < input_ids.shape[1] <= self.chunk_tokens:
            return super().forward(input_ids, labels, marks, weights, memories, own_memories, read, own)
        start_B1 = torch.zeros_like(input_ids[:, :1]) if marks is None else marks[:, :1].long()
        logits_BNV = self._alone(input_ids, start_B1)
        loss = None if labels is None else token_loss(logits_BNV, labels, weights)
        none_B0M = logits_BNV.new_zeros(len(input_ids), 0, self.memory_dim)
        return MemoryOutput(loss=loss, logits=logits_BNV, memories=none_B0M)

    def base_logits(self, ids_BN: Tensor) -> Tensor:
        """Logits [B, N, V] of the base by itself, each at the place of the token it predicts: as a text is read that
        has no chunks, all of its tokens as context, without memories or adapter. Padding may stand at the right.

        Raises:
            UsageError: the base has no positions for so many tokens.
        """
        if self.positions is not None and ids_BN.shape[1] > self.positions:
            raise UsageError(f"the base model has {self.positions} positions, too few for {ids_BN.shape[1]} tokens.")
        return self._alone(ids_BN, torch.zeros_like(ids_BN[:, :1]))

    def _alone(self, ids_BN: Tensor, start_B1: Tensor) -> Tensor:
        """What the decoder makes of tokens with nothing before them but their start."""
        return self.head(self.decoder(torch.cat([self.start(start_B1), self.embed(ids_BN[:, :-1])], 1)))

    def decode(self, x_BCTW: Tensor, memory_BKM: Tensor | None) -> Tensor:
        """As of `MemoryModel.decode`. A chunk that nothing stands before is read exactly as the base reads a text.

        Raises:
            UsageError: the base has no positions for so many chunks.
        """
        B, C = x_BCTW.shape[:2]
        K = C - 1 if memory_BKM is None else memory_BKM.shape[1]
        most = self.most_tokens(K - C + 1)
        if most is not None and most < C * self.chunk_tokens:
            raise UsageError(
                f"the base model has {self.positions} positions, too few for {K + 1} chunks: give it less."
            )
        if K == 0:
            return self.decoder(x_BCTW[:, 0])
        read = memory_BKM is not None
        prefix_BmW = self.reader(memory_BKM).flatten(1, 2) if read else x_BCTW[:, 0, :0]
        m = prefix_BmW.shape[1]
        if read:
            count_C, hidden = torch.arange(K - C + 1, K + 1, device=x_BCTW.device), self.placing.hidden
            if hidden is not None:  # a chunk whose only memory is hidden reads none
                count_C = count_C - (count_C > hidden).long()
            go_on_CW = (count_C > 0)[:, None] * self.go_on
            x_BCTW = torch.cat([x_BCTW[:, :, :1] + go_on_CW[:, None], x_BCTW[:, :, 1:]], 2)
        if self.form == "packed":
            layout = packed(self.placing, K, C, x_BCTW.device, read=read)
            x_BPW = torch.cat([prefix_BmW, x_BCTW.flatten(1, 2)], 1)
            return self.decoder(x_BPW, layout, reads=layout.whole_mask[:, :m].any(-1))[:, m:]
        layout = folded(self.placing, K, C, B, x_BCTW.device, read=read)
        x_EPW = torch.cat([prefix_BmW[:, None].expand(-1, C, -1, -1), x_BCTW], 2).flatten(0, 1)
        h_EPW = self.decoder(x_EPW, layout, reads=layout.whole_mask[..., :m].any(-1))
        return h_EPW[:, m:].unflatten(0, (B, C)).flatten(1, 2)

    def decoding(self, prompt: Prompt) -> Cached:
        """What is kept of `prompt` while it is continued."""
        return PretrainedDecoding(self, self.placing, prompt)

    def most_tokens(self, memories: int = 0) -> int | None:
        """As of `Generative`: as many as the base has positions for."""
        if self.positions is None:
            return None
        T = self.chunk_tokens
        step = T if self.placing.scheme == "original" else self.reader.vectors
        return max(0, (self.positions - T) // step + 1 - memories) * T


class PretrainedDecoding(MemoryDecoding):
    """The cache of a memory model; a chunk that reads memories starts a little differently."""

    model: PretrainedMemory

    def start(self, vectors: nn.Embedding, rows_r: Tensor | None = None) -> Tensor:
        """As of `Cached`."""
        start_b1W = super().start(vectors, rows_r)
        count_r1 = self.count(self.chunk_R1 if rows_r is None else self.chunk_R1[rows_r])
        return start_b1W + (count_r1 > 0)[..., None] * self.model.go_on


register(PretrainedMemoryConfig, PretrainedMemory)
