"""A frozen language model of others over long texts that are memories: needles, questions, quotations and next tokens,
beside all of the text, its last tokens, BM25, and token ids kept in place of memories; and what each costs.

Asked: 90 % of full context's needles at 1/16 of its cache and 1/10 of its reading time, and not below BM25.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from memlm import ui
from memlm.bench.form import Options, Report
from memlm.bench.longsides import (
    COLUMNS,
    NOTE,
    PREDICTED,
    Bench,
    Remembered,
    Row,
    Told,
    has_bm25,
    prepared,
)
from memlm.bench.longtext import Asked, ids_of
from memlm.cpu import tune_cpu
from memlm.data.split import Part
from memlm.decoding.cached import Decoding, Prompt
from memlm.pretrained.copying import Copying
from memlm.train.adapt import Adapting

OPENED = (1, 4)  # passages that are read, each with the next one
ROOM = 80  # tokens, of the model's positions, for a question and its answer after a text
WRITTEN = 16  # tokens after a context, whose time is taken


@dataclass(frozen=True)
class Sizes:
    """How much is asked, each by itself; `seconds` of a benchmark stops between examples."""

    contexts: Sequence[int] = (2048, 4096, 8192)  # tokens, of questions
    examples: int = 6  # texts of a length
    windows: Sequence[int] = (64, 512, 2048)  # tokens read in full, of next tokens
    remembered: Sequence[int] = (2048, 8192, 32768)  # tokens before a window
    places: int = 6  # of a book
    most: int = 8192  # tokens that the model is given at once
    seeds: Sequence[int] = (0, 1, 2)  # of heads, each with its own windows of training text
    train: Adapting | None = None
    autoencoder_steps: int | None = None


def run(options: Options, *, sizes: Sizes = Sizes(), part: Part = "test", runs: Path | None = None) -> Report:
    """Train what is not there yet, then ask and time all sides."""
    tune_cpu()
    corpus, runs = options.corpus(), runs or options.data.with_name(f"{options.data.name}-runs")
    adapting = sizes.train or Adapting(data=options.data, base="smollm2")
    bench = prepared(options, sizes, runs, {f"copy-head-{seed}": replace(adapting, seed=seed) for seed in sizes.seeds})
    texts = bench.books(corpus, part)
    with torch.inference_mode():
        costs = _costs(bench, next(iter(texts.values())))
        whole, bench.ends = bench.ends, bench.ends - 0.4 * (options.seconds or 0)
        _questions(bench, texts)
        bench.ends = whole
        _next_tokens(bench, texts)
    untrained = ("full", "none", "last", "bm25")
    rows = bench.rows(part, lambda memory: memory not in untrained and not memory.endswith("-opened")) + costs
    return Report(
        name="smollm2far",
        columns=COLUMNS,
        rows=rows,
        ratios=_asked_for(rows),
        device=str(bench.model.device.type),
        setting=bench.setting(corpus, part),
        notes=[
            "memory: passages found by the head's keys among recalled words, opened and copied from; memory-opened, "
            "memory-copied: one of both alone; ids: over the text's own tokens; bm25: as many passages, so too; "
            f"last: as many last tokens; full: all of the text, at most {sizes.most:,} tokens; none: the window alone.",
            f"What reads by a head's keys or copies: the mean of {len(sizes.seeds)} trained heads, example by example; "
            "costs are of the first.",
            NOTE,
        ],
        told={"seeds": list(sizes.seeds)},
    )


def _questions(bench: Bench, texts: dict[str, Tensor]) -> None:
    """Needles, questions and quotations, to all sides."""
    for context, text, asked in bench.questions(texts):
        ids_N = ids_of(bench.tokenizer, text)
        words = {"memory": ids_of(bench.tokenizer, bench.recalled(text)), "ids": ids_N}
        _ask(bench, asked, words, context)


def _ask(bench: Bench, asked: list[Asked], words: dict[str, Tensor], context: int) -> None:
    """Questions to all sides: of the text's words as they are recalled, and as they were."""
    texts = [torch.cat([one.question_N, one.answer_N]) for one in asked]
    last, nothing = [len(one.answer_N) for one in asked], [words["ids"][:0]] * len(asked)

    def tell(memory: str, logits: Sequence[Tensor], opened: int) -> None:
        bench.answered(asked, logits, memory, context, opened)

    tell("full", bench.after_all(words["ids"][-bench.sizes.most + ROOM :], texts, last), 0)
    none = bench.after(nothing, texts, last)
    tell("none", [told for told, _ in none], 0)
    by_passages = {2 * many * bench.model.chunk_tokens: many for many in OPENED}
    for size in by_passages:
        tell("last", [told for told, _ in bench.after([words["ids"][-size:]] * len(asked), texts, last)], size)

    def by_head() -> dict[tuple[str, int], list[Tensor]]:
        told = {}
        for side, words_N in words.items():
            held = bench.remember(words_N)

            def copied(found: list[Told], held: Remembered = held) -> list[Tensor]:
                of = zip(found, texts, last, strict=True)
                return [bench.copied(one, text_N, held, Q) for one, text_N, Q in of]

            if side == "memory":
                told["memory-copied", 0] = copied(none)
            for size, many in by_passages.items():
                found = bench.after([bench.opened(held, one.question_N, many) for one in asked], texts, last)
                told[f"{side}-opened", size], told[side, size] = [logits for logits, _ in found], copied(found)
        return told

    for (memory, opened), logits in bench.by_models(by_head).items():
        tell(memory, logits, opened)
    for size, many in by_passages.items() if has_bm25() else ():
        before = bench.by_bm25(words["memory"], [one.question_N for one in asked], many)
        tell("bm25", [told for told, _ in bench.after(before, texts, last)], size)


def _next_tokens(bench: Bench, texts: dict[str, Tensor]) -> None:
    """Bits a byte of 64 tokens of books after windows read in full, by how many tokens before these are remembered."""
    sizes = bench.sizes
    most = max(sizes.remembered) + max(sizes.windows)
    long = {name: ids_N for name, ids_N in texts.items() if len(ids_N) > most + PREDICTED}
    for number in range(sizes.places):
        for name, ids_N in long.items():
            room = len(ids_N) - most - PREDICTED
            for window in sizes.windows if not bench.over else ():
                ui.say(f"{name}: next tokens after {window:,}, place {number + 1} of {sizes.places}")
                _at_place(bench, ids_N, most + room * number // max(1, sizes.places - 1), window)


def _at_place(bench: Bench, ids_N: Tensor, begin: int, window: int) -> None:
    """Of the tokens of a book from one on, after a window."""
    sizes, first, many = bench.sizes, begin - window, OPENED[-1]
    text_N, size = ids_N[first : begin + PREDICTED], 2 * many * bench.model.chunk_tokens

    def tell(memory: str, logits: Tensor, context: int, opened: int = 0) -> None:
        bench.predicted(text_N, logits, memory, context, window, opened)

    def after(before_P: Tensor) -> Told:
        return bench.after([before_P], [text_N], [PREDICTED])[0]

    none, past_N = after(text_N[:0]), ids_N[first - max(sizes.remembered) : first]
    tell("none", none[0], 0)
    tell("last", after(past_N[-size:])[0], 0, size)
    told = bench.recalled(bench.tokenizer.decode(past_N.tolist(), skip_special_tokens=False))
    past = {"memory": ids_of(bench.tokenizer, told), "ids": past_N}

    def by_head() -> dict[tuple[str, int, int], list[Tensor]]:
        told = {}
        for context in sizes.remembered:
            held = {side: bench.remember(words_N[-context:]) for side, words_N in past.items()}
            for side in held:
                told[f"{side}-copied", context, 0] = [bench.copied(none, text_N, held[side], PREDICTED)]
            found = after(bench.opened(held["memory"], text_N[:-PREDICTED], many))
            told["memory-opened", context, size] = [found[0]]
            told["memory", context, size] = [bench.copied(found, text_N, held["memory"], PREDICTED)]
        return told

    for (memory, context, opened), logits in bench.by_models(by_head).items():
        tell(memory, logits[0], context, opened)
    for context in sizes.remembered:
        if has_bm25():
            (words_P,) = bench.by_bm25(past["memory"][-context:], [text_N[:-PREDICTED]], many)
            tell("bm25", after(words_P)[0], context, size)
        if context + window + PREDICTED <= sizes.most:
            tell("full", after(past_N[-context:])[0], context)


class _Full(Decoding):
    """The base, which keeps every token."""

    @torch.inference_mode()
    def __init__(self, model: Copying, ids_1N: Tensor):
        self.model = model
        h_1NW, self.past = model.states(model.begun(ids_1N))
        self.logits = model.told(h_1NW[:, -1])

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`."""
        h_11W, self.past = self.model.states(tokens_B[:, None], self.past)
        self.logits = self.model.told(h_11W[:, 0])
        return self.logits

    @property
    def nbytes(self) -> int:
        """As of `Decoding`."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.past.layers)


def _costs(bench: Bench, book_N: Tensor) -> list[Row]:
    """Seconds to read a context and a question, and for a token after them, and bytes kept; with `OPENED[0]`."""
    rows, model, question_N = [], bench.model, ids_of(bench.tokenizer, "\n\nThe code of Harwick is")
    for context in bench.sizes.contexts:
        ids_N = book_N[:context]
        text = bench.tokenizer.decode(ids_N.tolist(), skip_special_tokens=False)
        shape, model.shape = model.shape, replace(model.shape, opened=OPENED[0])

        def asked(held: Remembered) -> Decoding:
            return model.decoding(Prompt(question_N[None].to(model.device), [len(question_N)], index=held.index))

        def reading(text: str = text) -> Decoding:
            return asked(bench.remember(ids_of(bench.tokenizer, bench.recalled(text))))

        def kept(text: str = text) -> Decoding:
            return asked(bench.remember(ids_of(bench.tokenizer, text)))

        if not rows:
            reading()  # what the first call of all makes once is no part of a reading
        full_N = torch.cat([ids_N[-bench.sizes.most + ROOM :], question_N]).to(model.device)
        sides: dict[str, Callable[[], Decoding]] = {
            "memory": reading,
            "ids": kept,
            "full": partial(_Full, model, full_N[None]),
        }
        for side, read in sides.items():
            ui.say(f"costs of {context:,} tokens: {side}")
            reads, writes, size = [], [], 0
            for _ in range(1 if model.device.type == "cpu" else 3):
                decoding, spent = _timed(read)
                reads.append(spent)
                size, token_B = decoding.nbytes, decoding.logits.argmax(-1)
                writes.append(_timed(lambda d=decoding, t=token_B: [d.step(t) for _ in range(WRITTEN)])[1] / WRITTEN)
            disk = {"memory": bench.recalled.bytes, "ids": 2 * context}.get(side, size)
            found = {
                "seconds_to_read": median(reads),
                "seconds_per_token": median(writes),
                "bytes_kept": size,
                "bytes_on_disk": disk,
            }
            window, opened = len(question_N), 0 if side == "full" else 2 * OPENED[0] * model.chunk_tokens
            for metric, value in found.items():
                rows.append(
                    (
                        "cost",
                        "",
                        metric,
                        side,
                        context // model.chunk_tokens,
                        float(value),
                        "-",
                        0,
                        context,
                        window,
                        opened,
                        len(reads),
                    )
                )
        model.shape = shape
    return rows


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - began


def _asked_for(rows: list[Row]) -> dict[str, float]:
    """What was asked, at each context."""
    table = {(row[0], row[2], row[3], row[8], row[10]): row[5] for row in rows}
    size, told = min((row[10] for row in rows if row[10]), default=0), {}
    for context in dict.fromkeys(row[8] for row in rows if row[0] == "needle"):

        def of(task: str, metric: str, memory: str, opened: int, context: int = context) -> float | None:
            return table.get((task, metric, memory, context, opened))

        pairs = {
            "needles, memory / full context (asked, at least 0.9)": (
                of("needle", "exact_match", "memory", size),
                of("needle", "exact_match", "full", 0),
            ),
            "needles, memory / BM25 (asked, at least 1)": (
                of("needle", "exact_match", "memory", size),
                of("needle", "exact_match", "bm25", size),
            ),
            "seconds to read, full context / memory (asked, at least 10)": (
                of("cost", "seconds_to_read", "full", 0),
                of("cost", "seconds_to_read", "memory", size),
            ),
            "bytes kept, full context / memory (asked, at least 16)": (
                of("cost", "bytes_kept", "full", 0),
                of("cost", "bytes_kept", "memory", size),
            ),
        }
        told |= {f"{context:,} tokens: {what}": a / b for what, (a, b) in pairs.items() if a is not None and b}
    return told
