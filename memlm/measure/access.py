"""What a model gets from its memories: its loss, copies, answers with them, without them, and with another text's.

A result is one number: a task, a figure, a condition, maybe a group of places (a chunk, a distance, a depth), with its
95 % interval over examples, how many memories could be read for it, and where it comes from.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError, WorkError
from memlm.measure.config import AccessConfig
from memlm.measure.controls import derangement
from memlm.measure.intervals import ratio
from memlm.measure.reading import LOWER_IS_BETTER, MEMORIES, Memory, PlaceScores, score_places, write_marked
from memlm.measure.subject import Subject, examined
from memlm.measure.tasks import TASKS, TRAINED, Task
from memlm.models.model import TextMemory
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch

_TOLD = (
    *(
        "task",
        "symbols",
        "mode",
        "metric",
        "memory",
        "group",
        "at",
        "value",
        "value_ci",
        "chance",
        "chance_told",
        "examples",
    ),
    *("tokens", "chunks", "memories_min", "memories_mean", "memories_max", "note"),
)


def measure_access(model: TextMemory, corpus: Corpus, config: AccessConfig, name: str) -> list[dict[str, Any]]:
    """Measure what a memory model with any reader, or a recurrent one, gets from its memories on held-out text.

    Returns rows, flat and of JSON values:
    `task` (causal, facts, quote, copy, blank, recall, needle), `symbols` (of facts, recall and needle: whether keys and
    values are `unseen` ones, which are what access is judged by, or `trained` ones; memlm/objectives/symbols.py),
    `mode` (`teacher-forced`: earlier tokens of the chunk are the true ones; `free-running`: the model's own; `both`: it
    reads blanks, so that the two are one), `metric`
    (cross_entropy in nats a token, bits_per_byte, token_accuracy, exact_match of whole examples, chunk_match, found:
    the memory that tells was opened), `memory` (`own`, `none`, `other`; `gain`: how much better `own` is than `none`,
    above 0 where memory helps), `group` and `at` (None: all scored places), `value`, `value_ci`, `chance` (a uniform
    guess among all values that are drawn from), `chance_told` (among those told), `examples` and `tokens` that were
    scored, `chunk_tokens`, `example_chunks` (C, as asked), `chunks` of what was made of it, `memories_min`,
    `memories_mean`, `memories_max` (how many the scored tokens could read), `model`, `kind`, `reader`, `trained_chunks`
    (of its longest training examples), `note`, `seed`, `data`, `vocab_size`, `device`, `machine`, `commit`.
    A task that does not fit has one row without value whose `note` says why.

    Raises:
        UsageError: another kind of model, another vocabulary, no such task, no text that long, or more chunks than
            there is room for.
        WorkError: the model's loss is no number.
    """
    with examined(model, corpus, name, config, _TOLD) as subject:
        return list(_rows(subject, config))


def _rows(subject: Subject, config: AccessConfig) -> Iterator[dict[str, Any]]:
    """All tasks, one after the other."""
    if unknown := sorted(set(config.tasks) - set(TASKS)):
        raise UsageError(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}.")
    for every in (TASKS, TRAINED):
        makers = {name: make for name, make in every.items() if not config.tasks or name in config.tasks}
        for name, task in subject.examples(makers, config.examples):
            if isinstance(task, str):
                if every is TASKS:  # a reason is told once
                    yield subject.row(task=name, note=task)
                continue
            yield from _teacher_forced(subject, name, task)
            if name == "copy" and config.free_running:
                yield from _free_running(subject, name, task, min(config.free_running, len(task.batch.labels)))


def _teacher_forced(subject: Subject, name: str, task: Task) -> Iterator[dict[str, Any]]:
    """All figures of a task, then those of its groups."""
    shuffled = derangement(len(task.batch.labels), np.random.default_rng(subject.seed))
    score = partial(score_places, subject.model, task.batch, shuffled_B=shuffled, device=subject.device)
    scores: dict[Memory, PlaceScores] = {memory: score(memory=memory) for memory in MEMORIES}
    mode = "both" if name == "blank" else "teacher-forced"
    yield from _figures(subject, name, task, mode, scores)
    if task.group_BN is not None:
        group_BN = task.group_BN.expand_as(task.batch.labels).numpy()
        for at in np.unique(group_BN[scores["own"].scored_BN]).tolist():
            parts: dict[Memory, PlaceScores] = {memory: part.at(group_BN == at) for memory, part in scores.items()}
            yield from _figures(subject, name, task, mode, parts, at=at)


def _free_running(subject: Subject, name: str, task: Task, count: int) -> Iterator[dict[str, Any]]:
    """A copy in which the model reads what it wrote."""
    batch, model, device = task.batch, subject.model, subject.device
    chosen = torch.arange(count) * len(batch.labels) // count
    assert batch.marks is not None
    less = Batch(batch.input_ids[chosen], batch.labels[chosen], batch.marks[chosen])
    ids_BN, marks_BC = less.input_ids.to(device), batch.marks[chosen].to(device)
    parts = zip(ids_BN.split(64), marks_BC.split(64), strict=True)
    own_BN = torch.cat([write_marked(model, *part) for part in parts])
    # Without memories nothing tells one text from another: all are written alike. With another text's memories
    # nothing but that text is read: what was written from it is held against this one.
    none_BN = write_marked(model, ids_BN[:1], marks_BC[:1], "none").expand_as(own_BN)
    shuffled = torch.from_numpy(derangement(count, np.random.default_rng(subject.seed)))
    written: dict[Memory, torch.Tensor] = {"own": own_BN, "none": none_BN, "other": own_BN[shuffled]}
    scored_BN = (less.labels != IGNORED).numpy()
    scores: dict[Memory, PlaceScores] = {
        memory: PlaceScores(np.zeros(scored_BN.shape), (text_BN.cpu() == less.labels).numpy(), scored_BN)
        for memory, text_BN in written.items()
    }
    metrics = tuple(metric for metric in task.metrics if metric not in LOWER_IS_BETTER)
    yield from _figures(subject, name, Task(less, metrics), "free-running", scores)


def _figures(
    subject: Subject, name: str, task: Task, mode: str, scores: dict[Memory, PlaceScores], at: int | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each figure (of a group the first) under each condition, and one for what the memory gains."""
    bytes_BN = subject.corpus.token_bytes[task.batch.labels.clamp(min=0).numpy()]  # asked for at scored places alone
    often_N = scores["own"].scored_BN.sum(0)
    first: dict[str, float] = {}
    for metric in task.metrics if at is None else task.metrics[:1]:
        if metric == "found" and scores["own"].found_BN is None:
            continue  # of readers that choose
        loss, accuracy = metric in LOWER_IS_BETTER, metric == "token_accuracy"
        parts_B2 = {memory: s.sums(metric, bytes_BN, subject.model.chunk_tokens) for memory, s in scores.items()}
        own_B2, none_B2 = parts_B2["own"], parts_B2["none"]
        kept_B = own_B2[:, 1] > 0  # examples with something in this group
        gain_B = (none_B2 - own_B2 if loss else own_B2 - none_B2)[:, 0]
        for memory, part_B2 in {**parts_B2, "gain": np.stack([gain_B, own_B2[:, 1]], 1)}.items():
            figure = ratio(part_B2[kept_B], subject.seed, share=memory != "gain" and not loss)
            if not np.isfinite(figure["value"]):
                raise WorkError(f"the loss of {subject.name} is no number ({name}): train it anew, with a lower rate.")
            first.setdefault(memory, figure["value"])
            yield subject.row(
                task=name,
                symbols=task.symbols,
                mode=mode,
                metric=metric,
                memory=memory,
                group=None if at is None else task.group,
                at=at,
                **figure,
                chance=task.chance if accuracy and memory != "gain" else None,
                chance_told=task.chance_told if accuracy and memory != "gain" else None,
                examples=int(kept_B.sum()),
                **subject.reach(often_N, memory if memory in MEMORIES else "own"),
            )
    if at is None:
        said = ", ".join(f"{memory} {first[memory]:.4f}" for memory in MEMORIES)
        of = f", {task.symbols} symbols" if task.symbols else ""
        ui.say(f"{subject.name}: {name} ({mode}{of}), {task.metrics[0].replace('_', ' ')} by memory: {said}")
