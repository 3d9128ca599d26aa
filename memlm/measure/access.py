"""What a model gets from its memories: its loss, copies, answers with them, without them, and with another text's.

A result is one number: a task, a figure, a condition, maybe a group of places (a chunk, a distance, a depth), with its
95 % bootstrap interval over examples, how many memories could be read for it, and where it comes from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError, WorkError
from memlm.measure.bootstrap import interval, share_interval
from memlm.measure.config import AccessConfig
from memlm.measure.controls import derangement
from memlm.measure.figures import LOWER_IS_BETTER, PlaceScores, places, sums
from memlm.measure.freerun import write_marked
from memlm.measure.reading import MEMORIES, Memory, memories_read, score_places
from memlm.measure.subject import Subject, examined
from memlm.measure.tasks import TASKS, Task
from memlm.models.model import Generative, TextMemory
from memlm.nn.loss import IGNORED
from memlm.objectives.batch import Batch

Array = np.ndarray


def measure_access(model: TextMemory, corpus: Corpus, config: AccessConfig, name: str) -> list[dict[str, Any]]:
    """Measure what a model gets from its memories on held-out text.

    Args:
        model: a memory model with any reader, or a recurrent one.
        corpus: the data it was trained on.
        config: how many examples, of how many chunks.
        name: what the model is called in the report.

    Returns:
        rows, flat and of JSON values:
        `task` (causal, copy, blank, recall, needle), `mode` (`teacher-forced`: earlier tokens of the chunk are the true
        ones; `free-running`: the model's own; `both`: it reads blanks, so that the two are one), `metric`
        (cross_entropy in nats a token, bits_per_byte, token_accuracy, exact_match of whole examples, chunk_match),
        `memory` (`own`, `none`, `other`; `gain`: how much better `own` is than `none`, above 0 where memory helps),
        `group` and `at` (None: all scored places), `value`, `value_ci`, `chance` (a uniform guess among all values that
        are drawn from), `chance_told` (among those told), `examples` and `tokens` that were scored, `chunk_tokens`,
        `chunks` of an example, `memories_min`, `memories_mean`, `memories_max` (how many the scored tokens could read),
        `model`, `kind`, `reader`, `note`, `seed`, `data`, `vocab_size`, `device`, `machine`, `commit`.
        A task that does not fit has one row without value whose `note` says why.

    Raises:
        UsageError: another kind of model, another vocabulary, no text that long, or more chunks than there is room for.
        WorkError: the model's loss is no number.
    """
    with examined(model, corpus, name, config.seed, config.device) as subject:
        return list(_Access(subject, config).rows())


@dataclass(frozen=True)
class _Access:
    """One model's measurement."""

    subject: Subject
    config: AccessConfig

    @property
    def model(self) -> Generative:
        """What is measured."""
        return self.subject.model

    def rows(self) -> Iterator[dict[str, Any]]:
        """All tasks, one after the other."""
        chunks = self.config.chunks or self.model.config.read_shape().chunks
        for name, (make, chunks_of_text) in TASKS.items():
            if chunks < 2:
                yield self._row(name, note="one chunk has no earlier one to remember.")
                continue
            windows_BW = self.subject.windows(chunks_of_text(chunks), self.config.examples)
            try:
                task = make(windows_BW, self.model.chunk_tokens, self.model.config.vocab_size, self.config.seed)
            except UsageError as why:  # this task is not for chunks like these: the others may be
                yield self._row(name, note=str(why))
                continue
            yield from self._teacher_forced(name, task)
            if name == "copy" and self.config.free_running:
                yield from self._free_running(name, task)

    def _teacher_forced(self, name: str, task: Task) -> Iterator[dict[str, Any]]:
        """All figures of a task, then those of its groups."""
        shuffled = derangement(len(task.batch.labels), np.random.default_rng(self.config.seed))
        score = partial(score_places, self.model, task.batch, shuffled_B=shuffled, device=self.subject.device)
        scores: dict[Memory, PlaceScores] = {memory: score(memory=memory) for memory in MEMORIES}
        mode = "both" if name == "blank" else "teacher-forced"
        yield from self._figures(name, task, mode, scores, task.metrics)
        if task.group is None or task.group_BN is None:
            return
        group_BN = task.group_BN.expand_as(task.batch.labels).numpy()
        for at in np.unique(group_BN[scores["own"].scored_BN]).tolist():
            parts: dict[Memory, PlaceScores] = {memory: places(part, group_BN == at) for memory, part in scores.items()}
            yield from self._figures(name, task, mode, parts, task.metrics[:1], group=task.group, at=at)

    def _free_running(self, name: str, task: Task) -> Iterator[dict[str, Any]]:
        """A copy in which the model reads what it wrote."""
        count = min(self.config.free_running, len(task.batch.labels))
        chosen = torch.arange(count) * len(task.batch.labels) // count
        marks, labels_BN = task.batch.marks, task.batch.labels[chosen]
        assert marks is not None
        device = self.subject.device
        ids_BN, marks_BC = task.batch.input_ids[chosen].to(device), marks[chosen].to(device)
        own_BN = torch.cat(
            [write_marked(self.model, *pair) for pair in zip(ids_BN.split(64), marks_BC.split(64), strict=True)]
        )
        # Without memories nothing tells one text from another: all are written alike. With another text's memories
        # nothing but that text is read: what was written from it is held against this one.
        none_BN = write_marked(self.model, ids_BN[:1], marks_BC[:1], "none").expand_as(own_BN)
        shuffled = torch.from_numpy(derangement(count, np.random.default_rng(self.config.seed)))
        written: dict[Memory, torch.Tensor] = {"own": own_BN, "none": none_BN, "other": own_BN[shuffled]}
        scored_BN = (labels_BN != IGNORED).numpy()
        scores: dict[Memory, PlaceScores] = {
            memory: PlaceScores(np.zeros(scored_BN.shape), (text_BN.cpu() == labels_BN).numpy(), scored_BN)
            for memory, text_BN in written.items()
        }
        metrics = tuple(metric for metric in task.metrics if metric not in LOWER_IS_BETTER)
        less = Task(Batch(task.batch.input_ids[chosen], labels_BN, marks[chosen]), metrics)
        yield from self._figures(name, less, "free-running", scores, metrics)

    def _figures(
        self,
        name: str,
        task: Task,
        mode: str,
        scores: dict[Memory, PlaceScores],
        metrics: tuple[str, ...],
        group: str | None = None,
        at: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A row for each figure under each condition, and one for what the memory gains."""
        often_N = scores["own"].scored_BN.sum(0)  # how often each place is scored
        chunk_N = np.arange(len(often_N)) // self.model.chunk_tokens
        told: dict[str, float] = {}
        for metric in metrics:
            parts_B2: dict[str, Array] = {
                memory: sums(metric, part, self._bytes(task), self.model.chunk_tokens)
                for memory, part in scores.items()
            }
            kept_B = parts_B2["own"][:, 1] > 0  # examples with something in this group
            gain_B = parts_B2["own"][:, 0] - parts_B2["none"][:, 0]
            gain_B = -gain_B if metric in LOWER_IS_BETTER else gain_B
            parts_B2["gain"] = np.stack([gain_B, parts_B2["own"][:, 1]], 1)
            for memory, part_B2 in parts_B2.items():
                top, below = part_B2[kept_B].sum(0)
                value = float(top / below)
                if not np.isfinite(value):
                    raise WorkError(
                        f"the loss of {self.subject.name} is no number ({name}): train it anew, with a lower rate."
                    )
                if group is None:
                    told[f"{metric} {memory}"] = value
                read_N = memories_read(self.model, chunk_N, memory if memory in MEMORIES else "own")
                yield self._row(
                    name,
                    mode=mode,
                    metric=metric,
                    memory=memory,
                    group=group,
                    at=at,
                    value=value,
                    value_ci=share_interval(part_B2[kept_B], self.config.seed)
                    if memory != "gain" and metric not in LOWER_IS_BETTER
                    else interval(lambda m: m[:, 0] / m[:, 1], part_B2[kept_B], self.config.seed),
                    chance=task.chance if metric == "token_accuracy" and memory != "gain" else None,
                    chance_told=task.chance_told if metric == "token_accuracy" and memory != "gain" else None,
                    examples=int(kept_B.sum()),
                    tokens=int(often_N.sum()),
                    chunks=int(-(-task.batch.labels.shape[1] // self.model.chunk_tokens)),
                    memories_min=int(read_N[often_N > 0].min()),
                    memories_mean=float(read_N @ often_N / often_N.sum()),
                    memories_max=int(read_N[often_N > 0].max()),
                )
        if group is None:
            first = metrics[0]
            said = ", ".join(f"{memory} {told[f'{first} {memory}']:.4f}" for memory in MEMORIES)
            ui.say(f"{self.subject.name}: {name} ({mode}), {first.replace('_', ' ')} by memory: {said}")

    def _bytes(self, task: Task) -> Array:
        """Bytes of text at every place [B, N]; only those of scored places are asked for."""
        return self.subject.corpus.token_bytes[task.batch.labels.clamp(min=0).numpy()]

    def _row(self, task: str, **told: Any) -> dict[str, Any]:
        """A row with everything in it that all rows have."""
        return self.subject.row(task=task, **{key: told.get(key) for key in _TOLD})


_TOLD = (
    *("mode", "metric", "memory", "group", "at", "value", "value_ci", "chance", "chance_told", "examples", "tokens"),
    *("chunks", "memories_min", "memories_mean", "memories_max", "note"),
)
