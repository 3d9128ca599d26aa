"""Folders -> runs: each is recognised by the files that it holds."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from memlm.errors import UsageError
from memlm.files import read_json
from memlm.report.runs import (
    Access,
    Attribution,
    Benchmark,
    Evaluation,
    Measurement,
    Row,
    Run,
    Runs,
    TrainingRun,
)
from memlm.train.tracking import read_metrics


def read_runs(paths: Iterable[Path]) -> Runs:
    """Read runs, measurements, curricula and benchmarks, and folders that hold some of them one level down.

    Raises:
        UsageError: no paths, one that holds nothing of the kind, or a damaged file.
    """
    found: dict[tuple[Path, type, str], Run] = {}
    paths = [Path(path) for path in paths]
    if not paths:
        raise UsageError("name at least one run: a folder made by memlm train, measure or demo.")
    for path in paths:
        here = _benchmark(path) if path.is_file() else []
        if not here and not path.is_dir():
            raise UsageError(
                f"{path} is neither a folder made by memlm train, measure or demo nor memlm bench's memory.json."
            )
        if path.is_dir():
            inside = [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
            here = [run for folder in (path, *inside) for run in _read(folder)]
        if not here:
            raise UsageError(f"{path} holds neither a training run nor a measurement, nor has a folder that does.")
        for run in here:
            found.setdefault((run.path.resolve(), type(run), run.name), run)
    kinds = {kind: _distinct([run for run in found.values() if isinstance(run, kind)]) for kind in Run.__args__}
    runs = Runs(
        measurements=kinds[Measurement],
        training=kinds[TrainingRun],
        access=kinds[Access],
        attributions=kinds[Attribution],
        evaluations=kinds[Evaluation],
        benchmarks=kinds[Benchmark],
    )
    order = runs.models
    return replace(runs, training=sorted(runs.training, key=lambda run: (_family(run, order), order.index(run.name))))


def _read(path: Path) -> list[Run]:
    """What a folder is: usually one thing, nothing if it is something else, a curriculum all of its stages."""
    runs: list[Run] = []
    name = path.resolve().name
    report: Any = read_json(path / "results.json") if (path / "results.json").exists() else None
    environment = (report.get("environment") if isinstance(report, dict) else None) or {}
    if _is_measurement(report):
        samples = _with_twins(report.get("samples") or [])
        rows, config = _with_twins(report["results"]), report.get("config") or {}
        ceilings = report.get("ceilings") or []
        lengths = sorted({row["chunk_tokens"] for row in rows if "chunk_tokens" in row})
        if len(lengths) < 2:
            runs.append(Measurement(name, path, rows, samples, environment, config, ceilings))
        for length in lengths if len(lengths) > 1 else ():  # each has its own floor
            own, known = ([row for row in some if row["chunk_tokens"] == length] for some in (rows, ceilings))
            shown = [s for s in samples if s["passages"] and len(s["passages"][0]["original"]) == length]
            runs.append(Measurement(f"{name}, {length} tokens", path, own, shown, environment, config, known))
    if (path / "access.json").exists():
        runs.append(Access(name, path, _access(path / "access.json"), environment))
    if (path / "attribution.json").exists():
        runs.append(_attribution(path / "attribution.json", name))
    if (path / "eval.json").exists():
        runs += _evaluation(path / "eval.json", name)
    if (path / "config.json").exists() and (path / "metrics.jsonl").exists():
        runs.append(_training(path, name))
    if (path / "memory.json").exists():
        runs += _benchmark(path / "memory.json")
    stages = _stages(path)
    return runs + [run for stage in stages for run in _read(path / stage)]


def _training(path: Path, name: str) -> TrainingRun:
    """A training run; a stage of a curriculum has the curriculum's name in front of its own."""
    config, summary, environment = (_object(path / f"{part}.json") for part in ("config", "summary", "environment"))
    folder = path.resolve().parent
    stages = _stages(folder)
    if name not in stages:
        return TrainingRun(name, path, config, read_metrics(path / "metrics.jsonl"), summary, environment)
    full = f"{folder.name}/{name}"
    return TrainingRun(full, path, config, read_metrics(path / "metrics.jsonl"), summary, environment, stages)


def _stages(path: Path) -> tuple[str, ...]:
    """Names of a curriculum's stages, in their order; empty where there is no curriculum."""
    stages = _object(path / "curriculum.json").get("stages")
    return tuple(stages) if isinstance(stages, dict) else ()


def _access(path: Path) -> list[Row]:
    """Rows of a model's access to memory: a damaged file is not taken for a shorter one."""
    rows = read_json(path)
    needed = {"model", "task", "mode", "metric", "memory", "group", "at", "value"}
    if not rows or not _are_rows(rows, needed):
        raise UsageError(f"{path} holds no rows of memlm measure: restore it or leave this measurement out.")
    return rows


def _attribution(path: Path, name: str) -> Attribution:
    """Rows and texts of attribution: a damaged file is not taken for a shorter one."""
    found = _object(path)
    rows: Any = found.get("results")
    samples: Any = found.get("samples")
    needed = {"model", "text", "places", "against", "figure", "metric", "value"}
    tokens = {"model", "text", "chunk_tokens", "pieces", "places", "told_by", "loss", "l1", "cosine", "entropy"}
    tokens |= {"entropy_none"}
    if not rows or not _are_rows(rows, needed) or not _are_rows(samples, tokens):
        raise UsageError(f"{path} holds no attribution of memlm measure: restore it or leave this measurement out.")
    return Attribution(name, path.parent, rows, samples)


def _evaluation(path: Path, name: str) -> list[Run]:
    """Rows of an evaluation; others write an eval.json too, which is none."""
    found = read_json(path)
    rows = found.get("results") if isinstance(found, dict) else None
    needed = {"task", "metric", "model", "condition", "value", "n"}
    if not rows or not _are_rows(rows, needed):
        return []
    return [Evaluation(name, path.parent, rows, found.get("environment") or {})]


def _benchmark(path: Path) -> list[Run]:
    """The benchmark of memory models in a file; others are no runs."""
    if path.suffix != ".json":
        return []
    found = read_json(path)
    rows = found.get("results") if isinstance(found, dict) and found.get("benchmark") == "memory" else None
    if not _are_rows(rows, set()):
        return []
    ratios = found["ratios"] if isinstance(found.get("ratios"), dict) else {}
    facts = {key: found.get(key) for key in ("setting", "machine", "commit")}
    return [Benchmark(path.resolve().parent.name, path, rows, ratios, facts)]


def _is_measurement(report: Any) -> bool:
    """Others write a results.json too; ours has rows that say who was measured, how, and how well."""
    rows = report.get("results") if isinstance(report, dict) else None
    needed = {"model", "training", "decoder", "token_accuracy"}
    return bool(rows) and _are_rows(rows, needed)


def _are_rows(value: Any, needed: set[str]) -> TypeGuard[list[Row]]:
    """Whether it is a list of JSON objects, each with all that is needed."""
    return isinstance(value, list) and all(isinstance(row, dict) and needed <= row.keys() for row in value)


def _with_twins(rows: list[Row]) -> list[Row]:
    """Rows that say in `twin_of` whose untrained twin they are.

    A twin is named after the kind of its encoder, and measured after the first model of its architecture.
    """
    told, before = [], ""
    for row in rows:
        if row["training"] == "untrained":
            told.append({**row, "twin_of": before or row["model"].removesuffix("-untrained")})
        else:
            before = row["model"] if row["training"] != "none" else before
            told.append(row)
    return told


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, empty if the file is not there."""
    value = read_json(path) if path.exists() else {}
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object: restore it or leave this run out.")
    return value


def _family(run: TrainingRun, order: list[str]) -> int:
    """Stages of a curriculum stand together, where the first of them would stand."""
    if not run.stages:
        return order.index(run.name)
    before = f"{run.name.rpartition('/')[0]}/"
    return min(i for i, name in enumerate(order) if name.startswith(before))


def _distinct(runs: list[Any]) -> list[Any]:
    """Runs of one name from different places get their parents' names in front, as many as tell them apart."""
    names = [run.name for run in runs]
    while repeated := {name for name, count in Counter(names).items() if count > 1}:
        longer = [_longer(run.path, name) if name in repeated else name for run, name in zip(runs, names, strict=True)]
        if longer == names:
            break
        names = longer
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _longer(path: Path, name: str) -> str:
    """A name with one more of the path's folders in front."""
    folders = path.resolve().parts[1:]
    folders = folders[: len(folders) - path.is_file()]
    return "/".join(folders[-min(len(folders), name.count("/") + 2) :])
