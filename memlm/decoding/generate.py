"""Text goes on: one token after the other is chosen and read, with the names and meanings of Hugging Face's `generate`.

    >>> model = memlm.loading.load_model("runs/memory")  # doctest: +SKIP
    >>> model.generate(prompt_ids, max_new_tokens=100, do_sample=True, top_p=0.9, seed=0)  # doctest: +SKIP

What differs: prompts may be padded at either side and may be empty; memories can be given in the place of earlier text;
processors, warpers, criteria and streamers are those of transformers.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from torch import LongTensor, Tensor

from memlm.decoding.cached import Decoding, Prompt, Recomputed
from memlm.errors import UsageError
from memlm.huggingface import (
    BaseStreamer,
    LogitsProcessorList,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from memlm.nn.vocabulary import END, PAD
from memlm.ranges import Count, Natural, Positive, ShareAbove, refuse_outside


class Continues(Protocol):
    """What is asked of a model that continues text; what each member is, `models.model.Generative` tells."""

    chunk_tokens: int
    memory_dim: int
    reads_chunks: bool

    @property
    def reads_given_memories(self) -> bool: ...  # noqa: D102

    def decoding(self, prompt: Prompt) -> Decoding: ...  # noqa: D102

    def most_tokens(self, memories: int = 0) -> int | None: ...  # noqa: D102

    def __call__(self, input_ids: Tensor, **asked: Any) -> Any: ...  # noqa: D102


@torch.inference_mode()
def generate(
    model: Continues,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    memories: Tensor | None = None,
    marks: Tensor | None = None,
    index: Any = None,
    max_new_tokens: int = 20,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: int | Sequence[int] | None = END,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    streamer: BaseStreamer | None = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    opened: list[Any] | None = None,
) -> Tensor:
    """Continue a batch of prompts.

    Args:
        model: one of ours that predicts tokens; as a method, `model.generate(input_ids, ...)`.
        input_ids: the prompts' token ids [B, N], padded at either side; N may be 0.
        attention_mask: [B, N], 1 where a prompt's tokens are; without it, id 0 at a row's ends is padding.
        memories: of what comes before the prompts [B, K, M].
        marks: bool [B, C], chunks that shall copy from memory, counted from each prompt's first; others shall not.
        index: in the place of `memories`, what the model's reader has filed of them; of one prompt.
        max_new_tokens: how many tokens are added at most.
        do_sample: draw tokens; False takes the likeliest, and leaves temperature, top_k and top_p alone.
        temperature: below 1 likely tokens become likelier.
        top_k: draw among so many likeliest tokens.
        top_p: draw among the likeliest tokens that are that likely together.
        eos_token_id: the id, or ids, that end a row; None: rows do not end.
        logits_processor: a list of transformers' processors, called with ids [B, L] and scores [B, V] before warping.
        stopping_criteria: a list of transformers' criteria, called with ids [B, L] and the last scores ([B, V],); True
            ends a row.
        streamer: told the prompts, then every token of the batch [B], with `put`; then `end`.
        generator: where draws come from; by default torch's own.
        seed: in the place of a generator: one made from this seed.
        use_cache: False reads the whole text for every token: slow, and the truth.
        opened: for every new token is appended which memories were looked into for it, and how much of its probability
            was copied from each: two tensors [B, k], or None.

    Returns:
        The prompts, padded at the left, and what follows them [B, N + new]; rows that ended early are padded with 0.

    Raises:
        UsageError: an argument that makes no sense, or more tokens than the model has room for; nothing was generated.
    """
    _check(max_new_tokens, temperature, top_k, top_p, generator, seed)
    prompt = _prompt(model, input_ids, attention_mask, memories, marks)
    if index is not None:
        if memories is not None or len(prompt.lengths) != 1 or not use_cache:
            raise UsageError("an index stands for the memories of one prompt: give no others, and keep the cache.")
        prompt = replace(prompt, index=index)
    _check_room(model, prompt, max_new_tokens)
    if seed is not None:
        generator = torch.Generator(prompt.ids.device).manual_seed(seed)
    processors, criteria = LogitsProcessorList(logits_processor or []), StoppingCriteriaList(stopping_criteria or [])
    if do_sample:
        processors.extend(warpers(temperature, top_k, top_p))
    ends = None if eos_token_id is None else torch.tensor(eos_token_id, device=prompt.ids.device).reshape(-1)

    B, N = prompt.ids.shape
    ids_BL = torch.nn.functional.pad(_to_the_right(prompt), (0, max_new_tokens), value=PAD)
    if streamer is not None:
        streamer.put(ids_BL[:, :N].cpu())
    decoding = model.decoding(prompt) if use_cache else Recomputed(model, model.chunk_tokens, prompt)
    open_B, length = torch.ones(B, dtype=torch.bool, device=ids_BL.device), N
    while True:
        if opened is not None:
            opened.append(decoding.opened)
        scores_BV = processors(cast(LongTensor, ids_BL[:, :length]), decoding.logits.float())
        if do_sample:
            tokens_B = torch.multinomial(scores_BV.softmax(-1), 1, generator=generator)[:, 0]
        else:
            tokens_B = scores_BV.argmax(-1)
        tokens_B = tokens_B.where(open_B, PAD)
        ids_BL[:, length] = tokens_B
        length += 1
        if streamer is not None:
            streamer.put(tokens_B.cpu())
        if ends is not None:
            open_B = open_B & ~torch.isin(tokens_B, ends)
        if criteria:
            open_B = open_B & ~criteria(cast(LongTensor, ids_BL[:, :length]), (scores_BV,))
        # Asking a device whether rows are open waits for it: only asked where they can end.
        if length == N + max_new_tokens or ((ends is not None or criteria) and not open_B.any()):
            break
        decoding.step(tokens_B)
    if streamer is not None:
        streamer.end()
    return ids_BL[:, :length].clone()


def _check(
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
    seed: int | None,
) -> None:
    for name, kind, value in (
        ("max_new_tokens", Count, max_new_tokens),
        ("temperature", Positive, temperature),  # for the likeliest token leave out do_sample
        ("top_k", Count, top_k),
        ("top_p", ShareAbove, top_p),
        ("seed", Natural, seed),
    ):
        refuse_outside(name, kind, value)
    if generator is not None and seed is not None:
        raise UsageError("give a generator or a seed, not both.")


def warpers(temperature: float, top_k: int | None, top_p: float | None) -> LogitsProcessorList:
    """What scores go through before a token is drawn, in transformers' order."""
    out = LogitsProcessorList()
    if temperature != 1:
        out.append(TemperatureLogitsWarper(float(temperature)))
    if top_k is not None:
        out.append(TopKLogitsWarper(top_k))
    if top_p is not None and top_p < 1:
        out.append(TopPLogitsWarper(top_p))
    return out


def _prompt(
    model: Continues,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    memories: Tensor | None,
    marks: Tensor | None,
) -> Prompt:
    """The prompts, every row's tokens moved to its first places."""
    if input_ids.ndim != 2 or not len(input_ids) or input_ids.is_floating_point():
        raise UsageError(f"input_ids must be token ids [batch, tokens], not {list(input_ids.shape)}.")
    B, N = input_ids.shape
    if memories is not None and not model.reads_given_memories:
        raise UsageError("this model cannot be given memories: leave them out, or take a memory model that reads them.")
    if memories is not None and (memories.ndim, len(memories), memories.shape[-1]) != (3, B, model.memory_dim):
        raise UsageError(f"memories must be [{B}, any number, {model.memory_dim}], not {list(memories.shape)}.")
    if marks is not None and not model.reads_chunks:
        raise UsageError("this model has no chunks to mark: leave out marks.")
    if marks is not None and (marks.ndim != 2 or len(marks) != B):
        raise UsageError(f"marks must be [{B}, chunks], not {list(marks.shape)}.")
    place_N = torch.arange(N, device=input_ids.device)
    is_token_BN = input_ids != PAD if attention_mask is None else attention_mask.to(input_ids.device).bool()
    if is_token_BN.shape != input_ids.shape:
        raise UsageError(f"attention_mask must be [{B}, {N}] as input_ids are, not {list(is_token_BN.shape)}.")
    if not N:
        return Prompt(input_ids, [0] * B, memories, marks)
    first_B = is_token_BN.int().argmax(1)
    end_B = (is_token_BN * (place_N + 1)).amax(1)  # 0 where there is no token, and `first` too
    if attention_mask is not None and not torch.equal(is_token_BN.sum(1), end_B - first_B):
        raise UsageError("attention_mask has holes: a prompt's tokens must stand side by side.")
    length_B = end_B - first_B
    ids_BN = input_ids.gather(1, (place_N + first_B[:, None]).clamp(max=N - 1))
    ids_BN = ids_BN.where(place_N < length_B[:, None], PAD)
    return Prompt(ids_BN, length_B.tolist(), memories, marks)


def _to_the_right(prompt: Prompt) -> Tensor:
    """The prompts' ids [B, N] padded at the left."""
    N = prompt.ids.shape[1]
    if not N:
        return prompt.ids
    shift_B = N - torch.tensor(prompt.lengths, device=prompt.ids.device)
    place_BN = torch.arange(N, device=prompt.ids.device) - shift_B[:, None]
    return prompt.ids.gather(1, place_BN.clamp(min=0)).where(place_BN >= 0, PAD)


def _check_room(model: Continues, prompt: Prompt, new: int) -> None:
    memories = 0 if prompt.memories is None else prompt.memories.shape[1]
    most, longest = model.most_tokens(memories), max(prompt.lengths)
    if most is not None and longest + new > most:
        before = f" after {memories} memories" if memories else ""
        raise UsageError(
            f"the model has room for {most} tokens{before}, not for {longest} and {new} more: "
            "ask for fewer, or give a shorter prompt."
        )
