"""The body of a language model of others behind our face of a stack: entries, a layout and a cache of ours.

Masks of a layout go in as they are, four-dimensional; its positions as position ids; and the model keeps its keys and
values in the places of our cache, whose owner can give them up and write them again (decoding/chunks.py).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
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
    """[B, P, W] -> hidden states [B, P, W], after the model's last norm.

    Args:
        lm: a causal language model of transformers.
        chunk_tokens: T: the first places of a cache are a chunk's tokens, all others are memories.
        adapter: of the model, that serves entries which read memories.
        trained: whether the model itself is; if not it stays in evaluation mode, without dropout.
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
        """As of `Stack`.

        Args:
            x_BPW: the entries.
            layout: where they stand and what they see; None: at 0..P-1, causal, and exactly as the model would do it.
            cache: what they see beside themselves, and where they are kept.
            residuals: none, since its blocks are its own.
        """
        if residuals:
            raise UsageError(
                "a language model of others takes no residuals: choose a reader whose memories are entries."
            )
        given: dict[str, Any] = {}
        reads = None
        if layout is not None:
            layout = _over_places(layout, cache)
            mask = self._looking_back(layout)
            bias = torch.zeros(mask.shape, dtype=x_BPW.dtype, device=x_BPW.device)
            bias = bias.masked_fill(~mask, torch.finfo(x_BPW.dtype).min)
            given["attention_mask"] = bias[:, None] if bias.ndim == 3 else bias[None, None]
            given["position_ids"] = layout.positions.expand(len(x_BPW), -1)
            reads = layout.whole_mask[..., layout.prefix].any(-1)
        if cache is not None and layout is not None and layout.slots is not None:
            given["past_key_values"] = _AsTheirs(cache, layout.slots)
        with self.adapter.gated(self.adapter.gate(reads)) if self.adapter else nullcontext():
            out = self.lm.base_model(inputs_embeds=x_BPW, use_cache="past_key_values" in given, **given)
        return out.last_hidden_state

    def _looking_back(self, layout: Layout) -> Tensor:
        """The layout's mask [Q, P] or [B, Q, P], and that soft tokens of one memory see no later ones of it.

        Ours may; a language model has only ever looked back.
        """
        if layout.slots is None:
            return layout.whole_mask.tril()
        slot_Q1 = layout.slots[..., None]
        place_P = torch.arange(layout.whole_mask.shape[-1], device=slot_Q1.device)
        return layout.whole_mask & ((slot_Q1 < self.T) | (place_P <= slot_Q1))

    def states(self, x_BPW: Tensor) -> tuple[Tensor, ...]:
        """The hidden states [B, P, W] of all layers, the embeddings first, of the model without its adapter."""
        with self.adapter.gated(0.0) if self.adapter else nullcontext():
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


def _over_places(layout: Layout, cache: Cache | None) -> Layout:
    """The layout with a mask over all places of the cache, where it only had a rule for the new entries."""
    if cache is None or layout.slots is None or not isinstance(layout.mask, Chunks):
        return layout
    rule_QQ = layout.whole_mask
    mask_QP = rule_QQ.new_zeros(len(rule_QQ), cache.places)
    mask_QP[:, layout.slots] = rule_QQ
    return replace(layout, mask=mask_QP)


class _AsTheirs(TheirCache):
    """Our cache as a model of transformers calls it; where new entries are kept was said before."""

    def __init__(self, cache: Cache, slots: Tensor):
        super().__init__(layers=[_Layer(layer, slots) for layer in cache.layers])


class _Layer(CacheLayerMixin):
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
