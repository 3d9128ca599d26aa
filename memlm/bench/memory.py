"""What a context costs a decoder: time until it is read, time for each token after it, the cache that is kept of it,
and the memory and time of a training step over it; for one that reads all tokens, one that reads memories of chunks,
the same with memories that were kept, and one with a single carried memory.

(Paper, What it costs to serve. The sides are those of bench/serving.py, a step's peak is that of bench/peak.py.)
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import torch

from memlm import ui
from memlm.bench import figure, serving
from memlm.bench.form import Options, Report
from memlm.bench.peak import Step, StepCost, room, step_cost
from memlm.bench.serving import FULL, KEPT, MEMORY, POINTWISE, RECURRENT, SIDES, Served, Shapes, serve, sides
from memlm.bench.timing import pair_ratio
from memlm.cpu import tune_cpu
from memlm.errors import WorkError
from memlm.models.model import Generative
from memlm.nn.config import StackConfig

CONTEXTS = (256, 1024, 4096, 16384, 65536)
TOKENS, VOCABULARY = 256, 1024  # T, and how many token ids there are
STACK = StackConfig(kind="transformer", width=256, layers=2, heads=4)
SECONDS = 80.0
ROUNDS = 3, 9  # of reading and writing: at least, at most
SHORTER = 8, 16  # how many times shorter the chunks of other comparisons with the recurrent side are

ServedPoints = dict[str, dict[int, Served]]  # by side and context
StepPoints = dict[str, dict[int, StepCost]]


def run(
    options: Options,
    *,
    contexts: Sequence[int] = CONTEXTS,
    chunk_tokens: int = TOKENS,
    stack: StackConfig = STACK,
    vocab_size: int = VOCABULARY,
    brief: bool = False,
    names: Sequence[str] = SIDES,
) -> Report:
    """Serve and train every side at every context (whole chunks) that fits into half of `options.seconds` for either.

    `brief`: no training steps, no batches, no other chunks: reading and writing one text has all the time. `names`: the
    sides, full context and memory at least; what is told of the recurrent one is left out without it.
    """
    tune_cpu()  # as in training
    device = options.device
    seconds = (options.seconds or SECONDS) / (1 if brief else 2)
    shapes = {name: shape for name, shape in sides(chunk_tokens, stack).items() if name in names}
    models = serving.models_of(shapes, vocab_size, device)
    served: ServedPoints = {name: {} for name in shapes}
    steps: StepPoints = {name: {} for name in shapes}
    left_out = [*serve_all(served, models, contexts, seconds)]
    if not brief:
        left_out += train_all(steps, shapes, contexts, vocab_size, seconds, device)
    for name, of in served.items():
        for context, one in of.items():
            formula = serving.cache_bytes(name, context, chunk_tokens, stack)
            assert one.cache_bytes == formula, f"{name}, {context}: {one.cache_bytes} bytes, not {formula}"

    report = Report(
        name="memory",
        columns=(
            *("context, tokens", "side", "prefill, s (median)", "ms per token (median)", "cache, bytes"),
            *("peak of a training step, MB", "training step, s"),
        ),
        rows=[
            (context, name, *_cells(served[name].get(context), steps[name].get(context)))
            for context in contexts
            for name in shapes
            if context in served[name] or context in steps[name]
        ],
        setting=(
            f"decoder and encoder: {stack.layers} {stack.kind} layers of width {stack.width}, {stack.heads} heads; "
            f"chunks of {chunk_tokens} tokens, one vector a memory; vocabulary {vocab_size}; random weights and "
            f"tokens, fp32, one text; reading and writing in turn, training steps one after the other"
        ),
        device=device.type,
        notes=[
            f"A turn reads the context and writes {chunk_tokens} tokens after it, greedily: time per token is the mean "
            "over them, of which one fills a chunk and has its memory formed.",
            "Cache bytes are those of the tensors that are kept, and equal layers x 2 x width x 4 x (N/T + T) for "
            "memories, (N + T) for the full context, (1 + T) for the recurrent side; the ratio counts N "
            "for the full.",
            "Frozen and kept: the memories of the context are given; what is written is encoded. Its training step "
            "leaves out the encoder.",
            "A training step is forward and backward, no optimiser; its peak is what the process holds beyond weights "
            "and libraries, gradients included"
            + (", in a process of its own." if device.type == "cpu" else ", as torch counts it."),
            *([f"Left out: {'; '.join(left_out)}."] if left_out else []),
        ],
    )
    report.figure = _plot(report.rows, options.out / "memory.png")
    ratios, raw = report.ratios, report.raw
    many, rows = 64 * chunk_tokens, 4 if device.type == "cpu" else 16
    if many in served[FULL] and many in served[MEMORY]:
        full, memory = served[FULL][many], served[MEMORY][many]
        what = f"time per token at {many:,} tokens, full context / memory"
        ratios[f"{what} (asked, at least 4)"] = pair_ratio(full.per_token, memory.per_token)
        if not brief:
            together = serve({name: models[name] for name in (FULL, MEMORY)}, many, ROUNDS[0], rows=rows, warm_up=1)
            ratios[f"{what}, {rows} texts at once"] = pair_ratio(together[FULL].per_token, together[MEMORY].per_token)
            raw["together"] = {name: {"texts": rows, **asdict(one)} for name, one in together.items()}
        kept = serving.cache_bytes(FULL, many - chunk_tokens, chunk_tokens, stack)  # without the room for a chunk more
        ratios[f"cache at {many:,} tokens, full context / memory (asked, at least 16)"] = kept / memory.cache_bytes
    if RECURRENT in served:
        longest = max(served[MEMORY].keys() & served[RECURRENT].keys())
        what = f"prefill of {longest:,} tokens, recurrent / memory"
        carried, read = served[RECURRENT][longest], served[MEMORY][longest]
        ratios[f"{what} (asked, at least 2)"] = pair_ratio(carried.prefill, read.prefill)
    variants = {}
    if RECURRENT in served and not brief:
        variants = {f"chunks of {n}": sides(n, stack) for n in (max(1, chunk_tokens // by) for by in SHORTER)}
        variants["encoder of the slots preset"] = sides(chunk_tokens, stack, POINTWISE)
    for variant, of_all in variants.items():
        context = affordable(served[RECURRENT], seconds)
        shorter = serving.models_of({name: of_all[name] for name in (MEMORY, RECURRENT)}, vocab_size, device)
        two = serve(shorter, context, ROUNDS[0], warm_up=1)
        shown = f"prefill of {context:,} tokens, recurrent / memory, {variant}"
        ratios[shown] = pair_ratio(two[RECURRENT].prefill, two[MEMORY].prefill)
        raw[variant] = {name: asdict(one) for name, one in two.items()}
    for told, points in (("served", served), ("steps", steps)):
        raw[told] = {name: {n: asdict(one) for n, one in of.items()} for name, of in points.items()}
    return report


def serve_all(
    served: ServedPoints, models: Mapping[str, Generative], contexts: Sequence[int], seconds: float
) -> Iterator[str]:
    """Fill `served` with every side and context that fits into memory and `seconds` a side.

    Yields:
        From which context on a side was left out, and why.
    """
    left = dict.fromkeys(models, seconds)
    for context in contexts:
        expected = {}
        for name in [*left]:
            read = forecast({n: s.prefill[-1] for n, s in served[name].items()}, context)
            token = forecast({n: s.per_token[-1] for n, s in served[name].items()}, context, powers=(0.0, 1.0))
            expected[name] = read + models[name].chunk_tokens * token
            if (least := ROUNDS[0] * expected[name]) > left[name]:
                yield f"reading with {name} from {context:,} tokens on (about {least:.0f} s)"
                del expected[name], left[name]
        if not left:
            break
        ui.say(f"{context:,} tokens: reading and writing")
        slowest = max(expected.values())
        rounds = int(min(left.values()) / (4 * slowest)) if slowest else ROUNDS[1]
        own = {name: models[name] for name in left}
        try:
            found = serve(own, context, min(max(rounds, ROUNDS[0]), ROUNDS[1]), warm_up=not slowest)
        except torch.OutOfMemoryError:  # a GPU's; a CPU's end would be the process's
            yield f"reading from {context:,} tokens on (memory)"
            break
        for name, one in found.items():
            served[name][context] = one
            left[name] -= sum(one.prefill) + models[name].chunk_tokens * sum(one.per_token)


def train_all(
    steps: StepPoints, shapes: Shapes, contexts: Sequence[int], vocab_size: int, seconds: float, device: torch.device
) -> Iterator[str]:
    """Fill `steps`, as `serve_all` fills `served`."""
    left = dict.fromkeys(shapes, seconds)
    for context, name in ((context, name) for context in contexts for name in shapes):
        if name not in left:
            continue
        expected = forecast({n: s.seconds for n, s in steps[name].items()}, context)
        size = forecast({n: float(s.peak_bytes) for n, s in steps[name].items()}, context)
        why = f"about {expected:.0f} s" if expected > left[name] else "memory" if size > 0.8 * room(device) else ""
        started = time.perf_counter()
        if not why:
            ui.say(f"{context:,} tokens: a training step of {name}")
            step = Step(shape=shapes[name], vocab_size=vocab_size, tokens=context, kept=name == KEPT)
            try:
                steps[name][context] = step_cost(step, device)
            except WorkError:
                why = "memory"
        left[name] -= time.perf_counter() - started
        if why:
            yield f"training steps of {name} from {context:,} tokens on ({why})"
            del left[name]


def affordable(recurrent: Mapping[int, Served], seconds: float) -> int:
    """The longest context that chunk after chunk is read in `seconds` where chunks are shorter; else the shortest."""
    rounds = max(SHORTER) * (1 + ROUNDS[0])
    return max((n for n, one in recurrent.items() if rounds * median(one.prefill) <= seconds), default=min(recurrent))


def forecast(seen: Mapping[int, float], context: int, powers: tuple[float, float] = (1.0, 2.0)) -> float:
    """What something that took so much at these contexts takes at a longer one; 0 if nothing is known.

    A power of the context through the last two points, within these two; by a single point the second of them: reading
    all tokens grows with their square at most, writing one with their number.
    """
    if not seen:
        return 0.0
    (before, less), (last, most) = sorted({0: 0.0, **seen}.items())[-2:]
    power = log(most / less) / log(last / before) if less > 0 and most > 0 else powers[1]
    return most * (context / last) ** min(max(power, powers[0]), powers[1])


def _cells(served: Served | None, step: StepCost | None) -> tuple[Any, ...]:
    """What a row of the table tells after context and side."""
    read = (median(served.prefill), 1000 * median(served.per_token), served.cache_bytes) if served else ("-",) * 3
    return *read, *((step.peak_bytes / 1e6, step.seconds) if step else ("-",) * 2)


def _plot(rows: Sequence[tuple[Any, ...]], path: Path) -> str:
    """The table's columns over the context, bytes as megabytes."""
    titles = ("prefill, s", "time per token, ms", "cache, MB", "peak memory of a training step, MB")
    lines = {title: {row[1]: {} for row in rows} for title in titles}
    for context, side, *costs in rows:
        for title, cost in zip(titles, costs[:4], strict=True):
            if cost != "-":
                lines[title][side][context] = cost / 1e6 if title == "cache, MB" else cost
    # The kept memories' line lies on that of memories in two of the plots, and both are to be seen.
    return figure.over_context(lines, path, dashed=(KEPT,))
