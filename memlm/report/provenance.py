"""Commit, data, seeds, machine, versions and probe budget of each run, as cards."""

from typing import Any

from memlm.report.runs import Access, Evaluation, Measurement, Runs, TrainingRun
from memlm.report.text import escape, figure_of, number


def provenance_cards(runs: Runs) -> str:
    """One card for each run; facts that a run does not know are left out."""
    cards = [_card(m.name, "measurement", _measured(m)) for m in runs.measurements]
    retention = {m.path.resolve() for m in runs.measurements}  # whose card speaks for the same folder's access
    asked = [access for access in runs.access if access.path.resolve() not in retention]
    cards += [_card(access.name, "measurement of access", _asked(access)) for access in asked]
    cards += [_card(found.name, "evaluation", _asked(found)) for found in runs.evaluations]
    cards += [_card(run.name, "training run", _trained(run)) for run in runs.training]
    cards += [_card(found.name, "benchmark of memory models", found.facts) for found in runs.benchmarks]
    return f'<div class="provenance">{"".join(cards)}</div>'


def _measured(measurement: Measurement) -> dict[str, Any]:
    row, asked = measurement.results[0], measurement.config
    probe = next((r["probe"] for r in measurement.results if isinstance(r.get("probe"), dict)), None)
    models = asked.get("models")
    return _common({**row, **measurement.environment}, row.get("data") or asked.get("data"), row.get("seed")) | {
        "probe": _probe(probe) if probe else None,
        "models": ", ".join(f"{name} {_short(mark)}" for name, mark in models.items())
        if isinstance(models, dict)
        else None,
    }


def _asked(found: Access | Evaluation) -> dict[str, Any]:
    row = found.rows[0]
    data = row.get("data") if isinstance(found, Access) else None  # an evaluation's differ from task to task
    return _common({**row, **found.environment}, data, row.get("seed")) | {
        "models": ", ".join(dict.fromkeys(str(row["model"]) for row in found.rows)),
    }


def _trained(run: TrainingRun) -> dict[str, Any]:
    config, shape = run.config, run.config.get("model")
    facts = _common(run.environment, run.environment.get("data"), config.get("seed"))
    batch = config.get("batch")
    return facts | {
        "training": f"{config.get('objective')}, batches of {batch}, {_optimiser(config.get('optim'))}"
        if batch
        else None,
        "started from": config.get("start"),
        "frozen": ", ".join(map(str, config.get("frozen") or ())),
        "model": _model(shape) if isinstance(shape, dict) else None,
    }


def _common(facts: dict[str, Any], data: Any, seed: Any) -> dict[str, Any]:
    packages = facts.get("packages")
    versions = [f"{title} {facts[key]}" for key, title in (("memlm", "memlm"), ("python", "Python")) if facts.get(key)]
    if isinstance(packages, dict):
        versions += [f"{name} {version}" for name, version in packages.items() if version != "absent"]
    return {
        "commit": facts.get("commit"),
        "data": _short(data) if data else None,
        "seed": seed,
        "machine": facts.get("machine"),
        "device": facts.get("device"),
        "versions": ", ".join(versions) or None,
    }


def _probe(probe: dict[str, Any]) -> str:
    """The budget of a fresh decoder in one line."""
    parts = [
        _stack(probe.get("decoder")),
        f"{number(steps)} steps" if (steps := figure_of(probe, "steps")) else "",
        _batches(probe),
        f"{number(chunks)} training chunks" if (chunks := figure_of(probe, "train_chunks")) else "",
        _optimiser(probe.get("optim")),
        f"seed {probe['seed']}" if "seed" in probe else "",
    ]
    return ", ".join(part for part in parts if part)


def _model(shape: dict[str, Any]) -> str:
    parts = [
        f"{number(tokens)} tokens" if (tokens := figure_of(shape, "chunk_tokens")) else "",
        f"{number(size)} numbers a memory" if (size := figure_of(shape, "memory_dim")) else "",
        *(f"{part}: {_stack(shape[part])}" for part in ("encoder", "decoder", "stack") if shape.get(part)),
        *(f"{part} {shape[part]}" for part in ("readout", "bridge") if isinstance(shape.get(part), str)),
    ]
    return "; ".join(part for part in parts if part)


def _stack(stack: Any) -> str:
    if not isinstance(stack, dict):
        return ""
    kind, layers, width = stack.get("kind", "stack"), stack.get("layers"), stack.get("width")
    return f"{kind}, {layers} layer{'' if layers == 1 else 's'} of width {width}"


def _batches(config: dict[str, Any]) -> str:
    return f"batches of {number(batch)}" if (batch := figure_of(config, "batch")) else ""


def _optimiser(optim: Any) -> str:
    return f"{optim.get('kind')} at {optim.get('lr')}" if isinstance(optim, dict) else ""


def _short(mark: Any) -> str:
    """The beginning of a hash, enough to tell two apart."""
    return str(mark)[:12]


def _card(name: str, kind: str, facts: dict[str, Any]) -> str:
    rows = "".join(
        f"<div><dt>{title}</dt><dd>{escape(fact)}</dd></div>" for title, fact in facts.items() if fact not in (None, "")
    )
    return f"<article><h3>{escape(name)}<small>{kind}</small></h3><dl>{rows}</dl></article>"
