"""A causal language model of others, opened, checked, and spoken to in our ids.

What is refused is refused here, with one sentence: a model that also encodes, one that takes no vectors in the place of
tokens, one that does not do as masks and positions say, another model than the one that was trained with.
"""

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from memlm.errors import UsageError, refusing
from memlm.nn.cache import Cache
from memlm.nn.layout import Layout
from memlm.nn.vocabulary import END, PAD
from memlm.pretrained.examine import UNLIMITED
from memlm.pretrained.opening import open_pretrained
from memlm.pretrained.stack import PretrainedStack
from memlm.pretrained.transplant import SHIFT, tokenizer_of

NEVER = -1e4  # the logit of what is never predicted: finite, so that differences of logits stay numbers


@dataclass(frozen=True)
class Base:
    """An opened language model."""

    name: str  # as it was asked for
    source: str  # where it came from
    lm: Any  # the model of transformers, with its head
    fingerprint: str  # SHA-256 over its weights
    vocab_size: int  # of its tokenizer once transplanted, so in our ids
    begin: int  # its own id that begins a text
    end: int  # its own id that ends one
    most_tokens: int | None  # that it has positions for; None: no end
    tokenizer: Any  # its own, as transformers knows it

    @cached_property
    def embed(self) -> nn.Module:
        """Its own ids -> vectors."""
        return self.lm.get_input_embeddings()

    @property
    def width(self) -> int:
        """W, the numbers of a token's vector."""
        return self.vectors().shape[1]

    def vectors(self) -> Tensor:
        """The vectors of all its tokens [its rows, W], without gradient."""
        return self.embed.weight.detach()  # pyright: ignore[reportCallIssue, reportReturnType]

    def own(self, ids: Tensor) -> Tensor:
        """Our ids as its own; padding becomes its first token, which nothing may see."""
        return torch.where(ids == END, self.end, (ids - SHIFT).clamp(min=0))

    def ours(self, logits_V: Tensor) -> Tensor:
        """Its logits [..., its rows] as ours [..., V]: what ends a text moves to `<|end|>`, padding never comes."""
        out_V = logits_V.new_full((*logits_V.shape[:-1], self.vocab_size), NEVER)
        out_V[..., SHIFT:] = logits_V[..., : self.vocab_size - SHIFT]
        out_V[..., SHIFT + self.end] = NEVER
        out_V[..., END] = logits_V[..., self.end]
        return out_V


def open_base(name: str, vocab_size: int, tokens: int, fingerprint: str | None = None) -> Base:
    """Open and check a language model by a known name, a folder, or a name of the hub.

    UsageError where it cannot serve as a decoder of `tokens` entries, is another one than that of `fingerprint`, or has
    other tokens than the data's `vocab_size`.
    """
    with torch.device("cpu"):  # wherever its memory model is made: a curriculum checks itself without weights
        opened = open_pretrained(name, head=True, device="cpu", precision="fp32")
        lm, found = opened.model, opened.fingerprint()
        if fingerprint not in (None, found):
            raise UsageError(f"{name} is another model than the one that was trained with: put that one in its place.")
        known = tokenizer_of(opened).get_vocab_size()
        if vocab_size != known:
            raise UsageError(
                f"the data have {vocab_size} tokens and {name} has {known}: prepare them with --tokenizer {name}."
            )
        check(lm, name, tokens)
    ids, rows = (lm.config.bos_token_id, lm.config.eos_token_id), opened.embedding.weight.shape[0]
    begin, end = (of[0] if isinstance(of, list) and of else of for of in ids)
    if not isinstance(end, int) or not 0 <= end < rows:
        raise UsageError(f"{name} has no token that ends a text: set eos_token_id in its config.")
    begin = begin if isinstance(begin, int) and 0 <= begin < rows else end
    most = opened.most_tokens if opened.most_tokens < UNLIMITED else None
    lm.requires_grad_(False)
    return Base(name, opened.source, lm.eval(), found, vocab_size, begin, end, most, opened.tokenizer)


@torch.inference_mode()
def check(lm: Any, name: str, tokens: int = 3) -> None:
    """Refuse a model that could not read memories, `tokens` entries in all, with a UsageError that says why."""
    if lm.config.is_encoder_decoder:
        raise UsageError(f"{name} has an encoder of its own: choose a causal language model.")
    if "inputs_embeds" not in inspect.signature(lm.base_model.forward).parameters:
        raise UsageError(f"{name} takes no vectors in the place of tokens (inputs_embeds): choose another model.")
    with refusing(f"{name} cannot be given masks, positions and a cache", ": choose another model"):
        heeds, reaches = _heeds(lm, 3), _heeds(lm, max(3, tokens))
    if not heeds:
        raise UsageError(
            f"{name} does not heed the masks and positions that it is given, so no memory can stand before a text: "
            "choose a model with plain attention, of the Llama, Qwen, GPT-2 or GPT-NeoX families, say."
        )
    if not reaches:
        raise UsageError(
            f"{name} does not look back over all of the {tokens} tokens of memories and text (a sliding window, say): "
            "choose fewer or shorter chunks, or another model."
        )
    with refusing(f"{name} makes no logits of hidden states", ": choose another model"):
        ids_1N = torch.arange(5)[None]
        told_V = lm(input_ids=ids_1N).logits
        head_V = logits(lm, PretrainedStack(lm, 2)(lm.get_input_embeddings()(ids_1N)))
        apart = (told_V - head_V).abs().max()
    if not torch.isfinite(told_V).all():
        raise UsageError(f"{name} gives logits that are no numbers: its weights are damaged.")
    if apart > 1e-3 * told_V.abs().max():
        raise UsageError(f"{name} makes its logits in a way that is not known here: choose another model.")


def _heeds(lm: Any, tokens: int) -> bool:
    """Whether two texts in one sequence under a mask, the first from a cache, are what the second is by itself.

    The second has so many tokens, so that what looks back no further than a window is seen where it matters.
    """
    stack, embed, all_ = PretrainedStack(lm, 2), lm.get_input_embeddings(), tokens + 2
    x_1PW = embed(torch.arange(all_)[None] % embed.weight.shape[0])
    both = torch.block_diag(torch.ones(2, 2).tril(), torch.ones(tokens, tokens).tril()).bool()
    first, then = torch.arange(2), torch.arange(tokens)
    alone_1TW = stack(x_1PW[:, 2:])
    packed_1TW = stack(x_1PW, Layout(torch.cat([first, then]), both))[:, 2:]
    cache: Cache = stack.new_cache(all_)
    stack(x_1PW[:, :2], Layout(first, both[:2], slots=first), cache)
    kept_1TW = stack(x_1PW[:, 2:], Layout(then, both[2:], slots=then + 2), cache)
    apart = max((other - alone_1TW).abs().max() for other in (packed_1TW, kept_1TW))
    return not apart > 1e-3 * alone_1TW.abs().max()  # of what is no number the logits tell


def logits(lm: Any, h_W: Tensor) -> Tensor:
    """Hidden states [..., W] -> logits [..., its rows], as the model's own forward pass makes them."""
    out_V = lm.get_output_embeddings()(h_W)
    if scale := getattr(lm.config, "logit_scale", None):  # Cohere
        out_V = out_V * scale
    if scale := getattr(lm.config, "logits_scaling", None):  # Granite
        out_V = out_V / scale
    if cap := getattr(lm.config, "final_logit_softcapping", None):  # Gemma 2
        out_V = cap * torch.tanh(out_V / cap)
    return out_V


class OfBase(nn.Module):
    """A layer that looks things up in the language model, whose weights it neither holds nor saves twice."""

    def __init__(self, base: Base):
        super().__init__()
        self._base = (base,)  # a tuple hides a module from torch

    @property
    def base(self) -> Base:
        """The language model."""
        return self._base[0]


class Tokens(OfBase):
    """Our token ids -> the language model's vectors. Padding is a blank of its own, which is learnt."""

    def __init__(self, base: Base):
        super().__init__(base)
        self.blank = nn.Parameter(base.vectors().mean(0))

    @property
    def weight(self) -> Tensor:
        """The vectors of its tokens, which tell type and device."""
        return self.base.vectors()

    @property
    def num_embeddings(self) -> int:
        """V, how many tokens there are in our ids."""
        return self.base.vocab_size

    def known(self, ids: Tensor) -> Tensor:
        """Vectors of the tokens alone; at padding there is something that must not be looked at."""
        return self.base.embed(self.base.own(ids))

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [..., W]."""
        return torch.where((ids == PAD)[..., None], self.blank, self.known(ids))


class Starts(OfBase):
    """What stands before a chunk's first token: what begins a text, or the learnt mark of a copy."""

    def __init__(self, base: Base):
        super().__init__(base)
        self.mark = nn.Parameter(base.vectors()[base.begin].clone())

    @property
    def weight(self) -> Tensor:
        """Both of them [2, W]."""
        return torch.stack([self.base.embed(torch.tensor(self.base.begin, device=self.mark.device)), self.mark])

    def forward(self, marked: Tensor) -> Tensor:
        """0 or 1 [...] -> [..., W]."""
        return nn.functional.embedding(marked, self.weight)


class Nowhere(nn.Module):
    """In the place of vectors for a chunk's positions: the language model knows positions by itself."""

    weight: Tensor

    def __init__(self, tokens: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(tokens, 1), persistent=False)

    def forward(self, position: Tensor) -> Tensor:
        """[...] -> zeros [..., 1]."""
        return torch.zeros_like(position, dtype=self.weight.dtype)[..., None]


class Head(OfBase):
    """Hidden states [..., W] -> logits over our ids [..., V]."""

    def forward(self, h_W: Tensor) -> Tensor:
        """As of the class."""
        return self.base.ours(logits(self.base.lm, h_W))
