"""The body of a language model of others behind our face of a stack: entries, a layout and a cache of ours.

Masks of a layout go in as they are, four-dimensional; its positions as position ids; and the model keeps its keys and
values in the places of our cache, whose owner can give them up and write them again (decoding/chunks.py).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from memlm.errors import UsageError
from memlm.huggingface import Cache as TheirCache
from memlm.huggingface import CacheLayerMixin
from memlm.nn.cache import Cache, LayerCache
from memlm.nn.chunks import Chunks
from memlm.nn.layout import Layout
from memlm.nn.stack import Residual
from memlm.pretrained.adapter import Adapter


class PretrainedStack(nn.Module):
    """[B, P, W] -> hidden states [B, P, W], after the last norm of a causal language model of transformers.

    The first T places of a cache are a chunk's tokens, all others are memories. The adapter serves entries that read
    memories. A model that is not `trained` itself stays in evaluation mode, without dropout.
    """

    def __init__(self, lm: Any, chunk_tokens: int, adapter: Adapter | None = None, trained: bool = False):
        super().__init__()
        self.lm, self.T, self.adapter, self.trained = lm, chunk_tokens, adapter, trained

    def forward(
        self,
        x_BPW: Tensor,
        layout: Layout | None = None,
        cache: Cache | None = None,
        residuals: Sequence[Residual] = (),
    ) -> Tensor:
        """As of `Stack`; without a layout at 0..P-1, causal, and exactly as the model would do it. No residuals."""
        if residuals:
            raise UsageError(
                "a language model of others takes no residuals: choose a reader whose memories are entries."
            )
        given: dict[str, Any] = {"use_cache": False}
        reads = None
        if layout is not None:
            mask_QP, reads = self._looking_back(layout, cache)
            bias_QP = torch.zeros(mask_QP.shape, dtype=x_BPW.dtype, device=x_BPW.device)
            bias_QP = bias_QP.masked_fill(~mask_QP, torch.finfo(x_BPW.dtype).min)
            given["attention_mask"] = bias_QP[:, None] if bias_QP.ndim == 3 else bias_QP[None, None]
            given["position_ids"] = layout.positions.expand(len(x_BPW), -1)
            if cache is not None and layout.slots is not None:
                layers: list[Any] = [_Layer(layer, layout.slots) for layer in cache.layers]
                given |= {"past_key_values": TheirCache(layers=layers), "use_cache": True}
        with self._gated(self.adapter.gate(reads) if self.adapter else 0.0):
            return self.lm.base_model(inputs_embeds=x_BPW, **given).last_hidden_state

    def _gated(self, gate: Tensor | float) -> AbstractContextManager[None]:
        return self.adapter.gated(gate) if self.adapter else nullcontext()

    def _looking_back(self, layout: Layout, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """The layout's mask [Q, P] or [B, Q, P] over all places of the cache, and which entries read memories.

        Soft tokens of one memory see no later ones of it. Ours may; a language model has only ever looked back.
        """
        mask_QP, slot_Q = layout.whole_mask, layout.slots
        if cache is not None and slot_Q is not None and isinstance(layout.mask, Chunks):  # a rule of new entries alone
            mask_QP = mask_QP.new_zeros(len(mask_QP), cache.places)
            mask_QP[:, slot_Q] = layout.whole_mask
        reads = mask_QP[..., layout.prefix].any(-1)
        if slot_Q is None:
            return mask_QP.tril(), reads
        place_P = torch.arange(mask_QP.shape[-1], device=slot_Q.device)
        return mask_QP & ((slot_Q[..., None] < self.T) | (place_P <= slot_Q[..., None])), reads

    def states(self, x_BPW: Tensor) -> tuple[Tensor, ...]:
        """The hidden states [B, P, W] of all layers, the embeddings first, of the model without its adapter."""
        with self._gated(0.0):
            return self.lm.base_model(inputs_embeds=x_BPW, use_cache=False, output_hidden_states=True).hidden_states

    def train(self, mode: bool = True) -> "PretrainedStack":
        """As of `nn.Module`; a model that is not trained makes no difference."""
        super().train(mode)
        self.lm.train(mode and self.trained)
        return self

    @property
    def layers(self) -> int:
        """How many blocks it has."""
        return self.lm.config.get_text_config().num_hidden_layers

    def new_cache(self, places: int) -> Cache:
        """An empty cache for this stack."""
        return Cache(self.layers, places)

    @cached_property
    def entry_bytes(self) -> int:
        """Bytes that one place of a cache takes for one sequence: looked at, since models differ in what they keep."""
        cache, weight = self.new_cache(1), self.lm.get_input_embeddings().weight
        one = torch.ones(1, 1, dtype=torch.bool, device=weight.device)
        zero = torch.zeros(1, dtype=torch.long, device=weight.device)
        with torch.inference_mode():
            self(weight[None, :1], Layout(zero, one, slots=zero), cache)
        return cache.nbytes


class _Layer(CacheLayerMixin):
    """A layer of our cache as a model of transformers calls it; where new entries are kept was said before."""

    def __init__(self, kept: LayerCache, slots: Tensor):
        super().__init__()
        self.kept, self.slots = kept, slots
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """There is nothing to prepare."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep what is new; returns all that is kept."""
        keys, values = self.kept.update(self.slots, key_states, value_states)
        return keys, values

    def get_seq_length(self) -> int:
        """Nothing is counted: positions are always given."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """All places, from the first on."""
        return self.kept.places, 0

    def get_max_length(self) -> int:
        """How many places there are by now."""
        return self.kept.places
