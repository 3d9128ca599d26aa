"""One of our models as lm-eval's `LM`: it tokenises, asks the scorer, and keeps account of the memories read."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from torch import Tensor

from memlm.errors import UsageError
from memlm.evaluate.config import Condition
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import Scorer, Text, fitted, memories_read, room
from memlm.models.model import Generative
from memlm.tokens.detokenise import TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Read(NamedTuple):
    """What one request read: how many memories each scored (or written) token could read; whether text was cut off."""

    memories: np.ndarray
    truncated: bool


class Harness(LM):
    """A model under one of its conditions (`conditions_of`).

    Args:
        model: one of ours that predicts tokens.
        tokenizer: its own.
        condition: which one.
        memories: of the model; conditions share them.
        seed: of random vectors and of drawn tokens.

    Attributes:
        read: for every task, what the requests of each of its examples read.
    """

    def __init__(
        self, model: Generative, tokenizer: "Tokenizer", condition: Condition, memories: ChunkMemories, seed: int = 0
    ):
        super().__init__()
        self.model, self.tokenizer, self.seed = model, tokenizer, seed
        self.condition: Condition = condition
        self.scorer = Scorer(model, condition, memories, seed)
        self._stream = TextStream(tokenizer)
        self.read: dict[str, dict[int, list[Read]]] = defaultdict(lambda: defaultdict(list))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """As of lm-eval: how likely is each continuation after its context, and is it what the model would write?"""
        pairs = self._pairs([_args(request) for request in requests])
        texts = [fitted(self.model, text, condition=self.condition) for text in pairs]
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
        A base writes nothing here: memlm/evaluate/run.py leaves such tasks out of that condition.
        """
        asked: list[dict[str, Any]] = [{**normalize_gen_kwargs(_args(request)[1])} for request in requests]
        prompts = [
            fitted(self.model, Text(ids, len(ids)), kwargs["max_gen_toks"])
            for ids, kwargs in zip(self._ids([_args(request)[0] for request in requests]), asked, strict=True)
        ]
        heads = [self.scorer.head(prompt.ids) for prompt in prompts]
        vectors = self.scorer.vectors(chunk for head in heads for chunk in head)
        written, T = [], self.model.chunk_tokens
        for request, prompt, kwargs, head in zip(requests, prompts, asked, heads, strict=True):
            full = len(prompt.ids) // T * T if self.scorer.by_chunk else 0  # tokens that are read as memories, or not
            ids = self._write(prompt.ids[full:], [vectors[chunk] for chunk in head], kwargs)
            place = np.arange(len(ids)) + len(prompt.ids) - (0 if head else full)
            self._account(request, memories_read(self.model, place, "own"), prompt.truncated)
            written.append(postprocess_generated_text(self.text(ids), kwargs["until"], None))
        return written

    def _write(self, ids: list[int], before: list[Tensor], kwargs: dict[str, Any]) -> list[int]:
        """The new ids after one prompt and the memories before it."""
        drawn = {name: kwargs[name] for name in ("temperature", "top_k", "top_p") if kwargs.get(name)}

        def stops(ids_BL: Tensor, scores: Any) -> Tensor:  # a stopping criterion of transformers
            texts = [self.text(row[len(ids) :]) for row in ids_BL.tolist()]
            return torch.tensor([any(stop in text for stop in kwargs["until"]) for text in texts], device=ids_BL.device)

        out = self.model.generate(
            torch.tensor([ids], dtype=torch.long, device=self.model.device),
            memories=torch.stack(before)[None].to(self.model.device, self.model.dtype) if before else None,
            max_new_tokens=kwargs["max_gen_toks"],
            do_sample=bool(kwargs["do_sample"]),
            stopping_criteria=[stops],
            seed=self.seed,
            **(drawn if kwargs["do_sample"] else {}),
        )
        return out[0, len(ids) :].tolist()

    def _windows(self, ids: list[int]) -> list[Text]:
        most = room(self.model, self.condition)
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
