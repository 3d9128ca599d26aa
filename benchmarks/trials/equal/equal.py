"""Autoencoders and causal models of 64 tokens at equal tokens or at equal seconds, and the paper's memory model.

    python benchmarks/trials/equal/equal.py DATA OUT tokens [MILLIONS]    equally many tokens for all
    python benchmarks/trials/equal/equal.py DATA OUT hour [NAME ...]      what an hour on two cores brings each

Each in a process of its own, with Muon (the best optimiser we know of for all of them; rates of learning are those of
the presets and of the demo). An hour's tokens are counted from the speed that two free cores had, so that they can be
trained by a faster machine and the schedule still ends where the hour does. The memory model reads one vector a memory:
a frozen mixer, then blanks and copies, then next tokens and copies; and next tokens alone after as many steps. Part
test is scored at the end: OUT/NAME/test.json.
"""

import multiprocessing
import sys
from dataclasses import asdict, replace
from pathlib import Path

from memlm import presets
from memlm.data.corpus import Corpus
from memlm.demo import MUON
from memlm.files import write_json
from memlm.loading import load_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import MemoryShape
from memlm.nn.config import StackConfig
from memlm.objectives.names import parse
from memlm.objectives.registry import build_objective
from memlm.precision import device_of
from memlm.readers.config import VectorReader
from memlm.train.config import TrainConfig
from memlm.train.held_out import evaluate
from memlm.train.loop import train

BATCH, TOKENS = 128, 64
# Tokens a second on two free cores, batch 128, fp32: `memlm train NAME`, the first 12 to 40 steps.
SPEED = {"mixer": 13_005, "transformer": 6_765, "causal-mixer": 22_894, "causal-transformer": 12_691, "slots": 114_590}
# The memory model's three hours: half an hour of the mixer, then steps at 0.75 and 1.96 s (8 steps each, measured so).
STAGES = {
    "paper-blank": ("blank/2+copy/2", "paper-mixer", 3580),  # 45 minutes
    "paper-combined": ("causal+0.5*copy/2", "paper-blank", 3210),  # 105 minutes
    "paper-causal": ("causal", "paper-mixer", 3210),  # beside it
}


def one(name: str, data: Path, out: Path, tokens: float) -> None:
    """A preset, for so many tokens."""
    config, steps = presets.preset(name.replace("paper-", "")), int(tokens / BATCH / TOKENS)
    optim = config.optim if name == "slots" else MUON
    config = replace(config, data=data, steps=steps, batch=BATCH, optim=optim, eval_every=max(1, steps // 10))
    done(replace(config, checkpoint_every=steps), out / name)


def stage(name: str, data: Path, out: Path) -> None:
    """A stage of the paper's memory model, four chunks."""
    objective, start, steps = STAGES[name]
    stack = StackConfig(kind="mixer", width=256, layers=2, kernel=4)
    shape = MemoryShape(
        chunks=4,
        encoder=EncoderShape(chunk_tokens=TOKENS, memory_dim=256, memory_norm=False, stack=stack),
        reader=VectorReader(),
        decoder=StackConfig(kind="transformer", width=256, layers=4, heads=4),
    )
    optim = replace(MUON, lr=5e-3, matrix_lr=5e-3)
    config = TrainConfig(model=shape, objective=objective, data=data, batch=32, optim=optim, frozen=("encoder",))
    config = replace(config, start=out / start, steps=steps, eval_every=steps // 10, checkpoint_every=steps)
    done(config, out / name)


def done(config: TrainConfig, run: Path) -> None:
    """Train, and score part test: every objective, those of memory models without memories too."""
    train(config, run, resume=True)
    corpus, device = Corpus.open(config.data), device_of("auto")
    model, T = load_model(run).to(device), config.model.chunk_tokens
    told = {}
    for name, *_ in parse(config.objective):
        objective = build_objective(name, corpus.vocab_size, 0, T)
        windows = corpus.chunks("test", objective.window(config.model.window_tokens), limit=2048)[0]
        told[name] = asdict(evaluate(model, objective, windows, T, device))
        if isinstance(config.model, MemoryShape):
            told[f"{name}, nothing read"] = asdict(evaluate(model, objective, windows, T, device, read=False))
    write_json(run / "test.json", told)


def main() -> None:
    """All runs, each in a process of its own; stages after what they start from."""
    data, out, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    millions = 1e6 * float(sys.argv[4]) if how == "tokens" and len(sys.argv) > 4 else 4e7
    tokens = dict.fromkeys(SPEED, millions)
    if how == "hour":
        tokens = {name: 3600.0 * speed for name, speed in SPEED.items()}
        tokens["paper-mixer"] = tokens["mixer"] / 2
    asked = (sys.argv[4:] if how == "hour" else []) or [*tokens, *(STAGES if how == "hour" else [])]
    process = multiprocessing.get_context("spawn").Process
    going = {name: process(target=one, args=(name, data, out, tokens[name])) for name in asked if name in tokens}
    for run in going.values():
        run.start()
    for name in asked:
        if name in STAGES:
            if (before := going.get(STAGES[name][1])) is not None:
                before.join()
            going[name] = process(target=stage, args=(name, data, out))
            going[name].start()
    for run in going.values():
        run.join()


if __name__ == "__main__":
    main()
