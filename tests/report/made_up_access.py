"""Memory models as memlm train, measure and bench leave them, with made-up figures of the right size."""

import json
import math
from pathlib import Path

from made_up_runs import ENVIRONMENT, ORIGIN, write_run

T, C, V = 16, 4, 1024
DECODER = {"kind": "transformer", "width": 128, "layers": 2}
ENCODER = {"chunk_tokens": T, "memory_dim": 256, "stack": {"kind": "pointwise", "width": 64, "layers": 0}}
MEMORY_MODEL = {"chunks": C, "encoder": ENCODER, "decoder": DECODER, "reader": "slots"}
NATS = {"causal": 3.5, "copy": 0.9, "blank": 0.02, "recall": 0.05}


def row(model, task, metric, memory, value, *, mode="teacher-forced", group=None, at=None, wide=0.01, **more):
    """One row of access.json."""
    chance = {"recall": (1 / 64, 1 / 24), "needle": (1 / 64, None)}.get(task, (None, None))
    told = metric == "token_accuracy" and memory != "gain"
    low, high = value - wide, value + wide
    if metric not in ("cross_entropy", "bits_per_byte") and memory != "gain":
        low, high = max(0, low), min(1, high)
    return {
        "model": model,
        "kind": "memory",
        "reader": "slots",
        "task": task,
        "symbols": "unseen" if task in ("recall", "needle") else None,
        "chunk_tokens": T,
        "mode": mode,
        "metric": metric,
        "memory": memory,
        "group": group,
        "at": at,
        "value": value,
        "value_ci": [low, high],
        "chance": chance[0] if told else None,
        "chance_told": chance[1] if told else None,
        "examples": 512,
        "tokens": 32,
        "chunks": C,
        "memories_min": 0,
        "memories_mean": 1.5,
        "memories_max": C - 1,
        "note": None,
        **ORIGIN,
        "vocab_size": V,
    } | more


def rows_of(model, *, loss=3.5, gain=0.1, copy=0.99, blank=0.98, recall=0.97, needle=0.9, alone=0.333, **more):
    """All rows of a model; its copy without memory is `alone`, other tasks are without at chance."""
    rows = []

    def add(task, metric, own, none, other, **asked):
        worse = -1 if metric == "cross_entropy" else 1
        values = {"own": own, "none": none, "other": other, "gain": worse * (own - none)}
        rows.extend(row(model, task, metric, memory, value, **asked, **more) for memory, value in values.items())

    add("causal", "cross_entropy", loss, loss + gain, loss + gain + 0.04)
    add("causal", "token_accuracy", 0.31, 0.3, 0.29)
    for chunk in range(C):
        less = gain * chunk / C
        add("causal", "cross_entropy", loss + gain / 2 - less, loss + gain / 2, loss + gain, group="chunk", at=chunk)
    add("copy", "token_accuracy", copy, alone, alone - 0.05)
    add("copy", "exact_match", copy**32, 0.0, 0.0)
    add("copy", "token_accuracy", copy**2, 0.02, 0.02, mode="free-running", wide=0.03)
    add("blank", "token_accuracy", blank, 0.03, 0.03, mode="both")
    add("blank", "exact_match", blank**32, 0.0, 0.0, mode="both")
    add("recall", "token_accuracy", recall, 0.017, 0.04)
    for distance in range(1, C):
        add("recall", "token_accuracy", recall ** (0.5 * distance), 0.017, 0.04, group="distance", at=distance)
    add("needle", "token_accuracy", needle, 0.016, 0.016, wide=0.05)
    for depth in range(C - 1):
        add("needle", "token_accuracy", needle ** (C - depth), 0.016, 0.016, group="depth", at=depth, wide=0.08)
    return rows


def write_access(folder: Path, *models) -> Path:
    """A measurement of models that form no memories of their own, or whose retention was not asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "access.json").write_text(json.dumps([row for rows in models for row in rows]))
    if not (folder / "results.json").exists():
        empty = {"results": [], "samples": [], "config": {}, "environment": ENVIRONMENT}
        (folder / "results.json").write_text(json.dumps(empty))
    return folder


def write_memory_run(
    folder: Path, objective="causal", *, steps=1000, seed=0, start=None, frozen=False, model=None
) -> Path:
    """A run of a memory model, of one objective or several."""
    write_run(folder, objective=objective)
    config = json.loads((folder / "config.json").read_text())
    config |= {"objective": objective, "model": model or MEMORY_MODEL, "seed": seed, "steps": steps}
    config |= {"start": start, "frozen": ["encoder", "reader.bridge"] if frozen else []}
    (folder / "config.json").write_text(json.dumps(config))
    names = [part.split("*")[-1] for part in objective.split("+")]
    rows = []
    for step in range(steps // 10, steps + 1, steps // 10):
        parts = {}
        for name in names:
            nats = NATS[name] + 3.4 * math.exp(-step / (0.15 * steps))
            parts[name] = {"cross_entropy": nats, "token_accuracy": math.exp(-nats), "exact_match": math.exp(-9 * nats)}
        figures = {"step": step, "tokens": step * 2048, "train_seconds": step * 0.05, "tokens_per_second": 40960.0}
        rows.append(figures | parts[names[0]] | ({"parts": parts} if len(names) > 1 else {}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "summary.json").write_text(json.dumps(rows[-1]))
    return folder


def write_curriculum(folder: Path, *, seed=0, objective="causal+0.5*blank", steps=500) -> Path:
    """A curriculum: an autoencoder, blank copy over its frozen encoder, and both objectives."""
    write_run(folder / "autoencoder")
    config = json.loads((folder / "autoencoder" / "config.json").read_text()) | {"seed": seed}
    (folder / "autoencoder" / "config.json").write_text(json.dumps(config))
    write_memory_run(folder / "blank", "blank", seed=seed, start="autoencoder", frozen=True, steps=steps)
    write_memory_run(folder / "combined", objective, seed=seed, start="blank", frozen=True, steps=steps)
    stages = {name: {} for name in ("autoencoder", "blank", "combined")}
    (folder / "curriculum.json").write_text(json.dumps({"stages": stages}))
    return folder


def write_benchmark(folder: Path) -> Path:
    """What memlm bench memory writes."""
    rows = []
    for chunks in (4, 16, 64):
        tokens = 64 * chunks
        for side, slower in (("full context", 4), ("memory", 2), ("memory, frozen and kept", 1), ("recurrent", 3)):
            kept = {"full context": tokens + 64, "recurrent": 65}.get(side, chunks + 64)
            rows.append(
                {
                    "context, tokens": tokens,
                    "side": side,
                    "prefill, s (median)": 0.001 * slower * chunks,
                    "ms per token (median)": 2.0 + 0.001 * kept,
                    "cache, bytes": kept * 8192,
                    "peak of a training step, MB": "-" if (chunks, slower) == (64, 4) else 100 + slower * tokens / 8,
                    "something <new>": chunks,
                }
            )
    found = {
        "benchmark": "memory",
        "results": rows,
        "ratios": {"cache at 4,096 tokens, full context / memory (asked, at least 16)": 31.98},
        "setting": "decoder of 2 layers & width 128, T = 256",
        "machine": ENVIRONMENT["machine"],
        "commit": ENVIRONMENT["commit"],
        "curves": [1, 2],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.json").write_text(json.dumps(found))
    return folder


def write_experiments(folder: Path, seeds=3) -> Path:
    """All that decides C4, C5 and C6, over several seeds."""
    models = []
    for seed in range(seeds):
        wobble = 0.004 * (seed - 1)
        write_memory_run(folder / f"causal-seed{seed}", "causal", seed=seed)
        write_memory_run(folder / f"together-seed{seed}", "causal+0.5*blank+0.5*recall", seed=seed)
        write_memory_run(folder / f"direct-seed{seed}", "causal+0.5*blank", seed=seed)
        write_curriculum(folder / f"curriculum-seed{seed}", seed=seed)
        causal = {"copy": 0.334, "blank": 0.04, "recall": 0.02, "needle": 0.016, "gain": 0.003}
        models += [
            rows_of(f"causal-seed{seed}", loss=3.48 + wobble, **causal),
            rows_of(f"together-seed{seed}", loss=3.5 + wobble, recall=0.97 + wobble),
            rows_of(f"direct-seed{seed}", blank=0.41 + 10 * wobble, recall=0.03, needle=0.02, copy=0.5),
            rows_of(f"curriculum-seed{seed}", loss=3.52, blank=0.985, recall=0.04, needle=0.02),
        ]
    plain = {"kind": "memory", "copy": 0.3, "blank": 0.03, "recall": 0.017, "needle": 0.016, "gain": 0}
    none = {"reader": "none", "memories_max": 0, "memories_mean": 0.0}
    write_access(folder / "access", *models, rows_of("no-memory", loss=3.58, **plain, **none))
    write_benchmark(folder / "bench")
    return folder


def attribution_row(model, text, places, figure, metric, value, **more):
    """One row of attribution.json."""
    return {
        "model": model,
        "kind": "memory",
        "reader": "slots",
        "chunk_tokens": T,
        "text": text,
        "places": places,
        "against": None,
        "figure": figure,
        "metric": metric,
        "hidden": None if metric.startswith("entropy") else "all",
        "value": value,
        "value_ci": [value - 0.01, value + 0.01],
        "chance": None,
        "texts": 128,
        "tokens": 2048,
        "chunks": C,
        "memories_min": 2,
        "memories_mean": 2.5,
        "memories_max": 3,
        "note": None,
        **ORIGIN,
        "vocab_size": V,
    } | more


def attribution_rows(model, saved=9.25):
    """All rows of a model whose memories save so many nats on a copied token."""
    rows = []
    places = {"plain": ["plain"], "copy": ["plain", "copied"], "noisy copy": ["plain", "copied", "noise"]}
    for text, some in places.items():
        for place in some:
            nats = {"plain": 0.02, "copied": saved, "noise": -2.125}[place]
            values = {"loss": nats, "l1": 100 * abs(nats), "cosine": 0.25, "entropy": 0.5, "entropy_none": 2.5}
            rows += [attribution_row(model, text, place, "mean", metric, value) for metric, value in values.items()]
            for metric in ("loss", "l1", "cosine") if "copied" in some and place != "copied" else ():
                value = 0.502 if (place, metric) == ("noise", "l1") else 0.983
                rows.append(attribution_row(model, text, "copied", "auc", metric, value, against=place, chance=0.5))
        for metric in ("loss", "l1", "cosine") if "copied" in some else ():
            rows.append(attribution_row(model, text, "copied", "source", metric, 0.9375, hidden="one", chance=5 / 12))
    return rows


def attribution_sample(model, text, told_by=True):
    """A text token by token: one that markup would be made of, if nobody escaped it."""
    pieces = ["<b>", " &", "\n", '"x"'] * (C * T // 4)
    loss = [0.0, -3.0, 8.5, 0.01] * (C * T // 4)
    return {
        "model": model,
        "text": text,
        "chunk_tokens": T,
        "pieces": pieces,
        "places": ["plain"] * (C * T // 2) + ["copied"] * (C * T // 2),
        "l1": [100 * abs(value) for value in loss],
        "cosine": [0.125] * C * T,
        "loss": loss,
        "entropy": [0.5] * C * T,
        "entropy_none": [2.5] * C * T,
        "told_by": [n // T - 1 for n in range(C * T)] if told_by else None,
        "opened": [[(0, 0.625)] if n == T + 2 else [] for n in range(C * T)] if told_by else None,
    }


def write_attribution(folder: Path, *models) -> Path:
    """A measurement with attribution alone, of models by name."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [attribution_sample(m, text, m != "no single") for m in models for text in ("plain", "noisy copy")]
    rows = [row for m in models for row in attribution_rows(m)]
    (folder / "attribution.json").write_text(json.dumps({"results": rows, "samples": samples}))
    return folder
