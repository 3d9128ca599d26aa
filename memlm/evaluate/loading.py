"""Names and files -> lm-eval's tasks: from its registry, whose data come from the hub, or from local task files.

A local task file is lm-eval's own YAML. Data files in it (`dataset_path: json`, `dataset_kwargs: data_files: ...`) are
found beside the YAML, wherever memlm is called from, and nothing is fetched for them.

Whoever wrote such a file can have it run code: Python that it names (`!function`), a metric that is none of lm-eval's
own (a script, or one of the hub), a template that reaches for Python's insides. Unless its tasks are trusted, the first
two are refused before anything of them is read, and templates are rendered in Jinja's sandbox. What lm-eval itself
brings is trusted as it was when it was installed.
"""

import difflib
import logging
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml
from jinja2 import Environment
from jinja2.sandbox import SandboxedEnvironment
from lm_eval import utils
from lm_eval.api.registry import get_metric, metric_registry
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from memlm.errors import UsageError, WorkError, refusing

_DEEPEST = 100


def load_tasks(specs: list[str], cache: Path, trusted: bool = False) -> dict[str, Task]:
    """Load tasks by name, YAML file or folder of YAML files; a group's or tag's tasks are loaded one by one.

    Args:
        specs: which.
        cache: a folder for the data of local task files, while the tasks are used.
        trusted: whether local task files may run code.

    Raises:
        UsageError: an unknown name, a file that is not there or cannot be used, or what no text model can be asked.
        WorkError: the data of a task of the registry cannot be had.
    """
    for talkative in ("lm_eval", "datasets", "huggingface_hub"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    if not trusted:
        utils.env = _sandboxed(utils.env)
    local = {spec: files for spec in specs if (files := _files(spec))}
    manager = _manager(any(spec not in local for spec in specs))
    tasks: dict[str, Task] = {}
    for spec in specs:
        new = _local(manager, local[spec], cache, trusted) if spec in local else _registered(manager, spec)
        if twice := sorted(tasks.keys() & new.keys()):
            raise UsageError(f"the task {twice[0]} is asked for twice: leave one out.")
        tasks |= new
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise UsageError(f"{name} runs code that a model writes, or shows more than text: memlm eval does neither.")
    return tasks


def refuse_empty(name: str, task: Task, limit: int | None) -> None:
    """Look at what is asked before any of it is: lm-eval comes upon an empty answer in the midst of the work.

    Raises:
        UsageError: fewer than two documents, an answer or a text that is empty, or a right answer that is none of them.
    """
    documents = list(islice(task.eval_docs, limit))
    if len(documents) < 2:
        raise UsageError(f"{name} has {len(documents)} documents: one has no interval, ask two at least.")
    for number, document in enumerate(documents):
        with refusing(f"document {number} (counted from 0) of {name} cannot be asked", ": mend the task or its data"):
            target: Any = task.doc_to_target(document)
            asked: list[Any] = [] if task.OUTPUT_TYPE == "generate_until" else [target]
            if task.OUTPUT_TYPE == "multiple_choice" and not getattr(task, "multiple_input", 0):
                asked = list(task.doc_to_choice(document))  # pyright: ignore[reportAttributeAccessIssue]
                right = target if isinstance(target, list) else [target]
                if not asked or any(isinstance(one, int) and not 0 <= one < len(asked) for one in right):
                    raise UsageError(
                        f"{name}: no answer {target} in document {number} (counted from 0): mend the task."
                    )
            if any(not str(one).strip() for one in asked):
                raise UsageError(f"{name}: empty answer in document {number} (counted from 0): mend it.")


@cache
def _manager(registry: bool) -> TaskManager:
    """Without the registry at once; with it after reading thousands of task files."""
    return TaskManager(include_defaults=registry)


def _files(spec: str) -> list[Path]:
    """The YAML files that a spec names; none for a name."""
    path = Path(spec)
    if path.is_dir():
        if files := sorted(path.glob("*.yaml")):
            return files
        raise UsageError(f"{path} holds no task files (*.yaml): make some with memlm tasks.")
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return [path]
        raise UsageError(f"{path} is not there: name a task file, a folder of them, or a task of lm-eval.")
    return []


def _sandboxed(theirs: Environment) -> SandboxedEnvironment:
    """The environment of lm-eval's templates without a way to Python's insides."""
    env = SandboxedEnvironment(loader=theirs.loader, undefined=theirs.undefined, keep_trailing_newline=True)
    env.filters |= theirs.filters
    return env


def _local(manager: TaskManager, files: list[Path], cache: Path, trusted: bool) -> dict[str, Task]:
    tasks = {}
    for file in files:
        try:
            tags = _tags(file, set())
            if tags and not trusted:
                raise UsageError(
                    f"{file} runs code ({', '.join(sorted(tags))}): read what it names, and add --trust-tasks if you "
                    "trust it."
                )
            config = load_yaml(file, resolve_func=trusted)
            if not isinstance(config, dict):
                raise TypeError(f"it holds {type(config).__name__}")
        except UsageError:
            raise
        except Exception as error:  # a YAML may name Python code, which may fail in any way
            raise UsageError(f"{file} is no task file that can be read ({_first(error)}).") from None
        if not isinstance(config.get("task"), str):
            raise UsageError(f"{file} names no task: lm-eval's task files have a line `task: NAME`.")
        if not trusted:
            _refuse_metrics(file, config.get("metric_list"))
        kwargs = config.get("dataset_kwargs") or {}
        if not isinstance(kwargs, dict):
            raise UsageError(f"{file}: dataset_kwargs must be an object, not {type(kwargs).__name__}.")
        if "data_files" in kwargs:
            kwargs["data_files"] = _beside(file, kwargs["data_files"])
            config["dataset_kwargs"] = kwargs | {"cache_dir": str(cache)}
        try:
            tasks |= manager.load([config])["tasks"]
        except Exception as error:
            raise UsageError(f"{file} cannot be used ({_first(error)}): mend the file or its data.") from None
    return tasks


def _tags(file: Path, seen: set[Path]) -> set[str]:
    """What a YAML, with those that it includes, names by a tag of its own, `!function CODE`; nothing of it is run.

    Lists in lists, thousands deep, end the process within libyaml: what can be counted without recursion is.
    """
    seen.add(file.resolve())
    depth, tags = 0, set[str]()
    for event in yaml.parse(file.read_text(encoding="utf-8")):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST} times")
        tag = getattr(event, "tag", None) or ""
        if tag and (not tag.startswith("tag:yaml.org,2002:") or "python" in tag):
            tags.add(f"{tag} {getattr(event, 'value', '')}".strip())
    config = load_yaml(file, resolve_func=False, recursive=False) if not tags else {}
    includes = config.get("include", []) if isinstance(config, dict) else []
    for one in map(Path, includes if isinstance(includes, list) else [includes]):
        if (included := (file.resolve().parent / one).resolve()) not in seen:
            tags |= _tags(included, seen)
    return tags


def _refuse_metrics(file: Path, metrics: Any) -> None:
    """Refuse a metric that is none of lm-eval's own: it would be looked for as a script, here or on the hub."""
    get_metric("acc")  # fills the registry
    for one in metrics if isinstance(metrics, list) else []:
        name = one.get("metric") if isinstance(one, dict) else one
        outside = isinstance(one, dict) and one.get("hf_evaluate")
        if outside or (isinstance(name, str) and name not in metric_registry):
            raise UsageError(
                f"{file} asks for the metric {name}, which is none of lm-eval's own but code from elsewhere: take "
                "another one, or add --trust-tasks if you trust it."
            )


def _beside(file: Path, data: Any) -> Any:
    """Data files as absolute paths; they are there."""
    if isinstance(data, dict):
        return {split: _beside(file, item) for split, item in data.items()}
    if isinstance(data, list):
        return [_beside(file, item) for item in data]
    if "://" in str(data):
        return data
    path = (file.parent / str(data)).resolve()
    if not path.is_file():
        raise UsageError(f"{file} wants {data} beside it, which is not there: make it, or mend data_files.")
    if path.suffix in (".json", ".jsonl"):
        _refuse_fatal(path)
    return str(path)


def _refuse_fatal(path: Path) -> None:
    """Arrow's reader of JSON ends the process at `null` in the place of an object, and recurses without a limit."""
    told = path.read_bytes()
    byte_N = np.frombuffer(told, np.uint8)
    opened_N = np.isin(byte_N, list(b"[{")).astype(np.int8) - np.isin(byte_N, list(b"]}")).astype(np.int8)
    if opened_N.cumsum(dtype=np.int64).max(initial=0) > 10 * _DEEPEST:
        raise UsageError(f"{path} is nested deeper than {10 * _DEEPEST} times: mend the data.")
    rows = told.splitlines() if path.suffix == ".jsonl" else [told]
    allowed = (b"{",) if path.suffix == ".jsonl" else (b"{", b"[")
    for number, row in enumerate(rows, 1):
        if row.strip() and not row.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(allowed):
            raise UsageError(f"{path}:{number} is no JSON object: mend the data.")


def _registered(manager: TaskManager, name: str) -> dict[str, Task]:
    if name not in manager.task_index:
        close = difflib.get_close_matches(name, manager.all_tasks, 3)
        like = f"did you mean {' or '.join(close)}?" if close else "a task file's name ends in .yaml."
        raise UsageError(f"lm-eval has no task {name!r}: {like}")
    try:
        return manager.load([name])["tasks"]
    except Exception as error:  # whatever the hub, the network or a missing package of the task's own raise
        raise WorkError(
            f"the data of {name} cannot be had ({_first(error)}): lm-eval fetches it from the Hugging Face hub; "
            "go online, or take local task files (memlm tasks)."
        ) from None


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.:')}" if lines else type(error).__name__
