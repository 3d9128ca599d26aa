"""A memory model that finds among thousands of memories: facts, quotations and next tokens by how much was read, beside
a table of word pairs, a decoder without memories and one that reads all tokens; and what a context costs it, beside
these, the paper's reader, a recurrent model, and the tokens themselves in the place of memories.

(The preset `memory`, three seeds. Facts and quotations: objectives/facts.py; nothing of the held-out books was trained
on.)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from memlm import presets, ui
from memlm.bench import figure
from memlm.bench.form import Options, Report
from memlm.bench.questions import COLUMNS, CONTEXTS, TOLD, Side, asked, figure_of, setting_of
from memlm.bench.serving import Serving
from memlm.bench.timing import in_turn
from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus
from memlm.data.sampler import ChunkSampler
from memlm.decoding.cached import Decoding, Prompt
from memlm.loading import build_model, load_model
from memlm.measure.intervals import bootstrap
from memlm.measure.reading import score_places
from memlm.models.memory_model import MemoryModel
from memlm.models.model import Generative
from memlm.models.shapes import FullContextShape, MemoryShape, RecurrentShape
from memlm.objectives.batch import Batch
from memlm.objectives.registry import build_objective
from memlm.objectives.text import Same
from memlm.readers.config import NoReader, VectorReader
from memlm.readers.pointer import Pointer
from memlm.report.figures import SERIES, STYLE
from memlm.train.config import Curriculum, TrainConfig
from memlm.train.curriculum import train_curriculum
from memlm.train.loop import train
from memlm.train.memories import stream_memories
from memlm.train.start import freeze

SEEDS = (0, 1, 2)
READ = 16  # memories at most whose tokens are given to the decoder that reads all
COST = (1024, 65_536, 1_048_576)  # tokens of a context that is served
FULL_CHUNKS = 4  # of the plain transformer's training examples: as many tokens as the memory model's decoder reads
PREDICTED, WINDOWS = 8, 192  # chunks of next tokens after a context; so often in a book at most, never the same twice
_MOST = 0.6  # of a book, that a context takes at most
STEPS = (4, 64, 256, 1024)  # memories before a training step that is timed
FLAT = "memory", "ids"  # what reads the longest of them too
WRITTEN = 64  # tokens after a context, whose time is taken


def run(
    options: Options,
    *,
    plan: Curriculum | None = None,
    seeds: Sequence[int] = SEEDS,
    contexts: Sequence[int] = CONTEXTS,
    cost: Sequence[int] = COST,
) -> Report:
    """Train what is not trained yet, beside the data, and ask it."""
    tune_cpu()
    corpus = options.corpus()
    plan = plan or presets.memory()
    sides = _trained(options, plan, seeds)
    found, first = sides["memory"], cast(MemoryModel, sides["memory"].models[0])
    rows = [*asked("memory", found, corpus, contexts), *_next_tokens(sides, corpus, contexts)]
    served, ratios = _cost(first, cost, corpus)
    steps = _steps(first, replace(plan.stages[plan.last], data=options.data), corpus)
    short, *_, long = steps
    ratios[f"training step after {long} memories / after {short} (asked, at most 2)"] = steps[long] / steps[short]
    served["a training step"] = ", ".join(f"after {K} memories {s:.3f} s" for K, s in steps.items())
    nats = {row[1:5]: row[5] for row in rows if row[0] == "causal"}
    for (text, _, memory, chunks), value in nats.items():
        if memory == "memory":
            what = f"{text}: next tokens after {chunks:,} memories / a decoder without memories"
            ratios[what] = value / nats[text, "cross_entropy", "none", 0]
    report = Report(
        name="far",
        columns=COLUMNS,
        rows=rows,
        ratios=ratios,
        setting=setting_of("memory", cast(Generative, first), seeds, corpus, options.data.name, plan),
        device="cpu",
        notes=[
            TOLD,
            "memory: with what it remembers; none: a decoder of the same size that reads no memory; full: the same, "
            "which reads all tokens. Both are trained on as many tokens as the memory model's decoder, full with "
            f"{FULL_CHUNKS} chunks at once.",
            "causal: nats a token of the same chunks of a book, the first after so many memories; causal-seen: of "
            "tokens that follow the same two tokens in the context too, causal-new: of the others (which these are "
            "depends on the context). Settings were chosen on other books (LOG.md, 20, 40). Intervals "
            "over examples of all seeds, 95 %. causal-rise: nats more than after the context before it (the first: "
            "than without memories), of the same chunks, seeds and chunks resampled; a rise is one whose interval is "
            "above 0.",
            "Served are the first seed's model, from memories and from ids (its lists are made of them, and the newest "
            "memories alone are encoded), and models with weights that nobody trained, on the same decoder: full, "
            "vector (the paper's reader), recurrent. On disk a memory takes "
            f"{4 * first.memory_dim} bytes in fp32, its tokens {2 * first.chunk_tokens}.",
            *(f"{name}: {told}" for name, told in served.items()),
        ],
        told={"seeds": list(seeds)},
        raw={"served": served},
    )
    report.figure = _plot(rows, options.out / "far.png")
    return report


def _plot(rows: Sequence[tuple[Any, ...]], path: Path) -> str:
    """Values right, and nats of next tokens against those of a decoder without memories, over memories."""
    with rc_context(STYLE):
        drawn = Figure(figsize=(7.6, 3.2), layout="constrained")
        right, nats = drawn.subplots(1, 2)
        right.set(xscale="log", xlabel="memories", ylabel="right, %", title="asked after so many memories")
        nats.set(xscale="log", xlabel="memories", ylabel="nats a token", title="next tokens (dotted: no memories)")
        for axes in (right, nats):
            axes.grid(axis="both")
            axes.xaxis.set_major_locator(FixedLocator([1, 4, 16, 64, 256, 1024, 4096, 16384]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lines: dict[tuple[Any, str, str], dict[int, float]] = {}
    for task, text, metric, memory, chunks, value, *_ in rows:
        if metric == "token_accuracy" and (memory == "memory" or (task, memory) == ("facts-changed", "table")):
            label = task if memory == "memory" else f"{task}, a table"
            lines.setdefault((right, label, memory), {})[chunks] = 100 * value
        if task == "causal" and memory == "memory":
            lines.setdefault((nats, text, memory), {})[chunks] = value
    for axes in (right, nats):
        own = [(name, memory, line) for (of, name, memory), line in lines.items() if of is axes]
        for (name, memory, line), colour in zip(own, SERIES, strict=False):
            axes.plot([*line], [*line.values()], "o--" if memory == "table" else "o-", color=colour, label=name, ms=4)
            if axes is nats:
                axes.axhline(next(r[5] for r in rows if r[0] == "causal" and r[1] == name), color=colour, ls=":", lw=1)
        axes.legend(frameon=False, fontsize=7)
    return figure.save(drawn, path)


def _trained(options: Options, plan: Curriculum, seeds: Sequence[int]) -> dict[str, Side]:
    """The models, trained where they are not there yet."""
    place = options.data.with_name(f"{options.data.name}-runs")
    if options.seconds is not None:
        plan = plan.each(max_seconds=options.seconds)
    shape = cast(MemoryShape, plan.stages[plan.last].model)
    language = plan.stages["language"]
    chunks = cast(MemoryShape, language.model).chunks
    none = replace(language, model=replace(shape, chunks=chunks, reader=NoReader()), start=None, frozen=())
    full = FullContextShape(chunks=FULL_CHUNKS, chunk_tokens=shape.chunk_tokens, decoder=shape.decoder)
    wide = replace(none, model=full, batch=max(1, none.batch * chunks // FULL_CHUNKS))
    others = {"none": none, "full": wide}
    sides = {"memory": Side([], plan.stages[plan.last].context), "none": Side([], 0), "full": Side([], FULL_CHUNKS - 1)}
    for seed in seeds:
        ui.say(f"seed {seed}")
        train_curriculum(plan.each(data=options.data, seed=seed), place / f"memory-{seed}", resume=True)
        for name, config in others.items():
            train(replace(config, data=options.data, seed=seed), place / f"{name}-{seed}", resume=True)
        for name, side in sides.items():
            side.models.append(cast(Generative, load_model(place / f"{name}-{seed}")).eval())
    return sides


def _next_tokens(sides: dict[str, Side], corpus: Corpus, contexts: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Rows of the loss of the same chunks of a book after ever longer contexts, as long as most of the book."""
    T, stream_N = sides["memory"].models[0].chunk_tokens, np.asarray(corpus.test.tokens)
    for name, (first, end) in zip(corpus.test.names, pairwise(corpus.test.documents.tolist()), strict=True):
        room = [K for K in (0, *contexts) if _MOST * (end - first) >= (K + PREDICTED) * T]
        if not room:
            continue
        begin = first + (room[-1] + PREDICTED) * T
        rows = min(WINDOWS, 1 + (end - 1 - begin) // (PREDICTED * T))
        ends_B = np.linspace(begin, end - 1, rows).astype(int)
        shorter_SB: np.ndarray | None = None
        for K in room:
            windows_BN = stream_N[ends_B[:, None] + np.arange(-(K + PREDICTED) * T, 0)].astype(np.int64)
            batch, seen_BN = Same(own=False)(torch.from_numpy(windows_BN), T, K), _seen(windows_BN, T * K)
            read = ["none", "full"] if not K else ["memory", "full"] if K <= READ else ["memory"]
            for side in read:
                ui.say(f"{name}: next tokens after {K:,} memories, {side}")
                models, trained = sides[side].models, sides[side].trained_chunks
                scores = [score_places(model, batch, "own", np.arange(rows), model.device) for model in models]
                yield figure_of("causal", name, "cross_entropy", side, K, scores, trained)
                for kind, of_BN in {"causal-seen": seen_BN, "causal-new": ~seen_BN}.items() if K else ():
                    parts = [s.at(of_BN) for s in scores]
                    yield figure_of(kind, name, "cross_entropy", side, K, parts, trained)
                if side == read[0]:
                    nats_SB = np.stack([s.nats_BN.sum(1) / s.scored_BN.sum(1) for s in scores])
                    if shorter_SB is not None:
                        rise_SB1, count = (nats_SB - shorter_SB)[..., None], sum(int(s.scored_BN.sum()) for s in scores)
                        ci = bootstrap(lambda m_R1: m_R1[:, 0], rise_SB1, np.arange(rows))
                        row = "causal-rise", name, "cross_entropy", side, K, float(rise_SB1.mean()), ci
                        yield (*row, trained, rise_SB1.size, count)
                    shorter_SB = nats_SB


def _seen(windows_BN: np.ndarray, context: int) -> np.ndarray:
    """Whether each token follows the same two tokens somewhere in the context too: bool [B, N]."""
    codes_BN = np.pad(windows_BN[:, :-2] << 40 | windows_BN[:, 1:-1] << 20 | windows_BN[:, 2:], ((0, 0), (2, 0)))
    return np.stack([np.isin(codes, codes[2:context]) for codes in codes_BN])


def _cost(model: MemoryModel, cost: Sequence[int], corpus: Corpus) -> tuple[dict[str, Any], dict[str, float]]:
    """What contexts cost to read, to keep and to go on from; and the ratios that were asked."""
    sides = _served(model, corpus.vocab_size)
    stream_N = torch.from_numpy(np.resize(np.asarray(corpus.train.tokens), max(cost)).astype(np.int64))
    told: dict[str, Any] = {}
    times: dict[tuple[str, int], tuple[float, float, int]] = {}
    for tokens in cost:
        for name, read in sides.items():
            if name not in FLAT and tokens > COST[1]:
                continue  # hours
            ui.say(f"{tokens:,} tokens, {name}")
            serving = Serving(partial(read, stream_N[None, :tokens]), WRITTEN)
            reading = in_turn({"read": serving.prefill}, rounds=1)["read"]
            writing = in_turn({"write": serving.go_on}, rounds=3)["write"]
            took, write, kept = reading[0], median(writing) / WRITTEN, serving.cache_bytes
            times[name, tokens] = took, write, kept
            told[f"{tokens:,} tokens, {name}"] = f"read in {took:.2f} s, {1000 * write:.2f} ms a token, {kept:,} bytes"
    ratios = {}
    short, *longer = cost
    for tokens, most in zip(longer, (1.5, 3), strict=False):
        what = f"time per token after {tokens:,} tokens / after {short:,} (asked, at most {most})"
        ratios[what] = times["memory", tokens][1] / times["memory", short][1]
    both = max(n for n in cost if ("full", n) in times)
    names = ("time to read", "time per token", "bytes kept")
    for side, shown in {"full": "full context", "vector": "vector", "recurrent": "recurrent", "ids": "ids"}.items():
        for what, ours, theirs in zip(names, times["memory", both], times[side, both], strict=True):
            ratios[f"{what}, {both:,} tokens, {shown} / memory"] = theirs / ours
    return told, ratios


def _served(model: MemoryModel, vocab_size: int) -> dict[str, Callable[[Tensor], Decoding]]:
    """What reads token ids [1, N]: the memory model, from its memories and from the tokens of these in their place; and
    on the same decoder, with weights that nobody trained, full context, the paper's reader and the recurrent model."""
    T, shape = model.chunk_tokens, cast(MemoryShape, model.config.read_shape())
    others = {
        "full": FullContextShape(chunk_tokens=T, decoder=shape.decoder),
        "vector": MemoryShape(encoder=shape.encoder, reader=VectorReader(), decoder=shape.decoder),
        "recurrent": RecurrentShape(encoder=replace(shape.encoder, begins=True), decoder=shape.decoder),
    }
    built = {name: cast(Generative, build_model(one, vocab_size, 0).eval()) for name, one in others.items()}

    def from_ids(ids_1N: Tensor) -> Decoding:
        words_KT, reader = ids_1N.view(-1, T), cast(Pointer, model.reader)
        newest_kM = model.encode_chunks(words_KT[None, max(0, len(words_KT) - (reader.window or 0)) :])[0]
        return model.decoding(Prompt(ids_1N[:, :0], [0], index=reader.index_words(words_KT, newest_kM)))

    def from_text(one: Generative, ids_1N: Tensor) -> Decoding:
        return one.decoding(Prompt(ids_1N, [ids_1N.shape[1]]))

    sides = {name: partial(from_text, one) for name, one in {"memory": model, **built}.items()}
    return {**sides, "ids": from_ids}


def _steps(model: MemoryModel, stage: TrainConfig, corpus: Corpus) -> dict[str, float]:
    """Seconds of a step of a stage after so many memories each, what is kept of them on disk and the batch included."""
    T, V, config = model.chunk_tokens, corpus.vocab_size, replace(stage, context=0, cache_memories="on")
    trained = cast(MemoryModel, build_model(stage.model, V, 0).train())
    trained.load_state_dict(model.state_dict())
    freeze(trained, stage.frozen, fresh_embedding=False)
    objective = build_objective(stage.objective, V)

    def step_after(K: int) -> Callable[[], None]:
        window, numbers = K * T + stage.model.window_tokens, count()
        sampler = ChunkSampler(corpus.train.tokens, window, stage.batch, 0, align=T)

        def batch_at(number: int) -> Batch:
            return objective(torch.from_numpy(sampler.batch_at(number)), T, K)

        memories = stream_memories(config, trained, corpus, window, batch_at(0))
        assert memories is not None  # since they are asked to be kept

        def step() -> None:
            batch = batch_at(number := next(numbers))
            known = memories.of(sampler.starts_at(number), batch)
            cast(Any, trained(**batch.inputs(), own_memories=known).loss).backward()

        return step

    room = len(corpus.train.tokens) // stage.batch - stage.model.window_tokens
    times = in_turn({f"{K:,}": step_after(K) for K in STEPS if room >= K * T}, rounds=5)
    return {name: median(seconds) for name, seconds in times.items()}
