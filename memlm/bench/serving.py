"""Sides that read a context and go on from it: their shapes, what they keep, and both timed in turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch

from memlm.bench.timing import in_turn
from memlm.decoding.cached import Decoding, Prompt
from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.model import Generative
from memlm.models.shapes import FullContextShape, MemoryShape, RecurrentShape
from memlm.nn.config import StackConfig

FULL, MEMORY, KEPT, RECURRENT = "full context", "memory", "memory, frozen and kept", "recurrent"
SIDES = FULL, MEMORY, KEPT, RECURRENT
POINTWISE = StackConfig(kind="pointwise", width=64, layers=0)  # of the slots preset's encoder

Shapes = dict[str, MemoryShape | FullContextShape | RecurrentShape]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What reading a context and going on from it took."""

    prefill: list[float]  # seconds, one a round
    per_token: list[float]  # seconds, the mean over the T tokens of each round
    cache_bytes: int  # of all texts, after the prefill


def sides(chunk_tokens: int, stack: StackConfig, encoder: StackConfig | None = None) -> Shapes:
    """The shape of each side; the encoder is the decoder's like, or the slots preset's (`POINTWISE`)."""
    encoder = encoder or stack
    reads = EncoderShape(
        chunk_tokens=chunk_tokens,
        memory_dim=stack.width,
        stack=encoder,
        readout="slots" if encoder.kind == "pointwise" else "last",
    )
    memory = MemoryShape(encoder=reads, decoder=stack)
    return {
        FULL: FullContextShape(chunk_tokens=chunk_tokens, decoder=stack),
        MEMORY: memory,
        KEPT: memory,
        RECURRENT: RecurrentShape(encoder=replace(reads, begins=True), decoder=stack),
    }


def cache_bytes(side: str, context: int, chunk_tokens: int, stack: StackConfig) -> int:
    """Bytes kept of a context of whole chunks, in fp32: layers x 2 x width x 4 for each entry, by the formula.

    All have room for one more chunk of T tokens; what is kept of the context is all of it, a memory a chunk, or one.
    """
    kept = {FULL: context, RECURRENT: 1}.get(side, context // chunk_tokens)
    return (kept + chunk_tokens) * stack.layers * 2 * stack.width * 4


def models_of(shapes: Shapes, vocab_size: int, device: torch.device) -> dict[str, Generative]:
    """A model with random weights for each side."""
    built = {name: build_model(shape, vocab_size, 0).eval() for name, shape in shapes.items()}
    return {name: cast(Generative, torch.nn.Module.to(model, device)) for name, model in built.items()}


class Serving:
    """A context that is read, up to the logits of the token after it, and gone on from, as two calls.

    Args:
        read: the context's decoding.
        chunk_tokens: so many tokens are written, greedily.
    """

    def __init__(self, read: Callable[[], Decoding], chunk_tokens: int):
        self.read, self.chunk_tokens, self.cache_bytes = read, chunk_tokens, 0

    def prefill(self) -> None:
        """Read the context."""
        self.decoding = self.read()
        self.cache_bytes = self.decoding.nbytes

    def go_on(self) -> None:
        """Write a chunk's worth of tokens, the last of which fills it."""
        for _ in range(self.chunk_tokens):
            self.decoding.step(self.decoding.logits.argmax(-1))


def serve(
    models: Mapping[str, Generative], context: int, rounds: int, *, rows: int = 1, warm_up: int = 0
) -> dict[str, Served]:
    """Read a context of N tokens, whole chunks, `rows` texts at once, and go on, in turn.

    Returns:
        What each side took, a round's numbers at the same place in all of them.
    """
    calls, serving = {}, {}
    for name, model in models.items():
        read = partial(model.decoding, _prompt(name, model, context, rows))
        serving[name] = one = Serving(read, model.chunk_tokens)
        calls |= {f"{name}: prefill": one.prefill, f"{name}: tokens": one.go_on}
    times = in_turn(calls, rounds=rounds, warm_up=warm_up)
    return {
        name: Served(
            prefill=times[f"{name}: prefill"],
            per_token=[t / one.chunk_tokens for t in times[f"{name}: tokens"]],
            cache_bytes=one.cache_bytes,
        )
        for name, one in serving.items()
    }


def _prompt(side: str, model: Generative, context: int, rows: int) -> Prompt:
    assert context % model.chunk_tokens == 0, "a context is made of whole chunks"
    device = model.device
    ids_BN = torch.randint(2, model.config.vocab_size, (rows, context), device=device)
    if side != KEPT:
        return Prompt(ids_BN, [context] * rows)
    memory_BKM = torch.randn(rows, context // model.chunk_tokens, model.memory_dim, device=device)
    return Prompt(ids_BN[:, :0], [0] * rows, memory_BKM)
