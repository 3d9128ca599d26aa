"""Models, tasks and an output folder -> `eval.json`: every figure beside its controls and its memories."""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate as ask

from memlm import ui
from memlm.bank.opening import open_model
from memlm.errors import UsageError, WorkError
from memlm.evaluate.config import Condition, EvalConfig
from memlm.evaluate.figures import Outcome, rows_of
from memlm.evaluate.harness import Harness, Read
from memlm.evaluate.loading import load_tasks
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import conditions_of, memories_read
from memlm.files import sha256_json, write_json
from memlm.models.model import Generative
from memlm.provenance import commit, environment, machine
from memlm.records import to_dict

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def evaluate(models: list[str], tasks: list[str], out: Path, config: EvalConfig) -> dict[str, Any]:
    """Evaluate models on tasks under all conditions, and write `OUT/eval.json`.

    Args:
        models: runs or saved folders; the first one is what the others are held against.
        tasks: names of lm-eval's tasks, task files, folders of them.
        out: the evaluation's folder.
        config: which examples, which conditions.

    Returns:
        `results` (rows), `warnings` (sentences), `config`, `environment`. A row has `task`, `metric`, `filter`,
        `model`, `condition`, `value`, `stderr` and `value_ci` (bootstrap over examples), `n`; `against`, `difference`
        and `difference_ci` (paired: from the same model's `own`, and of the other models' `own` from the first
        model's); `higher_is_better`, `memories_min`, `memories_mean`, `memories_max` (how many the scored tokens could
        read), `without_memories` (the share of examples in which none could be read), `truncated` (the share from
        which text was cut off), `few_shot`, `limit`, `task_version`, `data` (of the examples asked), `kind`,
        `chunk_tokens`, `chunks` (of a training example), `base` (the language model of others it was made over),
        `tokenizer`, `seed`, `device`, `machine`, `commit`, `lm_eval`.

    Raises:
        UsageError: nothing to evaluate, a model that predicts no tokens, or what `load_tasks` refuses.
        WorkError: data that cannot be had, or a figure that is no number.
    """
    if not models or not tasks:
        raise UsageError("name at least one model, and tasks with --tasks NAME_OR_FILE,...")
    done = Path(out) / "eval.json"
    if done.exists():
        raise UsageError(f"{out} holds another evaluation: name another place.")
    names = [Path(model).name for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two of the models are called {twice[0]}: rename a folder, to tell their rows apart.")
    opened = [_open(model, config) for model in models]
    outcomes: list[Outcome] = []
    warnings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="memlm-eval-", ignore_cleanup_errors=True) as cache:
        loaded = load_tasks(tasks, Path(cache))
        for task_name, task in loaded.items():
            _set_shots(task_name, task, config)
        for name, (model, tokenizer) in zip(names, opened, strict=True):
            evaluation = _Evaluation(name, model, tokenizer, config)
            outcomes += evaluation.outcomes(loaded)
            warnings += evaluation.warnings
    rows = list(rows_of(outcomes))
    if wrong := [row for row in rows if not np.isfinite([row["value"], *row["value_ci"]]).all()]:
        raise WorkError("{model}: {metric} of {task} is no number: train the model anew.".format(**wrong[0]))
    for warning in warnings:
        ui.say(f"warning: {warning}")
    asked = {"models": models, "tasks": tasks, **to_dict(config)}
    told = environment(opened[0][0].device.type)
    report = {"results": rows, "warnings": warnings, "config": asked, "environment": told}
    write_json(done, report)
    return report


def _open(path: str, config: EvalConfig) -> tuple[Generative, "Tokenizer"]:
    model, tokenizer = open_model(path, config.device)
    if not isinstance(model, Generative):
        kind = model.config.model_type.removeprefix("memlm-")
        raise UsageError(f"{path} predicts no tokens (it is of kind {kind}): name a memory model or a causal one.")
    return model, tokenizer


def _set_shots(name: str, task: Task, config: EvalConfig) -> None:
    """How many solved examples stand before the question; as in lm-eval, a task that says 0 keeps 0."""
    shots = task.get_config("num_fewshot")
    if config.num_fewshot is not None and shots != 0:
        shots = config.num_fewshot
    task.set_config("num_fewshot", shots or 0)
    if shots and shots >= (told := len(list(task.fewshot_docs() or []))):
        raise UsageError(f"{name} has {told} examples, too few to show {shots} of them: take a lower --num-fewshot.")


class _Evaluation:
    """One model's, under all conditions."""

    def __init__(self, name: str, model: Generative, tokenizer: "Tokenizer", config: EvalConfig):
        self.name, self.model, self.tokenizer, self.config = name, model, tokenizer, config
        self.memories = ChunkMemories(model)
        self.warnings: list[str] = []

    def outcomes(self, tasks: dict[str, Task]) -> Iterator[Outcome]:
        """All tasks under one condition after the other."""
        reads = memories_read(self.model, np.array([self.model.chunk_tokens]), "own").any()
        if not reads:
            self.warnings.append(f"{self.name} reads no memories: no figure of it is of any.")
        for condition in self.config.asked:
            if condition not in conditions_of(self.model):
                if self.config.conditions != "all":
                    self.warnings.append(f"{self.name} cannot be asked under the condition {condition}: left out.")
                continue
            # A base scores texts; to write some it would need a cache of its own.
            writes = [name for name in tasks if condition == "base" and tasks[name].OUTPUT_TYPE == "generate_until"]
            asked = {name: task for name, task in tasks.items() if name not in writes}
            self.warnings += [f"{self.name}, {name}: the base writes no text here: left out." for name in writes]
            if not asked:
                continue
            ui.say(f"{self.name}: {', '.join(asked)}, condition {condition}")
            harness = Harness(self.model, self.tokenizer, condition, self.memories, self.config.seed)
            samples = self._ask(harness, asked)
            for name, task in asked.items():
                if condition == "own" and reads:
                    self._warn(name, harness.read[name])
                yield from self._of_task(name, task, condition, samples[name], harness.read[name])

    def _ask(self, harness: Harness, tasks: dict[str, Task]) -> dict[str, list[dict[str, Any]]]:
        """lm-eval's samples of every task: one for each example and filter."""
        for task in tasks.values():
            task.set_fewshot_seed(self.config.seed)  # so that every condition and model is asked the same
        loaded: Any = {"tasks": tasks, "groups": {}, "group_map": {}}
        told: Any = ask(harness, loaded, limit=self.config.limit, bootstrap_iters=0, log_samples=True)
        return told["samples"]

    def _warn(self, name: str, read: dict[int, list[Read]]) -> None:
        memories = np.concatenate([part.memories for parts in read.values() for part in parts])
        trained = getattr(self.model.config.read_shape(), "chunks", None)
        if not memories.any():
            T = self.model.chunk_tokens
            self.warnings.append(f"{self.name}, {name}: no example used a memory: all end in their first {T} tokens.")
        elif trained is not None and memories.max() >= trained:
            self.warnings.append(
                f"{self.name}, {name}: up to {memories.max()} memories, where training had {trained - 1}."
            )

    def _of_task(
        self,
        name: str,
        task: Task,
        condition: Condition,
        samples: list[dict[str, Any]],
        read: dict[int, list[Read]],
    ) -> Iterator[Outcome]:
        aggregations, better = task.aggregation() or {}, task.higher_is_better() or {}
        told = _told_of_memories(read) | self._told(task, samples)
        for metric, filtered in dict.fromkeys((m, sample["filter"]) for sample in samples for m in sample["metrics"]):
            values = [sample[metric] for sample in samples if sample["filter"] == filtered and metric in sample]
            yield Outcome(
                key=(name, metric, filtered),
                model=self.name,
                condition=condition,
                values=values,
                aggregate=aggregations.get(metric, lambda values: float(np.mean(values))),
                told={"higher_is_better": better.get(metric, True)} | told,
                seed=self.config.seed,
            )

    def _told(self, task: Task, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "few_shot": task.get_config("num_fewshot"),
            "limit": self.config.limit,
            "task_version": task.VERSION,
            "data": sha256_json([sample["doc_hash"] for sample in samples]),
            "kind": self.model.config.model_type.removeprefix("memlm-"),
            "chunk_tokens": self.model.chunk_tokens,
            "chunks": getattr(self.model.config.read_shape(), "chunks", None),
            "base": getattr(self.model.config, "base_source", None),
            "tokenizer": sha256_json(self.tokenizer.get_vocab()),
            "seed": self.config.seed,
            "device": str(self.model.device),
            "machine": machine(self.model.device.type),
            "commit": commit(),
            "lm_eval": version("lm_eval"),
        }


def _told_of_memories(read: dict[int, list[Read]]) -> dict[str, Any]:
    """How many memories the scored tokens of all requests could read, and what happened to how many examples."""
    parts = [part for parts in read.values() for part in parts]
    memories = np.concatenate([part.memories for part in parts if len(part.memories)] or [np.zeros(1)])
    return {
        "memories_min": int(memories.min()),
        "memories_mean": float(memories.mean()),
        "memories_max": int(memories.max()),
        "without_memories": float(np.mean([not any(part.memories.any() for part in parts) for parts in read.values()])),
        "truncated": float(np.mean([any(part.truncated for part in parts) for parts in read.values()])),
    }
