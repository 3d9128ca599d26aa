"""Folders -> runs: each is recognised by the files that it holds."""

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from memlm.errors import UsageError, refusing
from memlm.files import read_json, read_object
from memlm.results.runs import Row, Run, Runs, linked
from memlm.train.tracking import read_metrics

# Kind -> the file of its rows and what each must tell. Others write files of these names too, which are none of ours,
# except `access` and `attribution`: there a damaged file is not taken for a shorter one.
_FILES: dict[str, tuple[str, set[str]]] = {
    "measurement": ("results.json", {"model", "training", "decoder", "token_accuracy"}),
    "access": ("access.json", {"model", "task", "mode", "metric", "memory", "group", "at", "value"}),
    "attribution": ("attribution.json", {"model", "text", "places", "against", "figure", "metric", "value"}),
    "evaluation": ("eval.json", {"task", "metric", "model", "condition", "value", "n"}),
    "benchmark": ("memory.json", set()),
    "experiment": ("experiment.json", {"experiment", "case", "figure", "seed", "value"}),
}
_BESIDE = "ceilings", "curves", "given"  # more rows of a measurement, each with its chunk length
_TEXT = {
    "model",
    "text",
    "chunk_tokens",
    "pieces",
    "places",
    "told_by",
    "loss",
    "l1",
    "cosine",
    "entropy",
    "entropy_none",
}


def read_runs(paths: Iterable[Path]) -> Runs:
    """Read runs, measurements, curricula and benchmarks, and folders that hold some of them one level down.

    Raises:
        UsageError: no paths, one that holds nothing of the kind, or a damaged file.
    """
    found: dict[tuple[Path, str, str], Run] = {}
    for path in map(Path, paths):
        if path.is_dir():
            here = [run for folder in (path, *sorted(path.iterdir())) if folder.is_dir() for run in _read(folder)]
        else:
            here = _rows(path.parent, "benchmark", path, {}) if path.is_file() and path.suffix == ".json" else []
        if not here:
            kinds = "a run of memlm train, a measurement, memlm bench's memory.json nor a folder that has one"
            raise UsageError(f"{path} holds neither {kinds}.")
        for run in here:
            found.setdefault((run.path.resolve(), run.kind, run.name), run)
    if not found:
        raise UsageError("name at least one run: a folder made by memlm train, measure or demo.")
    runs = Runs(*(_distinct([run for run in found.values() if run.kind == kind]) for kind in Runs._fields))
    order = runs.models

    def place(run: Run) -> tuple[int, int]:
        """Stages of a curriculum stand together, where the first of them would stand."""
        family = f"{run.name.rpartition('/')[0]}/" if run.stages else run.name
        first = next(i for i, name in enumerate(order) if name == run.name or (run.stages and name.startswith(family)))
        return first, order.index(run.name)

    return runs._replace(training=linked(sorted(runs.training, key=place)))


def shown(paths: Iterable[Path]) -> AbstractContextManager[None]:
    """Rows are read as they are: what a damaged one, or one of another version, leads to is a sentence."""
    some = ", ".join(map(str, [*paths][:3]))
    return refusing(f"{some} cannot be shown", ": a file there is damaged, or of another version")


def _read(path: Path) -> list[Run]:
    """What a folder is: usually one thing, nothing if it is something else, a curriculum all of its stages."""
    runs: list[Run] = []
    report: Any = read_json(path / "results.json") if (path / "results.json").exists() else {}
    environment = report.get("environment") or {} if isinstance(report, dict) else {}
    for kind, (file, _) in _FILES.items():
        runs += _rows(path, kind, path / file, environment) if (path / file).exists() else []
    if (path / "config.json").exists() and (path / "metrics.jsonl").exists():
        facts: dict[str, Any] = {part: _object(path / f"{part}.json") for part in ("config", "summary", "environment")}
        place, stages = path.resolve(), _stages(path.resolve().parent)
        stages = stages if place.name in stages else ()
        name = f"{place.parent.name}/{place.name}" if stages else place.name
        rows = read_metrics(path / "metrics.jsonl")
        runs.append(Run(kind="training", name=name, path=path, rows=rows, stages=stages, **facts))
    return runs + [run for stage in _stages(path) for run in _read(path / stage)]


def _rows(path: Path, kind: str, file: Path, environment: dict[str, Any]) -> list[Run]:
    """The rows of a file as a run, of a measurement of several chunk lengths as a run for each: each has its floor."""
    found = read_json(file)
    told: dict[str, Any] = found if isinstance(found, dict) else {"results": found}
    rows: Any = told.get("results")
    samples = told.get("samples") or []
    whole = bool(rows) and _are_rows(rows, _FILES[kind][1])
    if kind in ("access", "attribution") and not (whole and _are_rows(samples, _TEXT)):
        raise UsageError(f"{file} holds no {kind} of memlm measure: restore it or leave this measurement out.")
    if not whole or (kind == "benchmark" and told.get("benchmark") != "memory"):
        return []
    keys = {name: name for name in ("config", "environment", *_BESIDE)} | {"summary": "ratios"}
    facts: dict[str, Any] = {name: told[key] for name, key in keys.items() if told.get(key)}
    bench = {key: told.get(key) for key in ("setting", "machine", "commit")} if kind == "benchmark" else {}
    facts = {"environment": bench or environment} | facts
    run = Run(kind=kind, name=path.resolve().name, path=path, rows=rows, samples=samples, **facts)
    if kind != "measurement":
        return [run]
    run = replace(run, rows=_with_twins(rows), samples=_with_twins(samples), curves=_with_twins(run.curves))
    lengths = sorted({row["chunk_tokens"] for row in rows if "chunk_tokens" in row})

    def part(length: int) -> Run:
        parts: dict[str, Any] = {
            name: [row for row in getattr(run, name) if row["chunk_tokens"] == length] for name in ("rows", *_BESIDE)
        }
        shown = [s for s in run.samples if s["passages"] and len(s["passages"][0]["original"]) == length]
        return replace(run, name=f"{run.name}, {length} tokens", samples=shown, **parts)

    return [part(length) for length in lengths] if len(lengths) > 1 else [run]


def _are_rows(value: Any, needed: set[str]) -> bool:
    """Whether it is a list of JSON objects, each with all that is needed."""
    return isinstance(value, list) and all(isinstance(row, dict) and needed <= row.keys() for row in value)


def _with_twins(rows: list[Row]) -> list[Row]:
    """Rows that say in `twin_of` whose untrained twin they are.

    A twin is named after the kind of its encoder, and measured after the first model of its architecture.
    """
    told, before = [], ""
    for row in rows:
        twin = {"twin_of": before or row["model"].removesuffix("-untrained")}
        told.append({**row, **(twin if row["training"] == "untrained" else {})})
        before = before if row["training"] in ("untrained", "none") else row["model"]
    return told


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, empty if the file is not there."""
    return read_object(path) if path.exists() else {}


def _stages(path: Path) -> tuple[str, ...]:
    """Names of a curriculum's stages, in their order; empty where there is no curriculum."""
    stages = _object(path / "curriculum.json").get("stages")
    return tuple(stages) if isinstance(stages, dict) else ()


def _distinct(runs: list[Run]) -> list[Run]:
    """Runs of one name from different places get their parents' names in front, as many as tell them apart."""
    names = [run.name for run in runs]
    while repeated := {name for name, count in Counter(names).items() if count > 1}:
        folders = [run.path.resolve().parts[1:] for run in runs]
        places = ["/".join(parts[-name.count("/") - 2 :]) for parts, name in zip(folders, names, strict=True)]
        longer = [place if name in repeated else name for place, name in zip(places, names, strict=True)]
        if longer == names:
            break
        names = longer
    return [replace(run, name=name) for run, name in zip(runs, names, strict=True)]
