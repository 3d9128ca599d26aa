"""What presses of kvpress keep of a text that is read once, and what a model says after such a cache.

A press drops pairs of keys and values after a layer, whose output it does not change: so one reading serves all, each
press keeping its pairs as its own hook would (`check` compares them with it). Adaptive presses drop other pairs in each
head; kvpress masks these, and so does `logits`. Suffixes as in kvpress_far.py, which asks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Told = dict[str, tuple[Tensor, int]]  # by press: logits [Q, V] of an answer, bytes kept


@dataclass(frozen=True)
class Held:
    """A cache, compressed or not."""

    pairs: list[tuple[Tensor, Tensor]]  # keys and values of each layer
    masked: list[Any]  # of each layer (text, head, place) of the pairs that an adaptive press drops, or None
    place: int  # of the next token in the text

    @property
    def nbytes(self) -> int:
        """Of what is kept."""
        dropped = sum(len(masked[0]) for masked in self.masked if masked is not None)
        one = 2 * self.pairs[0][0].element_size() * self.pairs[0][0].shape[-1]
        return sum(keys.nbytes + values.nbytes for keys, values in self.pairs) - dropped * one


def presses(kept: int, tokens: int) -> dict[str, Any]:
    """Presses that keep so many of a head's pairs for so many tokens, with kvpress's own settings."""
    import kvpress

    ratio = 1 - (kept + 0.5) / tokens  # it rounds down what is kept
    return {
        "StreamingLLM": kvpress.StreamingLLMPress(ratio),
        "Knorm": kvpress.KnormPress(ratio),
        "SnapKV": kvpress.SnapKVPress(ratio),
        "ExpectedAttention": kvpress.ExpectedAttentionPress(ratio),
        # epsilon as in kvpress's own evaluation
        "AdaKV(ExpectedAttention)": kvpress.AdaKVPress(kvpress.ExpectedAttentionPress(ratio, epsilon=1e-2)),
    }


def presses_seen(kept: int, tokens: int, question: int) -> dict[str, Any]:
    """The same for a text that ends with a question of so many tokens."""
    import kvpress

    ratio = 1 - (kept + 0.5) / tokens
    whole, window = kvpress.SnapKVPress(ratio), kvpress.SnapKVPress(ratio, window_size=question)
    return {"SnapKV": whole, "SnapKV(window: the question)": window}


@contextmanager
def looking(model: Any, see: Callable[..., None]) -> Iterator[None]:
    """Call see(module, hidden states, keys, values, kwargs) after each layer's attention."""

    def hook(module: Any, _: Any, kwargs: dict, __: Any) -> None:
        layer = kwargs["past_key_values"].layers[module.layer_idx]
        see(module, kwargs["hidden_states"], layer.keys, layer.values, kwargs)

    hooks = []
    for layer in model.model.layers:
        layer.self_attn.rotary_emb = model.model.rotary_emb  # where presses look for it
        hooks.append(layer.self_attn.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def cache_of(pairs: list[tuple[Tensor, Tensor]]) -> Any:
    """A cache that begins with copies of pairs."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for number, (keys, values) in enumerate(pairs):
        cache.update(keys, values, number)
    return cache


def mask(model: Any, masked: list[Any] | None) -> None:
    """Tell each layer which pairs its heads drop, as kvpress's attention knows it."""
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.masked_key_indices = masked and masked[number]


def states(model: Any, ids: list[int], place: int, cache: Any) -> Tensor:
    """Hidden states [N, W] of tokens that begin at a place."""
    at_1N = torch.arange(place, place + len(ids))[None]
    return model.model(input_ids=torch.tensor([ids]), position_ids=at_1N, past_key_values=cache).last_hidden_state[0]


def logits(model: Any, held: Held, ids: list[int], last: int) -> Tensor:
    """Logits [last, V] after the last of tokens that stand after what is held."""
    mask(model, held.masked)
    try:
        h_NW = states(model, ids, held.place, cache_of(held.pairs))
    except ValueError:  # kvpress found no key that hides what is masked from all of them; it does from one
        cache = cache_of(held.pairs)
        h_NW = torch.cat([states(model, [token], held.place + i, cache) for i, token in enumerate(ids)])
    mask(model, None)
    return model.lm_head(h_NW[-last:])


def read(model: Any, ids: list[int], wanted: dict[Any, Any]) -> tuple[dict[Any, Held], list[Tensor]]:
    """Read a text once: what presses keep, by name, all of it by None; and what enters each layer's attention."""
    found: dict[Any, Any] = {name: ([], []) for name in (None, *wanted)}
    hidden = []

    def see(module: Any, hidden_1NW: Tensor, keys: Tensor, values: Tensor, kwargs: dict) -> None:
        hidden.append(hidden_1NW)
        for name, (pairs, masked) in found.items():
            module.masked_key_indices, kept = None, (keys, values)
            if name is not None:
                kept = wanted[name].compress(module, hidden_1NW, keys, values, None, kwargs)
            pairs.append(kept)
            masked.append(module.masked_key_indices)
        module.masked_key_indices = None

    for press in wanted.values():
        press.post_init_from_model(model)
    with looking(model, see):
        states(model, ids, 0, cache_of([]))
    return {name: Held(*of, len(ids)) for name, of in found.items()}, hidden


def zipped(model: Any, ids: list[int], full: Held, kept: dict[str, int]) -> dict[Any, Held]:
    """What KVzip keeps: by the inside of kvpress 0.5.5 it reads a text again from its cache, once for all budgets."""
    import kvpress

    found: dict[Any, Held] = {}

    class Zip(kvpress.KVzipPress):
        def compress_post(self, model: Any) -> None:
            for budget, pairs in kept.items():
                self.compression_ratio = 1 - pairs / len(ids)
                super().compress_post(model)
                masked = [layer.self_attn.masked_key_indices for layer in model.model.layers]
                found["KVzip", budget] = Held(full.pairs, masked, full.place)
            mask(model, None)

    press = Zip(0.5)
    with press(model):
        press._context_ids, press._cache = torch.tensor([ids]), cache_of(full.pairs)
    return found


def unseen(model: Any, name: str, held: Held, question: list[int], answer: list[int]) -> Told:
    """A question read after a text's cache, and its answer."""
    return {name: (logits(model, held, question + answer[:-1], len(answer)), held.nbytes)}


def seen(
    model: Any, full: Held, hidden: list[Tensor], kept: int, make: Any, question: list[int], answer: list[int]
) -> Told:
    """A text, as it was read, compressed together with a question, and the answer after that.

    As many pairs are kept as the others have once they have read the question.
    """
    place = full.place + len(question)
    wanted = make(kept + len(question), place, len(question))
    found: dict[str, Any] = {name: [] for name in wanted}

    def see(module: Any, hidden_1nW: Tensor, keys: Tensor, values: Tensor, kwargs: dict) -> None:
        hidden_1NW = torch.cat([hidden[module.layer_idx], hidden_1nW], 1)
        turned = {**kwargs, "position_embeddings": model.model.rotary_emb(hidden_1NW, torch.arange(place)[None])}
        for name, pairs in found.items():
            pairs.append(wanted[name].compress(module, hidden_1NW, keys, values, None, turned))

    with looking(model, see):
        first_1V = model.lm_head(states(model, question, full.place, cache_of(full.pairs))[-1:])
    told = {}
    for name, pairs in found.items():
        held = Held(pairs, [None] * len(pairs), place)
        told[name] = torch.cat([first_1V, logits(model, held, answer[:-1], len(answer) - 1)]), held.nbytes
    return told


def check(model: Any, ids: list[int], make: Any) -> float:
    """How far caches made by one reading are, at most, from those of the presses' own hooks."""
    wanted, apart = make(len(ids) // 4, len(ids)), 0.0
    together, _ = read(model, ids, wanted)
    for name, press in wanted.items():
        alone, held = cache_of([]), together[name]
        with press(model):
            model.model(input_ids=torch.tensor([ids]), past_key_values=alone)
        for layer, own, pairs, masked in zip(model.model.layers, alone.layers, held.pairs, held.masked, strict=True):
            theirs = (own.keys, own.values, *((layer.self_attn.masked_key_indices or ()) if masked else ()))
            for a, b in zip(theirs, (*pairs, *(masked or ())), strict=True):
                apart = max(apart, (a - b).abs().max().item())
        mask(model, None)
    return apart
