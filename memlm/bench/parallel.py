"""Memory models against the plain ways to do the same: a training step over all chunks in one call of encoder and
decoder against a call of each for every chunk; memories of a frozen encoder read from disk against the encoder in the
loop; generation with a cache against reading the text anew for every token.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from memlm import ui
from memlm.bench.form import Options, Report
from memlm.bench.timing import for_seconds
from memlm.cpu import tune_cpu
from memlm.data.sampler import ChunkSampler
from memlm.loading import build_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.memory_model import MemoryModel
from memlm.models.model import Generative, chunked
from memlm.models.shapes import FullContextShape, MemoryShape
from memlm.nn.config import StackConfig
from memlm.nn.loss import token_loss
from memlm.objectives.registry import build_objective
from memlm.readers.config import ReaderConfig, VectorReader
from memlm.readers.placing import packed
from memlm.train.memories import StreamMemories, keep_memories

STACK = StackConfig(kind="transformer", width=256, layers=2, heads=4)  # of encoder and decoder
VOCABULARY = 1024
FORMS = {(4, 64): "at least 1", (32, 16): "at least 1.5"}  # chunks, tokens of each: what is asked
FROZEN = {(4, 64): "asked, at least 1.3", (16, 64): "asked, at least 1.3"}
DEEPER = 2  # how many times deeper the frozen encoder of a second comparison is: it runs once a text
STREAM = 1024  # chunks of the text whose memories are kept
PROMPT, NEW = 448, 64  # tokens: generation from 448 to 512
SECONDS = 4.0  # a side of each comparison
SAME = 1e-5  # nats: how far losses of the sides may be apart
ANEW, DISK, FROM_FROZEN, TRAINED = "one after the other", "from disk", "frozen encoder", "trained encoder"

Times = dict[str, list[float]]


def run(
    options: Options,
    *,
    stack: StackConfig = STACK,
    vocab_size: int = VOCABULARY,
    forms: Mapping[tuple[int, int], str] = FORMS,
    frozen: Mapping[tuple[int, int], str] = FROZEN,
    stream: int = STREAM,
    prompt: int = PROMPT,
    new: int = NEW,
) -> Report:
    """Compare sides in turn, after they have been seen to compute the same."""
    tune_cpu()  # as in training
    device = options.device
    seconds, batch = options.seconds or SECONDS, 2 if device.type == "cpu" else 64
    report = Report(
        name="parallel",
        columns=("what", "side", "seconds (median)", "times the first side (median of pairs)"),
        setting=(
            f"encoder and decoder: {stack.layers} {stack.kind} layers of width {stack.width}, {stack.heads} heads; "
            f"vocabulary {vocab_size}; random weights and tokens, fp32; batch {batch} (with kept memories "
            f"{8 * batch} chunks, whatever the window), one text in generation; in turn"
        ),
        device=device.type,
        notes=[
            f"A training step is forward and backward, no optimiser. Losses of all sides agreed to {SAME:g} nats "
            "before anything was timed, and generated tokens were compared.",
            "One after the other: for each chunk a call of the encoder, and a call of the decoder over the memories so "
            "far and the chunk's tokens; each memory is read once, the head and the loss are taken once for all.",
            f"From disk: a batch of windows is drawn, and its memories gathered from a memory-mapped file of {stream} "
            "chunks, as in training; the file is small enough to stay in the machine's page cache.",
            "Generation starts from the tokens of the prompt, with nothing read: the cached side reads it, too.",
        ],
    )
    readers = {"vector": VectorReader(), "vector of 16 entries": VectorReader(vectors=16)}
    for ((chunks, tokens), asked), (name, reader) in product(forms.items(), readers.items()):
        ui.say(case := f"training step, {chunks} x {tokens} tokens, reader {name}")
        model = _built(stack, vocab_size, chunks, tokens, reader, device)
        report.compare(case, times := compare_forms(model, chunks * tokens, batch, seconds))
        for form in ("packed", "folded"):
            report.ratio(case, times, ANEW, form, f"asked, {asked}" if form == model.form else "")
    for ((chunks, tokens), asked), deeper in product(frozen.items(), (1, DEEPER)):
        case = f"training step, {chunks} x {tokens} tokens, kept memories"
        ui.say(case := case if deeper == 1 else f"{case} of {deeper} times deeper an encoder")
        encoder = replace(stack, layers=deeper * stack.layers)
        model = _built(stack, vocab_size, chunks, tokens, VectorReader(), device, encoder)
        times = compare_kept(model, chunks * tokens, max(1, 8 * batch // chunks), stream, seconds)
        report.compare(case, times)
        report.ratio(case, times, FROM_FROZEN, DISK, asked if deeper == 1 else "")
        report.ratio(case, times, TRAINED, DISK)
    generating = {
        "reader vector": _built(stack, vocab_size, 4, 64, VectorReader(), device),
        "full context": build_model(FullContextShape(chunk_tokens=64, decoder=stack), vocab_size, 0),
    }
    for name, model in generating.items():
        ui.say(case := f"generation from {prompt} to {prompt + new} tokens, {name}")
        model = cast(Generative, torch.nn.Module.to(model.eval(), device))
        times, same = compare_cache(model, prompt, new, seconds)
        report.compare(case, times)
        report.ratio(case, times, "reading anew", "cache", "asked, at least 10")
        if not same:
            report.notes.append(f"The two ways of {case} chose DIFFERENT tokens.")
    return report


def one_after_the_other(model: MemoryModel, ids_BN: Tensor) -> Tensor:
    """The peer: the loss of a text [B, N] by a plain loop over its chunks."""
    ids_BCT = chunked(ids_BN, model.chunk_tokens)
    x_BCTW, S = model.embed_chunks(ids_BCT), model.reader.vectors
    prefix, hidden = [], []
    for c in range(ids_BCT.shape[1]):
        layout = packed(model.placing, c, 1, ids_BN.device)
        hidden.append(model.decoder(torch.cat([*prefix, x_BCTW[:, c]], 1), layout)[:, c * S :])
        if c + 1 < ids_BCT.shape[1]:
            prefix.append(model.reader.entries(model.encode(ids_BCT[:, c])[:, None])[:, 0])
    return token_loss(model.head(torch.cat(hidden, 1)), ids_BN)


def compare_forms(model: MemoryModel, tokens: int, batch: int, seconds: float) -> Times:
    """Times of a training step in both forms and by the loop, the form that is the model's own first."""
    ids_BN = torch.randint(2, model.config.vocab_size, (batch, tokens), device=model.device)
    own = model.form

    def in_form(form: Literal["packed", "folded"]) -> Tensor:
        model.form = form
        return model(ids_BN, labels=ids_BN).loss

    losses = {"packed": lambda: in_form("packed"), "folded": lambda: in_form("folded")}
    losses = {own: losses[own], **losses, ANEW: lambda: one_after_the_other(model, ids_BN)}
    times = compare_steps(model, losses, seconds)
    model.form = own
    return times


def compare_kept(model: MemoryModel, window: int, batch: int, stream: int, seconds: float) -> Times:
    """Times of a training step with memories from disk, with a frozen encoder and with a trained one."""
    T, vocab_size, device = model.chunk_tokens, model.config.vocab_size, model.device
    # As training does it: a text of whole chunks, its memories in a file, and windows of it in a drawn order.
    text_N = np.random.default_rng(0).integers(2, vocab_size, stream * T, dtype=np.uint16)
    sampler, objective = ChunkSampler(text_N, window, batch, 0, align=T), build_objective("causal", vocab_size)
    model.encoder.requires_grad_(False)
    with TemporaryDirectory() as scratch:
        origin = {"encoder": model.encoder.fingerprint()}
        memory_NM = keep_memories(
            model.encoder, text_N.reshape(-1, T), model.memory_dim, Path(scratch), origin, device, "frozen encoder"
        )
        memories = StreamMemories(memory_NM, lambda ids_BT: model.encoder(ids_BT.to(device)).cpu(), T, window // T)

        def loss_of(side: str) -> Callable[[], Tensor]:
            steps = count()

            def loss() -> Tensor:
                model.encoder.requires_grad_(side == TRAINED)
                step = next(steps)
                batch_BN = objective(torch.from_numpy(sampler.batch_at(step)).to(device), T)
                known = {"own_memories": memories.of(sampler.starts_at(step), batch_BN)} if side == DISK else {}
                return model(**batch_BN.inputs(), **known).loss

            return loss

        return compare_steps(model, {side: loss_of(side) for side in (DISK, FROM_FROZEN, TRAINED)}, seconds)


def compare_cache(model: Generative, prompt: int, new: int, seconds: float) -> tuple[Times, bool]:
    """Times of generating `new` tokens after a prompt with a cache and without, and whether they were the same."""
    ids_BN = torch.randint(2, model.config.vocab_size, (1, prompt), device=model.device)
    asked = {"max_new_tokens": new, "eos_token_id": None}
    sides = {
        "cache": lambda: model.generate(ids_BN, use_cache=True, **asked),
        "reading anew": lambda: model.generate(ids_BN, use_cache=False, **asked),
    }
    return for_seconds(sides, seconds), torch.equal(*(call() for call in sides.values()))


def compare_steps(model: MemoryModel, losses: Mapping[str, Callable[[], Tensor]], seconds: float) -> Times:
    """Times of a training step (forward and backward) of each side.

    Raises:
        AssertionError: their first losses differ.
    """

    def step(loss: Callable[[], Tensor]) -> float:
        model.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value.item()

    sides = {name: partial(step, loss) for name, loss in losses.items()}
    first = [call() for call in sides.values()]
    assert max(first) - min(first) <= SAME, f"the sides compute different losses: {first}"
    return for_seconds(sides, seconds)


def _built(
    stack: StackConfig,
    vocab_size: int,
    chunks: int,
    tokens: int,
    reader: ReaderConfig,
    device: torch.device,
    encoder: StackConfig | None = None,
) -> MemoryModel:
    forms = EncoderShape(chunk_tokens=tokens, memory_dim=stack.width, stack=encoder or stack)
    shape = MemoryShape(chunks=chunks, encoder=forms, decoder=stack, reader=reader)
    model = build_model(shape, vocab_size, 0).train()
    assert isinstance(model, MemoryModel)
    return model.to(device)  # pyright: ignore[reportArgumentType]
