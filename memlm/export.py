"""A trained model -> a folder to ship: weights, config, tokenizer, and a model card as the hub's tools read it.

OUT/model.safetensors, config.json, tokenizer...    byte for byte those of the run
OUT/README.md                                       the card: training, figures by the protocol, data, licence
OUT/sha256.json                                     of every file; `memlm doctor OUT` compares them

Nothing in it depends on when or where it was exported, so that two exports of one run are equal to the byte.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from memlm.data.corpora import CORPORA
from memlm.data.split import PARTS
from memlm.errors import UsageError, refusing
from memlm.files import SUMS, atomic_folder, read_json, read_object, sha256_file, sha256_json, write_sums
from memlm.loading import find_model, load_model
from memlm.measure.access_table import access_table
from memlm.measure.table import retention_table
from memlm.models.model import TextMemory

CARD = "README.md"
_FIGURES = {"token_accuracy": "tokens right", "exact_match": "chunks right", "usable_bits_per_token": "usable bits"}
_SETTINGS = ("objective", "steps", "batch", "context", "seed")
_COUNTS = ("documents", "tokens", "bytes")
Rows = dict[str, list[dict[str, Any]]]


def export(
    run: Path, out: Path, measured: Sequence[Path] = (), *, license: str | None = None, language: str | None = None
) -> dict[str, Any]:
    """Write the folder; returns `out`, `bytes`, and `sha256`, one hash over the names and hashes of its files.

    Args:
        run: a run, a curriculum, or a saved folder of ours.
        out: the folder, which is not there yet.
        measured: folders of `memlm measure` that measured this very model; the card shows its rows.
        license: of the weights; `mit` if not given, of a model that is over none of others.
        language: of its training text, an ISO 639 code; if not given, that of a corpus known by name.

    Raises:
        UsageError: no model there, a damaged one, a measurement of another one, no licence, or `out` exists.
    """
    folder = find_model(Path(run))
    model = load_model(folder)
    base = getattr(model.config.read_shape(), "base", None)
    if base and license is None:
        raise UsageError(f"{run} was made over {base}: name a licence that fits that one's, by --license.")
    license = license or "mit"
    if language and not re.fullmatch(r"[a-z]{2,3}", language):
        raise UsageError(f"{language!r} is no language: name one by its ISO 639 code (en, de, ...).")
    place = folder.parent if folder.name == "model" else folder
    told = {name: _told(place / f"{name}.json") for name in ("config", "environment", "summary")}
    data = _told(Path(told["config"].get("data") or "") / "data.json")
    data = data if data.get("hash") == told["environment"].get("data") else {}
    known = CORPORA.get(data.get("config", {}).get("source", ""))
    measurements = [_measurement(Path(one), model) for one in measured]
    card = ModelCardData(
        license=license,
        language=language or (known.language if known else None),
        library_name="memlm",
        tags=["memlm", model.config.model_type, "embeddings"],
        base_model=base if base and "/" in base else None,
        model_name=place.name,
        eval_results=[one for rows, report in measurements for one in _indexed(rows["results"], report)] or None,
    )
    parts = [
        _about(place.name, model),
        _training(**told),
        *([_figures(*one) for one in measurements] or ["## Figures\n\nNone were measured."]),
        _statement(data, told["environment"].get("data"), known.about if known else ""),
        f"## Licence\n\nThe weights: `{license}`.",
    ]
    sums = _told(folder / SUMS).get("files", {})
    with atomic_folder(out) as scratch:
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name not in (SUMS, CARD):
                shutil.copyfile(file, scratch / file.name)
                if file.name in sums and sums[file.name]["sha256"] != sha256_file(scratch / file.name):
                    raise UsageError(f"{file} is damaged (its SHA-256 is not that in {SUMS}): restore it first.")
        text = ModelCard(f"---\n{card.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n")
        (scratch / CARD).write_text(str(text), encoding="utf-8")
        write_sums(scratch)
    return shipped(out)


def shipped(out: Path) -> dict[str, Any]:
    """What `export` tells of a folder that it has written."""
    files = read_object(Path(out) / SUMS)["files"]
    size = sum((Path(out) / name).stat().st_size for name in files)
    return {"out": str(out), "bytes": size, "sha256": sha256_json({name: one["sha256"] for name, one in files.items()})}


def _told(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _measurement(folder: Path, model: TextMemory) -> tuple[Rows, dict[str, Any]]:
    """A measurement's rows of a model, and the floors that they are counted from; the whole report."""
    report = read_object(folder / "results.json")
    with refusing(f"{folder} holds no measurement that this memlm reads"):
        names = {name for name, identity in report["config"]["models"].items() if identity == model.fingerprint()}
    if not names:
        raise UsageError(f"{folder} measured other models, or other weights of this one: measure this one.")
    access = read_json(folder / "access.json") if (folder / "access.json").is_file() else []
    own = [row for row in report["results"] if row["model"] in names]
    lengths = {row["chunk_tokens"] for row in own}
    floors = [row for row in report["results"] if row["training"] == "none" and row["chunk_tokens"] in lengths]
    return {"results": own + floors, "access": [row for row in access if row["model"] in names]}, report


def _indexed(rows: list[dict[str, Any]], report: dict[str, Any]) -> list[EvalResult]:
    """Figures for the card's head, which the hub shows: of the model's own decoder and of fresh ones."""
    data = str(report["config"]["data"])[:12]
    return [
        EvalResult(
            task_type="feature-extraction",
            dataset_type="memlm",
            dataset_name=f"data {data} (SHA-256), part {row.get('part', 'held-out')}",
            metric_type=key,
            metric_name=f"{name} by {'its own' if row['decoder'] == 'own' else 'a fresh'} decoder",
            metric_value=round(row[key], 5),
        )
        for row in rows
        if row["training"] not in ("none", "shuffled", "random-tokens")
        for key, name in _FIGURES.items()
    ]


def _about(name: str, model: TextMemory) -> str:
    size = sum(p.numel() for p in model.parameters())
    base = getattr(model.config.read_shape(), "base", None)
    over = f" It was made over `{Path(base).name}`, which is opened beside it." if base else ""
    holds = f", each chunk of {model.chunk_tokens} tokens into {model.memory_dim} numbers" if model.memory_dim else ""
    return (
        f"# {name}\n\nA model of kind `{model.config.read_shape().kind}` of [memlm](https://arxiv.org/abs/2602.13466): "
        f"{size:,} parameters, a vocabulary of {model.config.vocab_size:,} tokens{holds}.{over}\n\n"
        f'```python\nimport memlm\n\nmodel = memlm.load("{name}")  # this folder\n'
        f'memories = model.encode(["a text of any length"])\n```\n\n'
        "Who has a memory and this model has the text: keep memories as you keep what they were made of. It knows the "
        "language and the kind of text that it was trained on, and nothing else."
    )


def _training(config: dict[str, Any], environment: dict[str, Any], summary: dict[str, Any]) -> str:
    if not environment:
        return "## Training\n\nThe run that trained it is not known."
    rows = {name: config.get(name) for name in _SETTINGS} | {"optimiser": config.get("optim", {}).get("kind")}
    rows |= {"started from": Path(config["start"]).name if config.get("start") else None}
    rows |= {"tokens": summary.get("tokens"), "seconds": summary.get("train_seconds")}
    rows |= {"machine": environment.get("machine"), "commit": environment.get("commit")}
    rows |= {"memlm": environment.get("memlm"), "torch": environment.get("packages", {}).get("torch")}
    told = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value not in (None, ""))
    return f"## Training\n\n| setting | value |\n|---|---|\n{told}"


def _figures(rows: Rows, report: dict[str, Any]) -> str:
    tables = [retention_table(rows["results"])] if rows["results"] else []
    tables += [access_table(rows["access"])] if rows["access"] else []
    told = "\n\n".join(f"```text\n{table}\n```" for table in tables)
    return (
        f"## Figures\n\nBy protocol {report['config'].get('protocol', 1)} of memlm (docs/protocol.md), with 95 % "
        f"intervals, on data {str(report['config']['data'])[:12]} (SHA-256), code {report['environment']['commit']}; "
        f"`none` is what token frequencies alone give.\n\n{told}"
    )


def _statement(data: dict[str, Any], sha256: str | None, about: str) -> str:
    if not data:
        return f"## Data\n\nTrained on data {sha256[:12]} (SHA-256)." if sha256 else "## Data\n\nNot known."
    source = Path(data["config"]["source"]).name
    rows = [" | ".join([part, *(f"{data[part][what]:,}" for what in _COUNTS)]) for part in PARTS]
    table = "\n".join(f"| {row} |" for row in (" | ".join(["part", *_COUNTS]), "|".join(["---"] * 4), *rows))
    return f"## Data\n\nTrained on `{source}`{about and f': {about}'}. SHA-256 `{sha256}`.\n\n{table}"
