"""Words that are opened before a text, read by a frozen language model of others as it is and with gated LoRA: needles,
questions in other words, quotations and next tokens, of passages found by keys and by BM25; beside them the last words,
and passages of another book.

Asked: that the adapter uses what was opened, lets be what is of no use, and is nothing where nothing is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from memlm import ui
from memlm.bench.form import Options, Report
from memlm.bench.longsides import COLUMNS, NOTE, PREDICTED, Bench, Row, Told, has_bm25, prepared, with_lora
from memlm.bench.longtext import Asked, ids_of
from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus
from memlm.data.split import Part
from memlm.train.adapt import Adapting

READ_BY = ("base", "lora")


@dataclass(frozen=True)
class Sizes:
    """How much is asked; `seconds` of a benchmark stops between examples."""

    contexts: Sequence[int] = (2048, 4096, 8192, 16384)  # tokens, of questions
    examples: int = 4  # texts of a length
    quotations: int = 2  # of a text; needles and questions are six
    by_bm25: Sequence[str] = ("lora",)  # what reads BM25's passages before questions; smollm2far has the base
    windows: Sequence[int] = (64, 512, 2048)  # tokens read in full, of next tokens
    remembered: int = 8192  # tokens before a window
    places: int = 2  # of a book
    opened: int = 4  # passages that are read, each with the next one
    seeds: Sequence[int] = (0, 1, 2)  # of adapters, each beside a head of its own
    train: Adapting | None = None
    autoencoder_steps: int | None = None


def run(options: Options, *, sizes: Sizes = Sizes(), part: Part = "test", runs: Path | None = None) -> Report:
    """Train what is not there yet, then ask."""
    tune_cpu()
    corpus, runs = options.corpus(), runs or options.data.with_name(f"{options.data.name}-runs")
    bench = prepared(options, sizes, runs, with_lora(options, sizes, runs))
    texts = bench.books(corpus, part)
    with torch.inference_mode():
        whole, bench.ends = bench.ends, bench.ends - 0.4 * (options.seconds or 0)
        _next_tokens(bench, texts)
        bench.ends = whole
        _questions(bench, texts)
    return _report(bench, corpus, part)


def _report(bench: Bench, corpus: Corpus, part: Part) -> Report:
    """What was asked of a part, and what came out."""
    rows = bench.rows(part, lambda memory: memory == "memory")
    shape = bench.model.shape
    gates = "; ".join(" and ".join(f"{gate:.2f}" for gate in model.gates().tolist()) for model in bench.models)
    return Report(
        name="smollm2lora",
        columns=(*COLUMNS, "read_by"),
        rows=rows,
        ratios=_asked_for(rows),
        device=str(bench.model.device.type),
        setting=(
            f"{bench.setting(corpus, part)}; adapter of rank {shape.lora_rank}, {shape.lora_layers} upper layers, "
            f"gates of opened words and of the text {gates}"
        ),
        notes=[
            "none: the question or window alone, which no adapter reads; opened: after the passages that keys find "
            "among recalled words; memory: and copied from all of them; bm25: after as many by BM25; last: after as "
            "many last words; other: after those that keys find in another book.",
            f"The mean of {len(bench.models)} adapters, each beside its own head, example by example.",
            NOTE,
        ],
        told={"seeds": list(bench.sizes.seeds)},
    )


def _asked_for(rows: list[Row]) -> dict[str, float]:
    """What the adapter makes of each row that the base reads too."""
    table = {(row[0], row[3], row[8], row[9], row[-1]): row[5] for row in rows}
    told = {}
    for (task, memory, context, window, read_by), value in table.items():
        base = table.get((task, memory, context, window, "base"))
        if read_by == "lora" and base:
            where = f"after {window:,}" if task == "next" else f"{context:,} tokens"
            told[f"{task}, {memory}, {where}: lora / base (asked, {'below' if task == 'next' else 'above'} 1)"] = (
                value / base
            )
    return told


def _questions(bench: Bench, texts: dict[str, Tensor]) -> None:
    """Needles, questions and the first quotations, to all sides."""
    for context, text, asked in bench.questions(texts):
        quoted = [one for one in asked if one.task == "quote"][: bench.sizes.quotations]
        _ask(bench, text, [one for one in asked if one.task != "quote"] + quoted, context)


def _ask(bench: Bench, text: str, asked: list[Asked], context: int) -> None:
    """Questions about a text, to all sides."""
    words_N, many = ids_of(bench.tokenizer, bench.recalled(text)), bench.sizes.opened
    texts = [torch.cat([one.question_N, one.answer_N]) for one in asked]
    last, nothing = [len(one.answer_N) for one in asked], [words_N[:0]] * len(asked)

    of_bm25 = {"bm25": bench.by_bm25(words_N, [one.question_N for one in asked], many)} if has_bm25() else {}

    def by_model() -> dict[tuple[str, str], list[Tensor]]:
        held, told = bench.remember(words_N), {}
        before = {"opened": [bench.opened(held, one.question_N, many) for one in asked], **of_bm25}
        for side, words in before.items():
            for read_by in READ_BY if side == "opened" else bench.sizes.by_bm25:
                found = bench.after(words, texts, last, lora=read_by == "lora")
                told[side, read_by] = [logits for logits, _ in found]
                if side == "opened":
                    of = zip(found, texts, last, strict=True)
                    told["memory", read_by] = [bench.copied(one, text_N, held, Q) for one, text_N, Q in of]
        return told

    none = [logits for logits, _ in bench.after(nothing, texts, last)]
    bench.answered(asked, none, "none", context, 0, "base")
    for (memory, read_by), logits in bench.by_models(by_model).items():
        bench.answered(asked, logits, memory, context, 2 * many * bench.model.chunk_tokens, read_by)


def _next_tokens(bench: Bench, texts: dict[str, Tensor]) -> None:
    """Bits a byte of 64 tokens of books after windows read in full."""
    sizes = bench.sizes
    most = sizes.remembered + max(sizes.windows)
    long = {name: ids_N for name, ids_N in texts.items() if len(ids_N) > most + PREDICTED}
    for number in range(sizes.places):
        for i, (name, ids_N) in enumerate(long.items()):
            room = len(ids_N) - most - PREDICTED
            other_N = list(long.values())[i - 1][: sizes.remembered]  # of the book before it
            for window in sizes.windows if not bench.over else ():
                ui.say(f"{name}: next tokens after {window:,}, place {number + 1} of {sizes.places}")
                _at_place(bench, ids_N, other_N, most + room * (2 * number + 1) // (2 * sizes.places), window)


def _at_place(bench: Bench, ids_N: Tensor, other_N: Tensor, begin: int, window: int) -> None:
    """Of the tokens of a book from one on, after a window."""
    sizes, first = bench.sizes, begin - window
    text_N, past_N = ids_N[first : begin + PREDICTED], ids_N[first - sizes.remembered : first]
    given_N, size = text_N[:-PREDICTED], 2 * sizes.opened * bench.model.chunk_tokens
    told = bench.recalled(bench.tokenizer.decode(past_N.tolist(), skip_special_tokens=False))
    words_N = ids_of(bench.tokenizer, told)
    of_bm25 = {"bm25": bench.by_bm25(words_N, [given_N], sizes.opened)[0]} if has_bm25() else {}

    def after(before_P: Tensor, lora: bool = False) -> Told:
        return bench.after([before_P], [text_N], [PREDICTED], lora=lora)[0]

    def by_model() -> dict[tuple[str, str], list[Tensor]]:
        held, told = bench.remember(words_N), {}
        before = {
            "opened": bench.opened(held, given_N, sizes.opened),
            "last": past_N[-size:],
            "other": bench.opened(bench.remember(other_N), given_N, sizes.opened),
            **of_bm25,
        }
        for side, words_P in before.items():
            for read_by in READ_BY:
                found = after(words_P, read_by == "lora")
                told[side, read_by] = [found[0]]
                if side == "opened":
                    told["memory", read_by] = [bench.copied(found, text_N, held, PREDICTED)]
        return told

    bench.predicted(text_N, after(text_N[:0])[0], "none", 0, window, 0, "base")
    for (memory, read_by), logits in bench.by_models(by_model).items():
        context = 0 if memory == "last" else sizes.remembered
        bench.predicted(text_N, logits[0], memory, context, window, size, read_by)
