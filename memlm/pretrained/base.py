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

from memlm.errors import UsageError
from memlm.nn.cache import Cache
from memlm.nn.layout import Layout
from memlm.nn.vocabulary import END, PAD
from memlm.pretrained.opening import Pretrained, open_pretrained
from memlm.pretrained.stack import PretrainedStack
from memlm.pretrained.transplant import SHIFT, tokenizer_of

NEVER = -1e4  # the logit of what is never predicted: finite, so that differences of logits stay numbers


@dataclass(frozen=True)
class Base:
    """An opened language model.

    Args:
        name: as it was asked for.
        source: where it came from.
        lm: the model of transformers, with its head.
        fingerprint: SHA-256 over its weights.
        vocab_size: of its tokenizer once transplanted, so in our ids.
        begin: its own id that begins a text.
        end: its own id that ends one.
    """

    name: str
    source: str
    lm: Any
    fingerprint: str
    vocab_size: int
    begin: int
    end: int

    @cached_property
    def embed(self) -> nn.Module:
        """Its own ids -> vectors."""
        return self.lm.get_input_embeddings()

    @property
    def width(self) -> int:
        """W, the numbers of a token's vector."""
        return self.embed.weight.shape[1]  # pyright: ignore[reportReturnType, reportCallIssue, reportIndexIssue]

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

    def vectors(self) -> Tensor:
        """The vectors of all its tokens [its rows, W], without gradient."""
        return self.embed.weight.detach()  # pyright: ignore[reportCallIssue, reportReturnType]


def open_base(name: str, vocab_size: int, fingerprint: str | None = None) -> Base:
    """Open and check a language model.

    Args:
        name: a known name, a folder, or one of the hub.
        vocab_size: token ids of the data.
        fingerprint: of the model it has to be; None: any.

    Raises:
        UsageError: it cannot serve as a decoder, is another model, or the data are in other tokens.
    """
    with torch.device("cpu"):  # wherever its memory model is made: a curriculum checks itself without weights
        opened: Pretrained = open_pretrained(name, head=True, device="cpu", precision="fp32")
        lm, tokenizer = opened.model, tokenizer_of(opened)
        found = opened.fingerprint()
        if fingerprint is not None and found != fingerprint:
            raise UsageError(f"{name} is another model than the one that was trained with: put that one in its place.")
        known = tokenizer.get_vocab_size()
        if vocab_size != known:
            raise UsageError(
                f"the data have {vocab_size} tokens and {name} has {known}: prepare them with --tokenizer {name}."
            )
        check(lm, name)
    begin, end = _id(lm.config.bos_token_id), _id(lm.config.eos_token_id)
    if end is None:
        raise UsageError(f"{name} has no token that ends a text: set eos_token_id in its config.")
    lm.requires_grad_(False)
    return Base(name, opened.source, lm.eval(), found, vocab_size, end if begin is None else begin, end)


@torch.inference_mode()
def check(lm: Any, name: str) -> None:
    """Refuse a model that could not read memories.

    Raises:
        UsageError: it could not; says why.
    """
    if lm.config.is_encoder_decoder:
        raise UsageError(f"{name} has an encoder of its own: choose a causal language model.")
    if "inputs_embeds" not in inspect.signature(lm.base_model.forward).parameters:
        raise UsageError(f"{name} takes no vectors in the place of tokens (inputs_embeds): choose another model.")
    # Two texts in one sequence under a mask, the first of them from a cache, and each by itself: are they the same?
    stack, embed = PretrainedStack(lm, 2), lm.get_input_embeddings()
    x_1PW = embed(torch.arange(5)[None])
    first, both = torch.arange(2), torch.block_diag(torch.ones(2, 2).tril(), torch.ones(3, 3).tril()).bool()
    try:
        alone_13W = stack(x_1PW[:, 2:])
        packed_13W = stack(x_1PW, Layout(torch.tensor([0, 1, 0, 1, 2]), both))[:, 2:]
        cache: Cache = stack.new_cache(5)
        stack(x_1PW[:, :2], Layout(first, both[:2], slots=first), cache)
        kept_13W = stack(x_1PW[:, 2:], Layout(torch.arange(3), both[2:], slots=torch.arange(2, 5)), cache)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        why = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{name} cannot be given masks, positions and a cache ({why}): choose another model."
        ) from None
    size = alone_13W.abs().max()
    if max((packed_13W - alone_13W).abs().max(), (kept_13W - alone_13W).abs().max()) > 1e-3 * size:
        raise UsageError(
            f"{name} does not heed the masks and positions that it is given, so no memory can stand before a text: "
            "choose a model with plain attention, of the Llama, Qwen, GPT-2 or GPT-NeoX families, say."
        )
    told_V, head_V = lm(input_ids=torch.arange(5)[None]).logits, logits(lm, stack(x_1PW))
    if (told_V - head_V).abs().max() > 1e-3 * told_V.abs().max():
        raise UsageError(f"{name} makes its logits in a way that is not known here: choose another model.")


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


class Tokens(nn.Module):
    """Our token ids -> the language model's vectors. Padding is a blank of its own, which is learnt.

    Args:
        base: the model, whose vectors are looked up where they are and not held twice.
    """

    def __init__(self, base: Base):
        super().__init__()
        self._base = (base,)
        self.blank = nn.Parameter(base.vectors().mean(0))

    @property
    def weight(self) -> Tensor:
        """The vectors of its tokens, which tell type and device."""
        return self._base[0].vectors()

    def known(self, ids: Tensor) -> Tensor:
        """Vectors of the tokens alone; at padding there is something that must not be looked at."""
        return self._base[0].embed(self._base[0].own(ids))

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [..., W]."""
        return torch.where((ids == PAD)[..., None], self.blank, self.known(ids))


class Starts(nn.Module):
    """What stands before a chunk's first token: what begins a text, or the learnt mark of a copy."""

    def __init__(self, base: Base):
        super().__init__()
        self._base = (base,)
        self.mark = nn.Parameter(base.vectors()[base.begin].clone())

    @property
    def weight(self) -> Tensor:
        """Both of them [2, W]."""
        base = self._base[0]
        return torch.stack([base.embed(torch.tensor(base.begin, device=self.mark.device)), self.mark])

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


class Head(nn.Module):
    """Hidden states [..., W] -> logits over our ids [..., V]."""

    def __init__(self, base: Base):
        super().__init__()
        self._base = (base,)

    def forward(self, h_W: Tensor) -> Tensor:
        """As of the class."""
        base = self._base[0]
        return base.ours(logits(base.lm, h_W))


def _id(value: int | list[int] | None) -> int | None:
    return value[0] if isinstance(value, list) else value
