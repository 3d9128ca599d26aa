"""What is read of a long text by the sides of a benchmark: all, passages by keys or by BM25, what a head copies; and
how they are asked, by whatever benchmark of a language model of others.

A row's key is its task, metric, memory, tokens of context, tokens of the window, tokens opened, and what else tells it.
"""

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm import presets, ui
from memlm.bench.form import Options
from memlm.bench.longtext import Asked, Recalled, books, ids_of, questions
from memlm.data.corpus import Corpus
from memlm.data.split import Part
from memlm.loading import find_model, load_model
from memlm.measure.intervals import ratio
from memlm.pretrained.copying import NEXT, Copying, apart, in_passages, opened_words, queries_of
from memlm.readers.filed import PlaceIndex
from memlm.readers.reader import Kept, logp_of
from memlm.tokens.tokenizer import load_tokenizer, token_bytes
from memlm.train.adapt import Adapting, adapt
from memlm.train.loop import train

PREDICTED = 64  # tokens of a book after a window
COLUMNS = (
    *("task", "text", "metric", "memory", "chunks", "value", "value_ci", "trained_chunks"),
    *("context", "window", "opened", "examples"),
)
NOTE = (
    "needle and asked: all digits of a code right, greedily; quote: tokens right, earlier ones given. "
    "Intervals of 95 %: Wilson over questions, bootstrap over places of books for bits."
)
Told = tuple[Tensor, Tensor]  # logits, hidden states
Row = tuple[Any, ...]
_Side = tuple[Any, ...]  # its name and what else tells it
token_bytes_of = cache(token_bytes)


@dataclass
class Remembered:
    """A text that was read as memories, or kept as token ids."""

    words_KT: Tensor
    index: PlaceIndex
    kept: Kept


@dataclass
class Bench:
    """One of the trained `models` at a time, and what the sides share; sums of each row's figures, by example.

    Logits of a text are [S, Q, V]: of each model, or of the base alone. An example's figure is the mean over models.
    """

    models: Sequence[Copying]
    tokenizer: Any
    recalled: Recalled
    sizes: Any
    ends: float
    sums: dict[tuple[Any, ...], list[tuple[float, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = self.models[0]

    def add(self, key: tuple[Any, ...], top: float, below: float = 1.0) -> None:
        """One example of a row."""
        self.sums.setdefault(key, []).append((top, below))

    def books(self, corpus: Corpus, part: Part) -> dict[str, Tensor]:
        """The tokens of each document of a part, by name."""
        return {name: ids_of(self.tokenizer, text) for name, text in books(corpus, part).items()}

    def setting(self, corpus: Corpus, part: Part) -> str:
        """What all rows are of."""
        memories = self.recalled.model
        return (
            f"{Path(self.model.shape.base).name}: {self.model.config.base_source}; passages of "
            f"{self.model.chunk_tokens} of its tokens; memories of {memories.chunk_tokens} tokens in "
            f"{memories.memory_dim} numbers, int8; data {corpus.hash[:12]}, part {part}: "
            f"{', '.join(corpus.part(part).names)}"
        )

    def questions(self, texts: dict[str, Tensor]) -> Iterator[tuple[int, str, list[Asked]]]:
        """Contexts in turn, so that what is stopped has some of each; the text of each, and what is asked of it."""
        for number in range(self.sizes.examples):
            for context in self.sizes.contexts:
                if not self.over and (found := questions(texts, context, number, self.tokenizer)):
                    ui.say(f"questions after {context:,} tokens, {number + 1} of {self.sizes.examples}")
                    yield context, *found

    def answered(
        self, asked: list[Asked], logits: Sequence[Tensor], memory: str, context: int, opened: int, *more: str
    ) -> None:
        """Answers of a side to questions."""
        for one, logits_SQV in zip(asked, logits, strict=True):
            right_SQ = (logits_SQV[:, -len(one.answer_N) :].argmax(-1).cpu() == one.answer_N).float()
            quoted = one.task == "quote"
            key = (one.task, "token_accuracy" if quoted else "exact_match", memory, context, 0, opened, *more)
            self.add(key, (right_SQ if quoted else right_SQ.prod(1)).mean().item())

    def predicted(
        self, text_N: Tensor, logits_SQV: Tensor, memory: str, context: int, window: int, opened: int, *more: str
    ) -> None:
        """A side's logits of the last `PREDICTED` tokens of a text after a window."""
        predicted_Q = text_N[-PREDICTED:]
        bits = float(token_bytes_of(self.tokenizer)[predicted_Q.numpy()].sum()) * math.log(2)
        predicted_SQ = predicted_Q.to(logits_SQV.device).expand(len(logits_SQV), -1)
        nats = -logp_of(logits_SQV[:, -PREDICTED:], predicted_SQ).sum(1).mean().item()
        self.add(("next", "bits_per_byte", memory, context, window, opened, *more), nats, bits)

    def by_models(self, tell: Callable[[], dict[_Side, list[Tensor]]]) -> dict[_Side, list[Tensor]]:
        """What `tell` gives with each model: of each side its texts' logits [1, Q, V], all models' as one."""
        told = []
        for model in self.models:
            self.model = model
            told.append(tell())
        self.model = self.models[0]
        return {side: [torch.cat(of) for of in zip(*(one[side] for one in told), strict=True)] for side in told[0]}

    def rows(self, part: Part, reads: Callable[[str], bool]) -> list[Row]:
        """All that was asked, as `COLUMNS` and what else its key tells; which memories a trained head `reads`."""
        rows: list[Row] = []
        for (task, metric, memory, context, window, opened, *more), parts in self.sums.items():
            told = ratio(np.array(parts), 0, share=metric != "bits_per_byte")
            trained = self.model.config.trained_chunks if reads(memory) else 0
            row = (task, part, metric, memory, context // self.model.chunk_tokens, told["value"], told["value_ci"])
            rows.append((*row, trained, context, window, opened, len(parts), *more))
        return rows

    def remember(self, ids_N: Tensor) -> Remembered:
        """What is kept of words."""
        words_KT = in_passages(ids_N, self.model.chunk_tokens)
        index = self.model.reader.index_words(words_KT, torch.zeros(0, 1))
        return Remembered(words_KT, index, self.model.reader.keep_words(words_KT[None].to(self.model.device)))

    def after(
        self, before: Sequence[Tensor], texts: Sequence[Tensor], last: Sequence[int], lora: bool = False
    ) -> list[Told]:
        """Logits [1, Q, V] and hidden states of the last tokens of texts after what else is read, by base or LoRA."""
        rows = [torch.cat([before_P, text_N]) for before_P, text_N in zip(before, texts, strict=True)]
        read_BP = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        opened_B = torch.tensor([len(words_P) for words_P in before]) if lora else None
        h_BPW, _ = self.model.states(self.model.begun(read_BP)[:, :-1], None, opened_B)
        found = []  # padding is at the right: nothing sees it
        for h_PW, row, Q in zip(h_BPW, rows, last, strict=True):
            h_1QW = h_PW[None, max(0, len(row) - Q - 8) : len(row)]
            found.append((self.model.told(h_1QW), h_1QW))
        return found

    def after_all(self, before_P: Tensor, texts: Sequence[Tensor], last: Sequence[int]) -> list[Tensor]:
        """Logits [1, Q, V] of the last tokens of texts, each after all of another, which is read once."""
        told, past = [], self.model.states(self.model.begun(before_P[None].to(self.model.device)))[1]
        for text_N, Q in zip(texts, last, strict=True):
            h_1NW, _ = self.model.states(text_N[None, :-1].to(self.model.device), past)
            past.crop(1 - len(text_N))
            told.append(self.model.told(h_1NW[:, -Q:]))
        return told

    def copied(self, told: Told, text_N: Tensor, held: Remembered, last: int) -> Tensor:
        """Logits of the last tokens of a text with what the head copies."""
        logits_1QV, h_1QW = told
        ids_1N, K = text_N[None].to(self.model.device), len(held.words_KT)
        Q = min(logits_1QV.shape[1], ids_1N.shape[1])
        logp_1N = torch.zeros_like(ids_1N, dtype=logits_1QV.dtype)
        logp_1N[:, -Q:] = logp_of(logits_1QV[:, -Q:], ids_1N[:, -Q:])
        queries = queries_of(ids_1N, K, logp_1N).part(slice(-last, None))
        return self.model.reader.mix(logits_1QV[:, -last:], h_1QW[:, -last:], held.kept, queries).logits

    def opened(self, held: Remembered, question_N: Tensor, many: int) -> Tensor:
        """The words of the best passages by the head's keys."""
        numbers = self.model.reader.passages(held.index, question_N, many, self.model.shape.segment)
        return opened_words(held.words_KT, numbers)

    def by_bm25(self, words_N: Tensor, questions: Sequence[Tensor], many: int) -> list[Tensor]:
        """The words of as many passages of a text, each with the next one, by BM25; of each question."""
        bm25s: Any = import_module("bm25s")
        words_KT, found, told = in_passages(words_N, self.model.chunk_tokens), bm25s.BM25(), []
        found.index([[str(i) for i in row if i] for row in words_KT.tolist()], show_progress=False)
        for question_N in questions:
            asked = map(str, question_N[-self.model.shape.segment :].tolist())
            score_K = torch.zeros(len(words_KT))
            if known := [word for word in asked if word in found.vocab_dict]:
                score_K = torch.from_numpy(np.asarray(found.get_scores(known), np.float32).copy())
            told.append(opened_words(words_KT, apart(score_K + NEXT * F.pad(score_K, (0, 1))[1:], many)))
        return told

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() > self.ends


def has_bm25() -> bool:
    """Whether bm25s is installed."""
    return importlib.util.find_spec("bm25s") is not None


def prepared(options: Options, sizes: Any, runs: Path, adapting: dict[str, Adapting]) -> Bench:
    """The autoencoder and the models in `runs`, of one base, by name, trained where they are not there yet."""
    auto, models = runs / "autoencoder", []
    if not auto.exists():
        config = replace(presets.memory_64().stages["autoencoder"], data=options.data)
        train(replace(config, steps=sizes.autoencoder_steps or config.steps), auto)
    autoencoder = load_model(auto).requires_grad_(False)
    for name, config in adapting.items():
        if not (runs / name).exists():
            adapt(config, runs / name)
        models.append(cast(Copying, load_model(runs / name).requires_grad_(False)))
    for module in (autoencoder, *models):
        torch.nn.Module.to(module, options.device)
    recalled = Recalled(autoencoder, load_tokenizer(find_model(auto)))
    ends = time.perf_counter() + (options.seconds or 1e9)
    return Bench(models, load_tokenizer(find_model(runs / next(iter(adapting)))), recalled, sizes, ends)


def with_lora(options: Options, sizes: Any, runs: Path) -> dict[str, Adapting]:
    """An adapter of each seed, beside the head of smollm2far; where there is none that is made too."""
    adapting = sizes.train or Adapting(data=options.data, base="smollm2", lora=8, context=128)
    heads = {seed: runs / f"copy-head-{seed}" for seed in sizes.seeds}
    return {
        f"lora-{seed}": replace(adapting, seed=seed, base=str(head) if head.exists() else adapting.base)
        for seed, head in heads.items()
    }
