"""One of our models as lm-eval's `LM`: it tokenises, asks the scorer, and keeps account of the memories read."""

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from torch import Tensor

from memlm import ui
from memlm.errors import UsageError
from memlm.evaluate.memories import Chunk
from memlm.evaluate.scoring import Scorer, Text, fitted, memories_read, room
from memlm.models.model import Generative
from memlm.nn.vocabulary import END, PAD
from memlm.tokens.detokenise import TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from memlm.huggingface import PreTrainedTokenizerBase

_TOKENS = 2**14  # that are continued together, with what is written


class _Prompt(NamedTuple):
    """What is continued: its whole text, the ids that are given as such, the chunks before them given as vectors."""

    text: Text
    ids: list[int]
    head: list[Chunk]
    unread: int  # tokens at its beginning that nothing is told of
    kwargs: dict[str, Any]

    @property
    def alike(self) -> str:
        """What must be the same for prompts that are continued together."""
        return json.dumps(self.kwargs, sort_keys=True, default=str)

    @property
    def tokens(self) -> int:
        """Of the whole text in the end."""
        return len(self.text.ids) + self.kwargs["max_gen_toks"]


class Read(NamedTuple):
    """What one request read: how many memories each scored (or written) token could read; whether text was cut off."""

    memories: np.ndarray
    truncated: bool


class Harness(LM):
    """A model under one of its conditions (`conditions_of`).

    Args:
        model: one of ours that predicts tokens.
        tokenizer: its own.
        scorer: of the model, under the condition.
        chat: renders messages in the chat form of its tokenizer, whose special tokens are then special in prompts;
            None: prompts are plain text.

    Attributes:
        read: for every task, what the requests of each of its examples read.
    """

    def __init__(
        self,
        model: Generative,
        tokenizer: "Tokenizer",
        scorer: Scorer,
        chat: "PreTrainedTokenizerBase | None" = None,
    ):
        super().__init__()
        self.model, self.tokenizer, self.scorer, self.chat = model, tokenizer, scorer, chat
        if chat is not None:
            self.tokenizer = type(tokenizer).from_str(tokenizer.to_str())
            self.tokenizer.encode_special_tokens = False
        self._stream = TextStream(tokenizer)
        self.read: dict[str, dict[int, list[Read]]] = defaultdict(lambda: defaultdict(list))

    @property
    def tokenizer_name(self) -> str:
        """Asked for by lm-eval where chat templates are used; it would tell its own caches apart."""
        return str(getattr(self.chat, "name_or_path", ""))

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """As of lm-eval: messages as one prompt; without a generation prompt the last one goes on."""
        assert self.chat is not None
        ends = not add_generation_prompt
        return str(
            self.chat.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=not ends, continue_final_message=ends
            )
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """As of lm-eval: how likely is each continuation after its context, and is it what the model would write?"""
        pairs = self._pairs([_args(request) for request in requests])
        texts = [fitted(self.model, text, condition=self.scorer.condition) for text in pairs]
        scores = self.scorer.score(texts)
        for request, text, score in zip(requests, texts, scores, strict=True):
            self._account(request, score.memories, text.truncated)
        return [(score.loglikelihood, score.greedy) for score in scores]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """As of lm-eval: how likely is each whole text? Each token is scored once, after as much text as there is room.

        A text longer than the model has room for is read in windows, the last one a full one.
        """
        rolled = [self._windows(ids) for ids in self._ids([_args(request)[0] for request in requests])]
        scores = iter(self.scorer.score([window for windows in rolled for window in windows]))
        likelihoods = []
        for request, windows in zip(requests, rolled, strict=True):
            parts = [next(scores) for _ in windows]
            self._account(request, np.concatenate([part.memories for part in parts]), len(windows) > 1)
            likelihoods.append(sum(part.loglikelihood for part in parts))
        return likelihoods

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """As of lm-eval: what the model writes after each context, up to the first stop string.

        The conditions concern the memories of the context: what is written meanwhile becomes memories in each of them.
        A base writes nothing here: memlm/evaluate/run.py leaves such tasks out of that condition. Prompts that are
        asked alike are continued together; tokens are drawn for one prompt at a time, so that no other changes them.
        """
        prompts: list[_Prompt] = []
        for ids, request in zip(self._ids([_args(request)[0] for request in requests]), requests, strict=True):
            kwargs: dict[str, Any] = {**normalize_gen_kwargs(_args(request)[1])}
            text = fitted(self.model, Text(ids, len(ids)), kwargs["max_gen_toks"])
            full = len(text.ids) // self.model.chunk_tokens * self.model.chunk_tokens
            head = self.scorer.head(text.ids) if self.scorer.condition == "random" else []
            unread = full if self.scorer.condition == "none" else 0  # tokens that would be read as memories
            prompts.append(_Prompt(text, text.ids[full if head else unread :], head, unread, kwargs))
        vectors = cache(lambda: self.scorer.vectors(chunk for prompt in prompts for chunk in prompt.head))
        call = self.scorer.asked("write", [(prompt.text.ids, prompt.alike) for prompt in prompts])
        written: dict[int, list[int]] = {}
        with ui.progress(unit="texts") as bar:
            task = bar.add_task("writing", total=len(prompts))
            for number, batch in enumerate(self._batches(prompts)):
                some = [prompts[i] for i in batch]
                found = self.scorer.answers.of(f"{call}/{number}", lambda some=some: self._write(some, vectors()))
                written |= dict(zip(batch, found, strict=True))
                bar.advance(task, len(batch))
        for i, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            place = np.arange(len(written[i])) + len(prompt.text.ids) - prompt.unread
            self._account(request, memories_read(self.model, place, "own"), prompt.text.truncated)
        stops = [prompt.kwargs["until"] for prompt in prompts]
        return [postprocess_generated_text(self.text(written[i]), until, None) for i, until in enumerate(stops)]

    def _batches(self, prompts: list["_Prompt"]) -> Iterator[list[int]]:
        """Numbers of prompts that are continued together: of as many given memories, asked alike, of like lengths."""

        def alike(i: int) -> tuple[Any, ...]:
            return prompts[i].alike, len(prompts[i].head)

        for _, same in groupby(sorted(range(len(prompts)), key=lambda i: (alike(i), len(prompts[i].ids))), key=alike):
            rest = list(same)
            while rest:
                longest = prompts[rest[-1]]
                count = 1 if longest.kwargs["do_sample"] else self.scorer.batch or max(1, _TOKENS // longest.tokens)
                yield rest[-count:]
                rest = rest[:-count]

    @torch.inference_mode()
    def _write(self, prompts: list["_Prompt"], vectors: dict[Chunk, Tensor]) -> list[list[int]]:
        """The new ids after each prompt of a batch, to the first that ends it."""
        kwargs, N = prompts[0].kwargs, max(len(prompt.ids) for prompt in prompts)
        drawn = {name: kwargs[name] for name in ("temperature", "top_k", "top_p") if kwargs.get(name)}
        lengths = [0] * len(prompts)  # of what is written; 0: it goes on

        def ends(ids_BL: Tensor, scores: Any) -> Tensor:  # a stopping criterion of transformers
            for row, new in enumerate(ids_BL[:, N:].tolist()):
                if not lengths[row] and (new[-1] == END or any(stop in self.text(new) for stop in kwargs["until"])):
                    lengths[row] = len(new)
            return torch.tensor([length > 0 for length in lengths], device=ids_BL.device)

        ids_BN = torch.tensor([[PAD] * (N - len(prompt.ids)) + prompt.ids for prompt in prompts], dtype=torch.long)
        mask_BN = torch.arange(N) >= N - torch.tensor([[len(prompt.ids)] for prompt in prompts])
        memory_BKM = None
        if prompts[0].head:
            memory_BKM = torch.stack([torch.stack([vectors[chunk] for chunk in prompt.head]) for prompt in prompts])
            memory_BKM = memory_BKM.to(self.model.device, self.model.dtype)
        out_BL = self.model.generate(
            ids_BN.to(self.model.device),
            attention_mask=mask_BN.to(self.model.device),
            memories=memory_BKM,
            max_new_tokens=kwargs["max_gen_toks"],
            do_sample=bool(kwargs["do_sample"]),
            stopping_criteria=[ends],
            seed=self.scorer.seed,
            **(drawn if kwargs["do_sample"] else {}),
        )
        new = out_BL[:, N:].tolist()
        return [row[: length or len(row)] for row, length in zip(new, lengths, strict=True)]

    def _windows(self, ids: list[int]) -> list[Text]:
        most = room(self.model, self.scorer.condition)
        if most is None or len(ids) <= most:
            return [Text(ids, 0)]
        windows = [Text(ids[:most], 0, True)]
        for start in range(most, len(ids), most - 1):
            end = min(len(ids), start + most - 1)
            windows.append(Text(ids[end - most : end], start - (end - most), True))
        return windows

    def _pairs(self, pairs: list[tuple[str, str]]) -> list[Text]:
        """Context and continuation, tokenised together as lm-eval does it: spaces between them are the continuation's.

        Where a token reaches over the boundary, the continuation has one scored token at least.
        """
        if any(not continuation for _, continuation in pairs):
            raise UsageError("an answer is empty, and nothing can be scored: mend the task.")
        contexts = self._ids([context.rstrip() for context, _ in pairs])
        wholes = self._ids([context + continuation for context, continuation in pairs])
        return [Text(whole, min(len(context), len(whole) - 1)) for context, whole in zip(contexts, wholes, strict=True)]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def text(self, ids: list[int]) -> str:
        """Ids as text; the end token is none."""
        return self._stream.feed(ids, last=True)

    def _account(self, request: Instance, memories: np.ndarray, truncated: bool) -> None:
        assert request.task_name is not None
        assert request.doc_id is not None
        self.read[request.task_name][request.doc_id].append(Read(memories, truncated))


def _args(request: Instance) -> tuple[Any, ...]:
    return request.args
