"""Run folders as memlm train and memlm measure leave them, with made-up figures of the right size."""

import json
import math
import re
from pathlib import Path

import numpy as np

T, M, V = 64, 256, 2048
BOOK = """It was the best of < times & it was the "worst" of times.
Call me Ishmael. Some years ago--never mind how long precisely--having little or no money
in my purse, and nothing particular to interest me on shore, I thought I would sail about a little
and see the watery part of the world. It is a way I have of driving off the spleen, and regulating
the circulation. Whenever I find myself growing grim about the mouth; whenever it is a damp, drizzly
November in my soul; whenever I find myself involuntarily pausing before coffin warehouses, and bringing
up the rear of every funeral I meet; and especially whenever my hypos get such an upper hand of me,
that it requires a strong moral principle to prevent me from deliberately stepping into the street,
and methodically knocking people's hats off--then, I account it high time to get to sea as soon as I can.
This is my substitute for pistol and ball. With a philosophical flourish Cato throws himself upon his
sword; I quietly take to the ship. There is nothing surprising in this."""
PIECES = re.findall(r"\n| ?[\w']{1,4}| ?[^\w\s]+| ", BOOK)
ENVIRONMENT = {
    "memlm": "0.1.0",
    "commit": "0123456789ab",
    "machine": "A Processor @ 2.10GHz, 2 cores, 2 threads",
    "device": "cpu",
    "system": "Linux",
    "python": "3.11.9",
    "packages": {"torch": "2.13.0", "transformers": "5.17.0", "numpy": "2.3.1", "safetensors": "0.6.2"},
}
ORIGIN = {  # of a row
    "seed": 0,
    "data": "5ca1ab1e" * 8,
    "device": "cpu",
    "machine": ENVIRONMENT["machine"],
    "commit": ENVIRONMENT["commit"],
}
PROBE = {
    "bridge": "slots",
    "decoder": {"kind": "pointwise", "width": 64, "layers": 1},
    "train_chunks": 32768,
    "steps": 1000,
    "batch": 128,
    "optim": {"kind": "adamw", "lr": 0.002},
    "seed": 0,
}
# model, encoder, training, decoder, token accuracy, exact match, cross-entropy in nats
ROWS = [
    ("no memory", "none", "none", "fresh", 0.0512, 0.0, 5.71),
    ("slots", "slots", "autoencoder", "own", 0.99964, 0.9844, 0.0031),
    ("slots", "slots", "shuffled", "own", 0.0312, 0.0, 13.9),
    ("slots", "slots", "random-tokens", "own", 0.9781, 0.4112, 0.131),
    ("slots", "slots", "autoencoder", "fresh", 0.9987, 0.9411, 0.0102),
    ("slots", "slots", "shuffled", "fresh", 0.0331, 0.0, 12.1),
    ("slots", "slots", "random-tokens", "fresh", 0.9512, 0.2012, 0.33),
    ("slots-untrained", "slots", "untrained", "fresh", 0.3391, 0.0, 3.61),
    ("mixer", "mixer", "autoencoder", "own", 0.6712, 0.0005, 1.52),
    ("mixer", "mixer", "shuffled", "own", 0.0401, 0.0, 7.9),
    ("mixer", "mixer", "random-tokens", "own", 0.0812, 0.0, 7.31),
    ("mixer", "mixer", "autoencoder", "fresh", 0.4312, 0.0, 2.72),
    ("mixer", "mixer", "shuffled", "fresh", 0.0422, 0.0, 7.2),
    ("mixer", "mixer", "random-tokens", "fresh", 0.0512, 0.0, 7.6),
    ("mixer-untrained", "mixer", "untrained", "fresh", 0.0613, 0.0, 5.58),
    ("transformer", "transformer", "autoencoder", "own", 0.2812, 0.0, 3.61),
    ("transformer", "transformer", "autoencoder", "fresh", 0.2011, 0.0, 4.13),
    ("transformer-untrained", "transformer", "untrained", "fresh", 0.0581, 0.0, 5.64),
    ("causal-mixer", "mixer", "causal", "fresh", 0.0941, 0.0, 5.24),
    ("causal-mixer", "mixer", "shuffled", "fresh", 0.0412, 0.0, 6.3),
    ("causal-mixer", "mixer", "random-tokens", "fresh", 0.0102, 0.0, 7.9),
    ("causal-mixer-untrained", "mixer", "untrained", "fresh", 0.0622, 0.0, 5.57),
    ("causal-transformer", "transformer", "causal", "fresh", 0.0888, 0.0, 5.31),
    ("causal-transformer-untrained", "transformer", "untrained", "fresh", 0.0571, 0.0, 5.65),
]
FLOOR = 5.71


def result(model, encoder, training, decoder, accuracy, exact, nats, *, tokens=T):
    """One row of results.json."""
    usable = (FLOOR - nats) / math.log(2)
    memory_dim = 0 if training == "none" else M
    values = {
        "cross_entropy": nats,
        "entropy_ratio": 1 - nats / (math.log(V) + 0.0413),
        "token_accuracy": accuracy,
        "exact_match": exact,
        "first_error": tokens * accuracy**6,
        "bits_per_byte": nats / math.log(2) / 2.5,
        "usable_bits_per_token": usable,
        "usable_bits_per_embedding": usable * tokens,
        "usable_bits_per_dimension": usable * tokens / M,
    }
    rng = np.random.default_rng(len(model) + len(training))
    bend = np.linspace(0, 1, tokens) ** 8 * (0.5 if training == "causal" else 0)
    wobble = rng.normal(0, 0.06 * accuracy * (1 - accuracy), tokens)
    row = {"model": model, "encoder": encoder, "training": training, "decoder": decoder}
    row |= {"chunk_tokens": tokens, "chunk_chars": 161.4, "memory_dim": memory_dim}
    for name, value in values.items():
        wide = 0.012 * abs(value) * (0.05 if accuracy > 0.9 and "usable" not in name else 1)
        top = 1.0 if name in ("token_accuracy", "exact_match") else math.inf
        row |= {name: value, f"{name}_ci": [value - wide, min(top, value + wide)]}
    row["accuracy_by_position"] = [round(float(a), 5) for a in np.clip(accuracy + wobble + bend, 0, 1)]
    row["independent_chunks"] = 1024.0
    return row | {
        "memory_bytes": memory_dim * 4.0,
        "capacity_bits": memory_dim * 32,
        "token_id_bytes": tokens * 2,
        "text_bytes": 162.3,
        "gzip_bytes": 131.8,
        "encoder_parameters": 1_114_880,
        "encode_seconds": 0.04,
        "chunks": 2048,
        "probe": PROBE if decoder == "fresh" else None,
        **ORIGIN,
        "vocab_size": V,
    }


def sample(row):
    """What a decoder of that accuracy makes of some passages."""
    rng = np.random.default_rng(7)
    passages = []
    for start in np.linspace(0, len(PIECES) - T - 1, 6).astype(int):
        original = PIECES[start : start + T]
        right = (rng.random(T) < row["token_accuracy"]).tolist()
        right[-1] = right[-1] and row["training"] != "autoencoder"
        guesses = [str(piece) for piece in rng.choice([" the", ",", " and", " of", "\n", " "], T)]
        recalled = [piece if ok else guess for piece, ok, guess in zip(original, right, guesses, strict=True)]
        passages.append({"original": original, "recalled": recalled, "right": right})
    passages[0]["right"], passages[0]["recalled"] = [True] * T, passages[0]["original"]
    return {key: row[key] for key in ("model", "training", "decoder")} | {"passages": passages}


def write_measurement(folder: Path, rows=ROWS, *, samples=True, tokens=T) -> Path:
    """A folder of memlm measure."""
    results = [result(*row, tokens=tokens) for row in rows]
    sampled = [row for row in results if row["training"] not in ("shuffled", "random-tokens")]
    models = {row["model"]: "feedbeef" * 8 for row in results if row["training"] in ("autoencoder", "causal")}
    report = {
        "results": results,
        "samples": [sample(row) for row in sampled] if samples else [],
        "config": {"models": models, "data": results[0]["data"], "measure": {"probe": PROBE, "chunks": 2048}},
        "environment": ENVIRONMENT,
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(report))
    return folder


def write_run(folder: Path, *, floor=0.003, speed=0.1, objective="autoencode", finished=True) -> Path:
    """A folder of memlm train."""
    stack = {"kind": "mixer", "width": 256, "layers": 2}
    causal = objective == "causal"
    shape = {"chunk_tokens": T, "stack": stack} if causal else {"chunk_tokens": T, "memory_dim": M, "encoder": stack}
    config = {"data": "data", "model": shape, "objective": objective, "steps": 1000, "batch": 128, "seed": 3}
    rows = []
    for step in range(100, 1100, 100):
        nats = floor + 5.7 * math.exp(-step / 160)
        rows.append(
            {
                "step": step,
                "tokens": step * 128 * T,
                "train_seconds": step * speed,
                "tokens_per_second": 128 * T / speed,
                "loss": nats * 1.01,
                "learning_rate": 1e-3,
                "cross_entropy": nats,
                "token_accuracy": math.exp(-nats * 0.9),
                "exact_match": math.exp(-nats * 20),
                "chunks": 512,
            }
        )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | {"optim": PROBE["optim"]}))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT | {"data": "5ca1ab1e" * 8}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (folder / "summary.json").write_text(json.dumps(rows[-1]))
    return folder


def write_demo(folder: Path) -> Path:
    """A folder with five training runs and one measurement."""
    write_run(folder / "slots", floor=0.003, speed=0.06)
    write_run(folder / "mixer", floor=1.5, speed=0.21)
    write_run(folder / "transformer", floor=3.6, speed=0.18)
    write_run(folder / "causal-mixer", floor=3.4, speed=0.12, objective="causal")
    write_run(folder / "causal-transformer", floor=3.3, speed=0.1, objective="causal")
    write_measurement(folder / "retention")
    (folder / "data").mkdir()
    return folder
