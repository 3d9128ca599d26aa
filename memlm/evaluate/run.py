"""Models, tasks and an output folder -> `eval.json`: every figure beside its controls and its memories."""

import json
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate as ask

from memlm import ui
from memlm.bank.opening import open_model
from memlm.errors import UsageError, WorkError, refusing
from memlm.evaluate.answers import Answers
from memlm.evaluate.config import Condition, EvalConfig
from memlm.evaluate.figures import Outcome, rows_of
from memlm.evaluate.harness import Harness, Read
from memlm.evaluate.loading import load_tasks, refuse_empty
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import Scorer, conditions_of, memories_read
from memlm.files import sha256_json, write_last, write_text
from memlm.loading import load_own_tokenizer
from memlm.locks import one_writer
from memlm.models.model import Generative
from memlm.provenance import commit, environment, machine
from memlm.records import to_dict

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from memlm.huggingface import PreTrainedTokenizerBase


@one_writer
def evaluate(models: list[str], tasks: list[str], out: Path, config: EvalConfig) -> dict[str, Any]:
    """Evaluate models (runs or saved folders) on tasks (`load_tasks`) under all conditions, and write `OUT/eval.json`.

    What was answered is kept in `OUT/answers.jsonl` (`Answers`) until all is: called again after an interruption with
    the same arguments, it goes on and gives what it would have given.

    With `config.log_samples` there is `OUT/samples.jsonl` too, one JSON object a line for each example, filter, model
    and condition: `model`, `condition`, `task`, `filter`, `doc_id` and `doc_hash` (the same for the same example),
    `target`, `arguments` (prompts with what was asked of them), `resps` and `filtered_resps` (answers, as lm-eval has
    them), `values` (metric -> this example's value: what the task's aggregation of all examples, most often their mean,
    makes the row's `value` of), `memories` (what each scored token could read: fewest, mean, most) and `truncated`.
    Lines of two conditions with one `doc_id` are pairs: for a mean, the row's `difference` is the mean of their
    differences.

    Returns:
        `results` (rows), `warnings` (sentences), `config`, `environment`. A row has `task`, `metric`, `filter`,
        `model`, `condition`, `value`, `stderr` and `value_ci` (bootstrap over examples), `n`; `difference_of`,
        `difference` and `difference_ci` (paired: "own - none" of a model's own memories and a condition, "MODEL -
        FIRST" of its own and the first model's own); `higher_is_better`, `memories_min`, `memories_mean`,
        `memories_max` (how many the scored tokens could read), `without_memories` (the share of examples in which none
        could be read), `truncated` (the share from which text was cut off), `few_shot`, `limit`, `task_version`,
        `data` (of the examples asked), `chat_template`, `kind`, `chunk_tokens`, `chunks` (of a training example),
        `base` (the language model of others it was made over), `tokenizer`, `seed`, `device`, `machine`, `commit`,
        `lm_eval`.

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
    kept = Path(out) / "answers.jsonl"
    if kept.exists():
        ui.say(f"goes on with what {kept} holds")
    outcomes: list[Outcome] = []
    samples: list[dict[str, Any]] = []
    warnings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="memlm-eval-", ignore_cleanup_errors=True) as cache:
        loaded = load_tasks(tasks, Path(cache), config.trust_tasks)
        for task_name, task in loaded.items():
            _set_shots(task_name, task, config)
            refuse_empty(task_name, task, config.limit)
        for name, one in zip(names, opened, strict=True):
            outcomes += _outcomes(name, one, loaded, config, kept, samples, warnings)
    rows = list(rows_of(outcomes))
    if wrong := [row for row in rows if not np.isfinite([row["value"], *row["value_ci"]]).all()]:
        raise WorkError("{model}: {metric} of {task} is no number: train the model anew.".format(**wrong[0]))
    for warning in warnings:
        ui.say(f"warning: {warning}")
    asked = {"models": models, "tasks": tasks, **to_dict(config)}
    told = environment(opened[0].model.device.type)
    report = {"results": rows, "warnings": warnings, "config": asked, "environment": told}
    if config.log_samples:
        lines = (json.dumps(one, ensure_ascii=False, default=_plain) + "\n" for one in samples)
        write_text(Path(out) / "samples.jsonl", "".join(lines))
    write_last(done, report, ["samples.jsonl"] if config.log_samples else ())
    kept.unlink(missing_ok=True)
    return report


class _Opened(NamedTuple):
    model: Generative
    tokenizer: "Tokenizer"
    chat: "PreTrainedTokenizerBase | None"  # where prompts shall have the chat form


def _open(path: str, config: EvalConfig) -> _Opened:
    model, tokenizer = open_model(path, config.device)
    if not isinstance(model, Generative):
        kind = model.config.model_type.removeprefix("memlm-")
        raise UsageError(f"{path} predicts no tokens (it is of kind {kind}): name a memory model or a causal one.")
    if not config.chat_template:
        return _Opened(model, tokenizer, None)
    known = (load_own_tokenizer(path), getattr(getattr(model, "base", None), "tokenizer", None))
    if (chat := next((one for one in known if one is not None and one.chat_template), None)) is None:
        raise UsageError(
            f"the tokenizer of {path} has no chat template: leave out --chat-template, or put its chat_template.jinja "
            "beside the model's tokenizer.json."
        )
    return _Opened(model, tokenizer, chat)


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
    opened: _Opened,
    tasks: dict[str, Task],
    config: EvalConfig,
    kept: Path,
    logged: list[dict[str, Any]],
    warnings: list[str],
) -> Iterator[Outcome]:
    """One model's, under one condition after the other; what is strange about them goes into `warnings`.

    Answers are kept in the file `kept`, samples go into `logged`.
    """
    model, tokenizer, chat = opened
    memories, answers = ChunkMemories(model), Answers(kept, model.fingerprint(), model.device.type)
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
        scorer = Scorer(model, condition, memories, config.seed, config.batch, answers)
        harness = Harness(model, tokenizer, scorer, chat)
        groups: Any = {"tasks": asked, "groups": {}, "group_map": {}}
        with refusing(f"{', '.join(asked)} cannot be asked", ": mend the task or its data"):  # whatever lm-eval raises
            of_chat: Any = {"apply_chat_template": chat is not None, "fewshot_as_multiturn": chat is not None}
            found: Any = ask(harness, groups, limit=config.limit, bootstrap_iters=0, log_samples=True, **of_chat)
        for task, of in asked.items():
            samples = found["samples"][task]  # one for each example and filter
            if config.log_samples:
                logged += [_logged(name, condition, task, sample, harness.read[task]) for sample in samples]
            read = _told_of_memories(harness.read[task])
            if condition == "own" and reads and (strange := _strange(model, read["memories_max"])):
                warnings.append(f"{name}, {task}: {strange}")
            row = {
                **read,
                "few_shot": of.get_config("num_fewshot"),
                "limit": config.limit,
                "chat_template": config.chat_template,
                "task_version": of.VERSION,
                "data": sha256_json([sample["doc_hash"] for sample in samples]),
                **told,
            }
            aggregations, better = of.aggregation() or {}, of.higher_is_better() or {}
            for metric, filtered in dict.fromkeys(
                (m, sample["filter"]) for sample in samples for m in sample["metrics"]
            ):
                yield Outcome(
                    key=(task, metric, filtered),
                    model=name,
                    condition=condition,
                    values=[one[metric] for one in samples if one["filter"] == filtered and metric in one],
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


def _logged(
    model: str, condition: Condition, task: str, sample: dict[str, Any], read: dict[int, list[Read]]
) -> dict[str, Any]:
    """A line of samples.jsonl (`evaluate`)."""
    told = _told_of_memories({sample["doc_id"]: read[sample["doc_id"]]})
    return {
        **{"model": model, "condition": condition, "task": task, "filter": sample["filter"]},
        **{key: sample[key] for key in ("doc_id", "doc_hash", "target", "arguments", "resps", "filtered_resps")},
        "values": {metric: sample[metric] for metric in sample["metrics"]},
        "memories": [told[f"memories_{key}"] for key in ("min", "mean", "max")],
        "truncated": bool(told["truncated"]),
    }


def _plain(value: Any) -> Any:
    """What JSON has no form for: numbers of numpy, and whatever a task gives beside."""
    return value.item() if isinstance(value, np.generic) else str(value)


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
