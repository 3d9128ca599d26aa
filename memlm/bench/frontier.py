"""How many characters go into a memory of so many numbers at 99% of the tokens of books that nothing was chosen on,
against the training time it takes: finished runs of the slots preset, each a point.

A run counts when its schedule has ended; a longer budget is another run, not a later point of the same one. Runs are
kept, so that a benchmark that was stopped goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D

from memlm import ui
from memlm.bench import figure
from memlm.bench.form import Options, Report
from memlm.data.corpus import Corpus
from memlm.files import read_json, sha256_json
from memlm.loading import load_model
from memlm.measure.intervals import independent, share_over_seeds, units_of
from memlm.measure.scores import score_chunks
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.presets import preset
from memlm.records import to_dict
from memlm.report.figures import INK, SERIES
from memlm.train.config import TrainConfig
from memlm.train.loop import train

ENOUGH = 0.99  # of the tokens of the part test
CHUNKS = 2048  # of it
WIDE, BLOCK = 1024, 128  # numbers from which on Muon's directions are made by blocks (LOG.md, 31)
GRID: Mapping[int, Sequence[int]] = {256: (64, 80, 96), 512: (128,), 1024: (128,)}  # numbers: tokens
BUDGETS = (400, 800)  # steps
RUNS = Path("runs/frontier")


@dataclass(frozen=True, kw_only=True)
class Point:
    """A finished run."""

    memory_dim: int
    chunk_tokens: int
    characters: float  # of a chunk, on average
    steps: int
    train_seconds: float
    token_accuracy: float
    token_accuracy_ci: Sequence[float]
    exact_match: float
    commit: str

    @property
    def enough(self) -> bool:
        """Whether so many characters are in so few numbers."""
        return self.token_accuracy >= ENOUGH


def plan(grid: Mapping[int, Sequence[int]], budgets: Sequence[int], data: Path, batch: int) -> Iterator[TrainConfig]:
    """All runs: cheap budgets first, and in a budget the shortest chunk of every memory, then the next of every one."""
    slots = preset("slots")
    for steps in sorted(budgets):
        for lengths in zip_longest(*(sorted(tokens) for tokens in grid.values())):
            for memory_dim, tokens in zip(grid, lengths, strict=True):
                if tokens is not None:
                    model = replace(slots.model, chunk_tokens=tokens, memory_dim=memory_dim)
                    pace = {"eval_every": max(1, steps // 4), "checkpoint_every": max(1, steps // 4)}
                    optim = replace(slots.optim, matrix_block=BLOCK if memory_dim >= WIDE else 0)
                    yield replace(slots, data=data, model=model, optim=optim, steps=steps, batch=batch, **pace)


def run(
    options: Options,
    *,
    grid: Mapping[int, Sequence[int]] = GRID,
    budgets: Sequence[int] = BUDGETS,
    batch: int = 64,
    runs: Path = RUNS,
) -> Report:
    """Run what fits into `options.seconds` of training altogether (everything, if they are not given).

    Runs that are kept from before count with the seconds they took, so that a benchmark that was stopped and called
    again tells the same as one that was not; to go further, give more seconds.
    """
    corpus, cap = options.corpus(), options.seconds or float("inf")
    points: list[Point] = []
    left_out, spent = [], 0.0
    second_a_step: dict[tuple[int, int], float] = {}  # of a memory and a chunk length
    for config in plan(grid, budgets, options.data, batch):
        memory_dim, tokens = shape = config.model.memory_dim, config.model.chunk_tokens
        name = f"{tokens} tokens in {memory_dim} numbers, {config.steps} steps"
        if spent >= cap or spent + config.steps * second_a_step.get(shape, 0.0) > cap:
            left_out.append(name)
            continue
        place = runs / f"{memory_dim}-{tokens}-{config.steps}-{sha256_json([corpus.hash, to_dict(config)])[:8]}"
        ui.say(f"{name} ({spent:.0f} s of training so far)")
        last = train(config, place, resume=place.exists())
        spent += last["train_seconds"]
        second_a_step[shape] = last["train_seconds"] / config.steps
        points.append(
            Point(
                memory_dim=memory_dim,
                chunk_tokens=tokens,
                steps=config.steps,
                train_seconds=last["train_seconds"],
                commit=read_json(place / "environment.json")["commit"],
                **tested(load_model(place), corpus),
            )
        )

    report = Report(
        name="frontier",
        columns=(
            *("numbers", "tokens", "characters", "steps", "training seconds"),
            *("tokens right, %", "95 %", "chunks without an error, %", f"at least {ENOUGH:.0%}"),
        ),
        setting=(
            f"slots preset with its own schedule over each budget of steps, batch {batch}, seed 0, data "
            f"{corpus.hash[:12]} (vocabulary {corpus.vocab_size}), part test, {CHUNKS:,} chunks at most; Muon by "
            f"blocks of {BLOCK} from {WIDE:,} numbers on; {spent:.0f} s of training altogether"
        ),
        device=options.device.type,
        figure=_plot(points, options.out / "frontier.png") if points else None,
        raw={"points": [to_dict(p) for p in points], "left_out": left_out},
    )
    for p in sorted(points, key=lambda p: (p.memory_dim, p.chunk_tokens, p.steps)):
        span = [100 * end for end in p.token_accuracy_ci]
        shares = (100 * p.token_accuracy, span, 100 * p.exact_match, p.enough)
        counts = (p.memory_dim, p.chunk_tokens, round(p.characters, 1), p.steps, round(p.train_seconds, 1))
        report.rows.append(counts + shares)
    for memory_dim, steps in product(grid, sorted({p.steps for p in points})):
        if best := most([p for p in points if (p.memory_dim, p.steps) == (memory_dim, steps)]):
            what = f"characters in {memory_dim} numbers, {steps} steps, {best.train_seconds:.0f} s"
            report.ratios[what] = best.characters
    for memory_dim in grid:
        if not most([p for p in points if p.memory_dim == memory_dim]):
            report.notes.append(f"No run has put its characters into {memory_dim} numbers at {ENOUGH:.0%}.")
    if left_out:
        report.notes.append(f"Left out, as {options.seconds:g} s were over or would have been: {'; '.join(left_out)}.")
    if len(commits := sorted({p.commit for p in points})) > 1:
        report.notes.append(f"Runs were kept from several commits: {', '.join(commits)}.")
    return report


def tested(model: TextMemory, corpus: Corpus) -> dict[str, Any]:
    """What a model's own decoder tells of chunks of the part test, and how many characters they have."""
    tokens_NT, documents_N = corpus.chunks("test", model.chunk_tokens, CHUNKS)
    assert model.recall is not None  # since it is an autoencoder
    right_NT = score_chunks(model.recall, Encoding(model).memories(tokens_NT), tokens_NT, model.device).right_NT
    share_SN = right_NT.mean(1)[None]
    return {
        "characters": sum(map(len, corpus.tokenizer.decode_batch(tokens_NT.tolist()))) / len(tokens_NT),
        "token_accuracy": float(share_SN.mean()),
        "token_accuracy_ci": share_over_seeds(share_SN, independent(share_SN[0], units_of(documents_N))),
        "exact_match": float(right_NT.all(1).mean()),
    }


def most(points: list[Point]) -> Point | None:
    """Of the points that are enough, the one with most characters; of equal ones the one that took least time."""
    return max((p for p in points if p.enough), key=lambda p: (p.characters, -p.train_seconds), default=None)


def frontier(points: list[Point]) -> list[tuple[float, float]]:
    """(seconds, characters) wherever more training first gives more characters."""
    line: list[tuple[float, float]] = []
    for p in sorted((p for p in points if p.enough), key=lambda p: (p.train_seconds, -p.characters)):
        if not line or p.characters > line[-1][1]:
            line.append((p.train_seconds, p.characters))
    return line


def _plot(points: list[Point], path: Path) -> str:
    drawing, axes = figure.over_seconds("characters of a memory")
    end, keys = 1.15 * max(p.train_seconds for p in points), []
    for memory_dim, colour in zip(sorted({p.memory_dim for p in points}), SERIES, strict=False):
        own = [p for p in points if p.memory_dim == memory_dim]
        if line := frontier(own):
            axes.step(*zip(*line, (end, line[-1][1]), strict=True), where="post", color=colour, linewidth=1.4)
        for p in own:
            face = colour if p.enough else "white"
            axes.plot(p.train_seconds, p.characters, "o", markersize=5, color=colour, markerfacecolor=face, zorder=3)
        keys.append(Line2D([], [], color=colour, label=f"{memory_dim} numbers"))
    for label, face in ((f"at least {ENOUGH:.0%} of tokens", INK), ("less", "white")):
        dot = {"linestyle": "", "marker": "o", "markersize": 5, "markerfacecolor": face}
        keys.append(Line2D([], [], color=INK, label=label, **dot))
    axes.set_ylim(bottom=0)
    drawing.legend(handles=keys, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure.save(drawing, path)
