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
from memlm.errors import UsageError, WorkError, refusing
from memlm.evaluate.config import EvalConfig
from memlm.evaluate.figures import Outcome, rows_of
from memlm.evaluate.harness import Harness, Read
from memlm.evaluate.loading import load_tasks, refuse_empty
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import conditions_of, memories_read
from memlm.files import sha256_json, write_last
from memlm.locks import one_writer
from memlm.models.model import Generative
from memlm.provenance import commit, environment, machine
from memlm.records import to_dict

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@one_writer
def evaluate(models: list[str], tasks: list[str], out: Path, config: EvalConfig) -> dict[str, Any]:
    """Evaluate models (runs or saved folders) on tasks (`load_tasks`) under all conditions, and write `OUT/eval.json`.

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
            refuse_empty(task_name, task, config.limit)
        for name, (model, tokenizer) in zip(names, opened, strict=True):
            outcomes += _outcomes(name, model, tokenizer, loaded, config, warnings)
    rows = list(rows_of(outcomes))
    if wrong := [row for row in rows if not np.isfinite([row["value"], *row["value_ci"]]).all()]:
        raise WorkError("{model}: {metric} of {task} is no number: train the model anew.".format(**wrong[0]))
    for warning in warnings:
        ui.say(f"warning: {warning}")
    asked = {"models": models, "tasks": tasks, **to_dict(config)}
    told = environment(opened[0][0].device.type)
    report = {"results": rows, "warnings": warnings, "config": asked, "environment": told}
    write_last(done, report)
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
    task.set_fewshot_seed(config.seed)  # so that every condition and model is asked the same
    if shots and shots >= (told := len(list(task.fewshot_docs() or []))):
        raise UsageError(f"{name} has {told} examples, too few to show {shots} of them: take a lower --num-fewshot.")


def _outcomes(
    name: str,
    model: Generative,
    tokenizer: "Tokenizer",
    tasks: dict[str, Task],
    config: EvalConfig,
    warnings: list[str],
) -> Iterator[Outcome]:
    """One model's, under one condition after the other; what is strange about them goes into `warnings`."""
    memories = ChunkMemories(model)
    reads = memories_read(model, np.array([model.chunk_tokens]), "own").any()
    if not reads:
        warnings.append(f"{name} reads no memories: no figure of it is of any.")
    told = _told_of_model(model, tokenizer, config)
    for condition in config.asked:
        if condition not in conditions_of(model):
            if config.conditions != "all":
                warnings.append(f"{name} cannot be asked under the condition {condition}: left out.")
            continue
        # A base scores texts; to write some it would need a cache of its own.
        writes = [task for task in tasks if condition == "base" and tasks[task].OUTPUT_TYPE == "generate_until"]
        warnings += [f"{name}, {task}: the base writes no text here: left out." for task in writes]
        asked = {task: of for task, of in tasks.items() if task not in writes}
        if not asked:
            continue
        ui.say(f"{name}: {', '.join(asked)}, condition {condition}")
        harness = Harness(model, tokenizer, condition, memories, config.seed)
        groups: Any = {"tasks": asked, "groups": {}, "group_map": {}}
        with refusing(f"{', '.join(asked)} cannot be asked", ": mend the task or its data"):  # whatever lm-eval raises
            found: Any = ask(harness, groups, limit=config.limit, bootstrap_iters=0, log_samples=True)
        for task, of in asked.items():
            samples = found["samples"][task]  # one for each example and filter
            read = _told_of_memories(harness.read[task])
            if condition == "own" and reads and (strange := _strange(model, read["memories_max"])):
                warnings.append(f"{name}, {task}: {strange}")
            row = {
                **read,
                "few_shot": of.get_config("num_fewshot"),
                "limit": config.limit,
                "task_version": of.VERSION,
                "data": sha256_json([sample["doc_hash"] for sample in samples]),
                **told,
            }
            aggregations, better = of.aggregation() or {}, of.higher_is_better() or {}
            for metric, kept in dict.fromkeys((m, sample["filter"]) for sample in samples for m in sample["metrics"]):
                yield Outcome(
                    key=(task, metric, kept),
                    model=name,
                    condition=condition,
                    values=[one[metric] for one in samples if one["filter"] == kept and metric in one],
                    aggregate=aggregations.get(metric, lambda values: float(np.mean(values))),
                    told={"higher_is_better": better.get(metric, True), **row},
                    seed=config.seed,
                )


def _told_of_model(model: Generative, tokenizer: "Tokenizer", config: EvalConfig) -> dict[str, Any]:
    return {
        "kind": model.config.model_type.removeprefix("memlm-"),
        "chunk_tokens": model.chunk_tokens,
        "chunks": getattr(model.config.read_shape(), "chunks", None),
        "base": getattr(model.config, "base_source", None),
        "tokenizer": sha256_json(tokenizer.get_vocab()),
        "seed": config.seed,
        "device": str(model.device),
        "machine": machine(model.device.type),
        "commit": commit(),
        "lm_eval": version("lm_eval"),
    }


def _told_of_memories(read: dict[int, list[Read]]) -> dict[str, Any]:
    """How many memories the scored tokens of all requests could read, and what happened to how many examples."""
    counts = [part.memories for parts in read.values() for part in parts if len(part.memories)]
    memories = np.concatenate(counts or [np.zeros(1)])
    return {
        "memories_min": int(memories.min()),
        "memories_mean": float(memories.mean()),
        "memories_max": int(memories.max()),
        "without_memories": float(np.mean([not any(part.memories.any() for part in parts) for parts in read.values()])),
        "truncated": float(np.mean([any(part.truncated for part in parts) for parts in read.values()])),
    }


def _strange(model: Generative, most: int) -> str | None:
    """What is to be said of examples whose scored tokens can read so many memories at most."""
    trained = getattr(model.config.read_shape(), "chunks", None)
    if not most:
        return f"no example used a memory: all end in their first {model.chunk_tokens} tokens."
    if trained is not None and most >= trained:
        return f"up to {most} memories, where training had {trained - 1}."
    return None
