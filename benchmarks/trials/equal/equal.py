"""Autoencoders and causal models of 64 tokens after equally many tokens, and the paper's memory model over the mixer.

    python benchmarks/trials/equal/equal.py DATA OUT [MILLION_TOKENS]

Each in a process of its own, with Muon (the best optimiser we know of for all of them; rates are those of the presets
and of the demo). The memory model reads one vector a memory: a frozen mixer, blanks and copies, then next tokens and
copies; and next tokens alone after as many steps.
"""

import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path

from memlm import presets
from memlm.demo import MUON
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import MemoryShape
from memlm.nn.config import StackConfig
from memlm.readers.config import VectorReader
from memlm.train.config import TrainConfig
from memlm.train.loop import train

BATCH, TOKENS = 128, 64
NAMES = ("mixer", "slots", "transformer", "causal-mixer", "causal-transformer")


def one(name: str, data: Path, out: Path, tokens: float) -> None:
    """A preset, for so many tokens."""
    config, steps = presets.preset(name), int(tokens / BATCH / TOKENS)
    optim = config.optim if name == "slots" else MUON
    config = replace(config, data=data, steps=steps, batch=BATCH, optim=optim, eval_every=max(1, steps // 10))
    train(replace(config, checkpoint_every=steps), out / name, resume=True)


def memory(data: Path, out: Path) -> None:
    """The paper's memory model, four chunks."""
    stack = StackConfig(kind="mixer", width=256, layers=2, kernel=4)
    shape = MemoryShape(
        chunks=4,
        encoder=EncoderShape(chunk_tokens=TOKENS, memory_dim=256, memory_norm=False, stack=stack),
        reader=VectorReader(),
        decoder=StackConfig(kind="transformer", width=256, layers=4, heads=4),
    )
    optim = replace(MUON, lr=5e-3, matrix_lr=5e-3)
    base = TrainConfig(model=shape, objective="causal", data=data, batch=32, optim=optim, frozen=("encoder",))
    for name, objective, start, steps in (
        ("blank", "blank/2+copy/2", "mixer", 2000),
        ("combined", "causal+0.5*copy/2", "paper-blank", 4000),
        ("causal", "causal", "mixer", 4000),
    ):
        run = replace(base, objective=objective, start=out / start, steps=steps, eval_every=steps // 10)
        train(replace(run, checkpoint_every=steps), out / f"paper-{name}", resume=True)


if __name__ == "__main__":
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    tokens = 1e6 * float(sys.argv[3] if len(sys.argv) > 3 else 40)
    multiprocessing.set_start_method("spawn")
    runs = {name: multiprocessing.Process(target=one, args=(name, data, out, tokens)) for name in NAMES}
    for run in runs.values():
        run.start()
    runs["mixer"].join()
    memory(data, out)
    for run in runs.values():
        run.join()
