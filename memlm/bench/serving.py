"""Sides that read a context and go on from it: their shapes, what they keep, and both timed in turn."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch

from memlm.bench.timing import in_turn
from memlm.decoding.cached import Prompt
from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.model import Generative
from memlm.models.shapes import FullContextShape, MemoryShape, RecurrentShape
from memlm.nn.config import StackConfig
from memlm.readers.config import SoftReader

FULL, MEMORY, KEPT, RECURRENT = "full context", "memory", "memory, frozen and kept", "recurrent"
SOFT = "memory, reader soft"
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

    def reads(begins: bool) -> EncoderShape:
        readout = "slots" if encoder.kind == "pointwise" else "last"
        return EncoderShape(
            chunk_tokens=chunk_tokens, memory_dim=stack.width, stack=encoder, readout=readout, begins=begins
        )

    memory = MemoryShape(encoder=reads(False), decoder=stack)
    return {
        FULL: FullContextShape(chunk_tokens=chunk_tokens, decoder=stack),
        MEMORY: memory,
        KEPT: memory,
        SOFT: replace(memory, reader=SoftReader()),
        RECURRENT: RecurrentShape(encoder=reads(True), decoder=stack),
    }


def cache_bytes(side: str, context: int, chunk_tokens: int, stack: StackConfig) -> int:
    """Bytes kept of a context of whole chunks, in fp32: layers x 2 x width x 4 for each entry, by the formula."""
    entries = {
        FULL: context + chunk_tokens,  # it makes room for a chunk more, as the others have
        SOFT: context + chunk_tokens,
        MEMORY: context // chunk_tokens + chunk_tokens,
        KEPT: context // chunk_tokens + chunk_tokens,
        RECURRENT: 1 + chunk_tokens,
    }
    return entries[side] * stack.layers * 2 * stack.width * 4


def models_of(shapes: Shapes, vocab_size: int, device: torch.device) -> dict[str, Generative]:
    """A model with random weights for each side."""
    models = {}
    for name, shape in shapes.items():
        model = cast(Generative, build_model(shape, vocab_size, 0).eval())
        models[name] = model.to(device)  # pyright: ignore[reportArgumentType]
    return models


class Serving:
    """A model that reads a context and goes on from it, as two calls.

    Args:
        model: the model.
        prompt: the context.
    """

    def __init__(self, model: Generative, prompt: Prompt):
        self.model, self.prompt, self.cache_bytes = model, prompt, 0

    def prefill(self) -> None:
        """Read the context, up to the logits of the token after it."""
        self.decoding = self.model.decoding(self.prompt)
        self.cache_bytes = self.decoding.nbytes
        _wait(self.prompt.ids)

    def go_on(self) -> None:
        """Write a chunk's worth of tokens."""
        for _ in range(self.model.chunk_tokens):
            self.decoding.step(self.decoding.logits.argmax(-1))
        _wait(self.prompt.ids)


def serve(
    models: Mapping[str, Generative], context: int, rounds: int, *, rows: int = 1, warm_up: int = 0
) -> dict[str, Served]:
    """Read a context and go on, in turn.

    Args:
        models: of each side.
        context: N, whole chunks.
        rounds: how often.
        rows: texts at once.
        warm_up: rounds before those that count.

    Returns:
        What each side took, a round's numbers at the same place in all of them.
    """
    serving = {name: Serving(model, _prompt(name, model, context, rows)) for name, model in models.items()}
    calls = {}
    for name, one in serving.items():
        calls |= {f"{name}: prefill": one.prefill, f"{name}: tokens": one.go_on}
    times = in_turn(calls, rounds=rounds, warm_up=warm_up)
    return {
        name: Served(
            prefill=times[f"{name}: prefill"],
            per_token=[t / one.model.chunk_tokens for t in times[f"{name}: tokens"]],
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


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()
