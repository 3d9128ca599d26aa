"""RULER's needles and chains of variables, asked of a frozen language model of others over books that are memories, in
the published words: passages found by keys and copied from, read by the base and with gated LoRA; beside them full
context and BM25.

(The preset `memory` is asked the same in `yardsticks`, where it understands no question.) Every needle of four, and
every variable after those before it, is asked by itself, and counts where all its tokens are told, greedily.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memlm import ui
from memlm.bench.form import Options, Report
from memlm.bench.longsides import COLUMNS, Bench, has_bm25, prepared, with_lora
from memlm.bench.longtext import Asked, ids_of, told_in
from memlm.bench.ruler import TASKS
from memlm.cpu import tune_cpu
from memlm.data.split import Part
from memlm.train.adapt import Adapting

ROOM = 160  # tokens, of the model's positions, for a question and its answer after a text


@dataclass(frozen=True)
class Sizes:
    """How much is asked; `seconds` of a benchmark stops between examples."""

    contexts: Sequence[int] = (2048, 8192, 32768, 131072)  # tokens: a fourth of what heads are trained on, to 16 times
    examples: int = 4  # texts of a length and a task
    opened: int = 4  # passages that are read, each with the next one
    most: int = 8192  # tokens that the model is given at once
    seeds: Sequence[int] = (0, 1, 2)  # of heads, each with an adapter
    train: Adapting | None = None
    autoencoder_steps: int | None = None


def run(options: Options, *, sizes: Sizes = Sizes(), part: Part = "test", runs: Path | None = None) -> Report:
    """Train what is not there yet, then ask."""
    tune_cpu()
    corpus, runs = options.corpus(), runs or options.data.with_name(f"{options.data.name}-runs")
    bench = prepared(options, sizes, runs, with_lora(options, sizes, runs))
    texts = bench.books(corpus, part)
    with torch.inference_mode():
        for number in range(sizes.examples):
            for context in sizes.contexts:
                long = [ids_N for ids_N in texts.values() if len(ids_N) > context]
                for task in TASKS if long and not bench.over else ():
                    ui.say(f"{task} after {context:,} tokens, {number + 1} of {sizes.examples}")
                    _ask(bench, *_made(bench, long[number % len(long)], context, number, task), context)
    rows = bench.rows(part, lambda memory: memory == "memory")
    return Report(
        name="smollm2ruler",
        columns=(*COLUMNS, "read_by"),
        rows=rows,
        ratios={f"{row[0]}, {row[8]:,} tokens, read by {row[-1]}": row[5] for row in rows if row[3] == "memory"},
        device=str(bench.model.device.type),
        setting=bench.setting(corpus, part),
        notes=[
            "memory: passages that keys find among recalled words are read, and copied from; bm25: as many by BM25; "
            f"full: all of the text, at most {sizes.most:,} tokens.",
            f"The mean of {len(bench.models)} heads and adapters, question by question. Wilson's intervals, 95 %; four "
            "needles share a text, and so do five variables.",
        ],
        told={"seeds": list(sizes.seeds)},
    )


def _made(bench: Bench, book_N: Tensor, context: int, number: int, task: str) -> tuple[str, list[Asked]]:
    """A stretch of a book of about so many tokens with sentences told in it, and what is asked after it."""
    rng = np.random.default_rng([context, number, [*TASKS].index(task)])
    told, asked = TASKS[task](rng, "as published")
    room = sum(len(ids_of(bench.tokenizer, f" {sentence}")) for sentence in told)
    start = int(rng.integers(0, len(book_N) - context + 1))
    text = bench.tokenizer.decode(book_N[start : start + context - room].tolist(), skip_special_tokens=False)
    text = told_in(text, [f" {sentence}" for sentence in told], rng)
    questions = [
        Asked(f"ruler-{task}", *(ids_of(bench.tokenizer, part) for part in (f"\n{one.asks}{one.begins}", one.answer)))
        for one in asked
    ]
    return text, questions


def _ask(bench: Bench, text: str, asked: list[Asked], context: int) -> None:
    """Questions about a text, to all sides."""
    words_N, many = ids_of(bench.tokenizer, bench.recalled(text)), bench.sizes.opened
    texts = [torch.cat([one.question_N, one.answer_N]) for one in asked]
    last, size = [len(one.answer_N) for one in asked], 2 * many * bench.model.chunk_tokens
    if context <= bench.sizes.most:
        full = bench.after_all(ids_of(bench.tokenizer, text)[-bench.sizes.most + ROOM :], texts, last)
        bench.answered(asked, full, "full", context, 0, "base")

    def by_model() -> dict[tuple[str, str], list[Tensor]]:
        held, told = bench.remember(words_N), {}
        words = [bench.opened(held, one.question_N, many) for one in asked]
        for read_by in ("base", "lora"):
            found = bench.after(words, texts, last, lora=read_by == "lora")
            of = zip(found, texts, last, strict=True)
            told["opened", read_by] = [logits for logits, _ in found]
            told["memory", read_by] = [bench.copied(one, text_N, held, Q) for one, text_N, Q in of]
        return told

    for (memory, read_by), logits in bench.by_models(by_model).items():
        bench.answered(asked, logits, memory, context, size, read_by)
    if has_bm25():
        words = bench.by_bm25(words_N, [one.question_N for one in asked], many)
        bench.answered(asked, [one for one, _ in bench.after(words, texts, last)], "bm25", context, size, "base")
