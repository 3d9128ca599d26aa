"""Named configs, each a function that returns a full `TrainConfig`; a variant changes a preset, never a default.

The small ones take minutes on two CPU cores; the `paper_` ones are the paper's sizes, for a GPU.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from memlm.errors import UsageError
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import (
    AutoencoderShape,
    CausalShape,
    FullContextShape,
    MemoryShape,
    OracleShape,
    RecurrentShape,
)
from memlm.nn.config import StackConfig
from memlm.pretrained.shapes import BaseEncoderShape, PretrainedShape, SoftAutoencoderShape
from memlm.readers.config import NoReader, PointerReader, ReaderConfig, VectorReader
from memlm.train.config import Curriculum, OptimConfig, TrainConfig

SLOTS = AutoencoderShape(
    chunk_tokens=64,
    memory_dim=256,
    encoder=StackConfig(kind="pointwise", width=64, layers=0),
    readout="slots",
    bridge="slots",
    decoder=StackConfig(kind="pointwise", width=64, layers=1),
)


def slots() -> TrainConfig:
    """64 tokens (about 160 characters) in one 256-number vector, almost perfectly, in minutes on two cores."""
    return TrainConfig(
        model=SLOTS,
        steps=800,
        batch=64,
        optim=OptimConfig(kind="muon", lr=2e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0),
    )


def slots_nested() -> TrainConfig:
    """16 tokens in 256 numbers of which the first 64, or 128, are a memory too: the size is chosen when it is kept."""
    base = slots()
    return replace(base, model=replace(base.model, chunk_tokens=16, bridge="slots-nested"), steps=600, batch=192)


def mixer() -> TrainConfig:
    """The paper's autoencoder at laptop size: flat masked mixer, kernel 4, last-token readout, repeat."""
    stack = StackConfig(kind="mixer", width=256, layers=2, kernel=4)
    return TrainConfig(
        model=AutoencoderShape(chunk_tokens=64, memory_dim=256, memory_norm=False, encoder=stack, decoder=stack),
        steps=1000,
    )


def mixer_heads() -> TrainConfig:
    """The paper's autoencoder with four mixing heads in the place of a kernel."""
    stack = StackConfig(kind="mixer", width=256, layers=2, heads=4)
    return _with_stacks(mixer(), stack)


def transformer() -> TrainConfig:
    """The paper's transformer autoencoder at laptop size: Llama-type stacks, last-token readout, unroll."""
    stack = StackConfig(kind="transformer", width=256, layers=2, heads=4)
    config = _with_stacks(mixer(), stack)
    return replace(config, model=replace(config.model, bridge="unroll"))


def causal_mixer() -> TrainConfig:
    """A next-token language model on the mixer preset's stack."""
    stack = StackConfig(kind="mixer", width=256, layers=2, kernel=4)
    return TrainConfig(model=CausalShape(chunk_tokens=64, stack=stack), objective="causal", steps=1000)


def causal_transformer() -> TrainConfig:
    """A next-token language model on the transformer preset's stack."""
    stack = StackConfig(kind="transformer", width=256, layers=2, heads=4)
    return TrainConfig(model=CausalShape(chunk_tokens=64, stack=stack), objective="causal", steps=1000)


def paper_mixer() -> TrainConfig:
    """The paper's mixer autoencoder: 512 tokens in 1024 numbers, 8 layers, kernel 8 (Training of the reference)."""
    stack = StackConfig(kind="mixer", width=1024, layers=8, kernel=8)
    return TrainConfig(
        model=AutoencoderShape(chunk_tokens=512, memory_dim=1024, memory_norm=False, encoder=stack, decoder=stack),
        steps=200_000,
        batch=128,
        optim=OptimConfig(lr=5e-4, warmup=500, decay_from=0.0, final=0.0, beta2=0.999),
        eval_every=1000,
        checkpoint_every=2000,
    )


def paper_transformer() -> TrainConfig:
    """The paper's transformer autoencoder: 512 tokens in 512 numbers, 8 layers, 8 heads, unroll."""
    stack = StackConfig(kind="transformer", width=512, layers=8, heads=8)
    base = _with_stacks(paper_mixer(), stack)
    model = replace(base.model, memory_dim=512, bridge="unroll")
    return replace(base, model=model, optim=replace(base.optim, lr=2e-4))


def memory_vector() -> TrainConfig:
    """The paper's memory model on next tokens alone: a mixer's last hidden state, read as one vector; 4 x 16 tokens.

    The decoder is as wide as a memory, or one entry would not hold it, and has many heads, which take it apart.
    """
    base = _memory(VectorReader(), "causal")
    stack = StackConfig(kind="mixer", width=256, layers=2, kernel=4, expansion=2)
    encoder = EncoderShape(chunk_tokens=16, memory_dim=256, memory_norm=False, stack=stack)
    decoder = StackConfig(kind="transformer", width=256, heads=16)
    return replace(base, model=replace(_model(VectorReader()), encoder=encoder, decoder=decoder))


def vector_curriculum() -> Curriculum:
    """The paper's memory model over a frozen autoencoder: next tokens, and copies that only one vector can tell."""
    base, autoencoder = memory_vector(), _autoencoder()
    encoder = cast(AutoencoderShape, autoencoder.model).encoder_shape
    both = replace(
        base,
        model=replace(base.model, encoder=encoder),
        objective="causal+blank",
        start=Path("autoencoder"),
        frozen=("encoder",),
        steps=1000,
        eval_every=200,
        checkpoint_every=500,
    )
    return Curriculum(stages={"autoencoder": autoencoder, "both": both})


def memory_none() -> TrainConfig:
    """The memory model's baseline without memories: each chunk by itself."""
    return _memory(NoReader(), "causal")


def memory_full() -> TrainConfig:
    """The memory model's baseline with all earlier tokens: a plain transformer."""
    base = memory_none()
    shape = _model(NoReader())
    model = FullContextShape(chunks=shape.chunks, chunk_tokens=shape.chunk_tokens, decoder=shape.decoder)
    return replace(base, model=model)


def memory_oracle() -> TrainConfig:
    """The oracle: a decoder that is given the memory of the very chunk that it predicts, with its own future."""
    base = memory_vector()
    shape = cast(MemoryShape, base.model)
    model = OracleShape(encoder=shape.encoder, decoder=_model(NoReader()).decoder)
    return replace(base, model=model, batch=base.batch * shape.chunks)  # of a chunk each: as many tokens


def memory_recurrent() -> TrainConfig:
    """The recurrent baseline: one carried memory, back-propagation through time."""
    shape = _model(NoReader())
    encoder = replace(shape.encoder, begins=True)
    model = RecurrentShape(chunks=shape.chunks, encoder=encoder, decoder=shape.decoder)
    return replace(_memory(NoReader(), RETAINING), model=model)


def paper_memory() -> TrainConfig:
    """The paper's memory model: 4 chunks of 256 tokens, 16 layers of width 512 on both sides, combined objective."""
    stack = StackConfig(kind="transformer", width=512, layers=16, heads=8)
    return TrainConfig(
        model=MemoryShape(
            chunks=4,
            encoder=EncoderShape(chunk_tokens=256, memory_dim=512, memory_norm=False, stack=stack),
            reader=VectorReader(),
            decoder=stack,
            positions="fixed",
        ),
        objective="combined",
        steps=100_000,
        batch=64,
        optim=OptimConfig(lr=2e-4, warmup=500, decay_from=0.0, final=0.0, beta2=0.999),
        eval_every=1000,
        checkpoint_every=2000,
    )


def paper_curriculum() -> Curriculum:
    """The paper's way to a memory model: an autoencoder, frozen; blank copies; copies; then next tokens as well."""
    base = paper_memory()
    shape = cast(MemoryShape, base.model)
    encoder, stack = cast(EncoderShape, shape.encoder), shape.decoder
    told = {"chunk_tokens": encoder.chunk_tokens, "memory_dim": encoder.memory_dim, "memory_norm": False}
    autoencoder = AutoencoderShape(**told, encoder=encoder.stack, bridge="unroll", decoder=stack)
    stages = {"autoencoder": replace(base, model=autoencoder, objective="autoencode", batch=256)}
    after = {"blank": "autoencoder", "copy": "blank", "combined": "copy"}
    for name, start in after.items():
        stages[name] = replace(base, objective=name, start=Path(start), frozen=("encoder",), steps=base.steps // 3)
    return Curriculum(stages=stages)


def memory() -> Curriculum:
    """Our memory model: finds among thousands of memories of 16 tokens what it needs, and copies."""
    asked = "+0.1*recall/4+0.1*blank/4+0.1*copy/4"
    return _finding(
        _autoencoder(),
        window=3,
        language=(700, 16),
        find=(600, 8),
        asked=asked,
        context=1024,
        near=4,
    )


def memory_64() -> Curriculum:
    """The same with memories of 64 tokens, 4 numbers a token."""
    autoencoder = replace(slots(), objective="autoencode+0.25*noise")
    return _finding(autoencoder, window=1, language=(400, 8), find=(600, 2), surprise=32)


def _autoencoder() -> TrainConfig:
    """16 tokens in 256 numbers; random tokens too: keys and values are no text."""
    return replace(
        slots(),
        model=replace(SLOTS, chunk_tokens=16),
        objective="autoencode+0.25*noise",
        steps=250,
        batch=128,
        eval_every=50,
        checkpoint_every=125,
    )


def _finding(
    autoencoder: TrainConfig,
    window: int,
    language: tuple[int, int],
    find: tuple[int, int],
    asked: str = "",
    surprise: int = 0,
    context: int = 256,
    near: int = 0,
) -> Curriculum:
    """Autoencoder; a language model that reads its newest memories; and, both frozen, what finds and copies.

    Args:
        autoencoder: the first stage.
        window: memories whose words the language model reads.
        language: its steps and batch.
        find: steps, and chunks that are predicted after a context.
        asked: what is added to the objective, of chunks that are marked: what is looked up by one word, and the text
            from its beginning.
        surprise: numbers of a word in tables of how unexpected words are, by which places are told apart; 0: none.
        context: memories before what is predicted, at most.
        near: memories that are opened, beside the usual number, among the newest.
    """
    top = PointerReader.top + near
    reader = PointerReader(
        bridge=SLOTS.bridge, unroll=SLOTS.decoder, window=window, top=top, near=near, surprise=surprise
    )
    base = _memory(reader, "causal")
    encoder = cast(AutoencoderShape, autoencoder.model).encoder_shape
    shape = replace(cast(MemoryShape, base.model), encoder=encoder)
    (steps, batch), (find_steps, chunks) = language, find
    reads = replace(
        base, model=shape, steps=steps, batch=batch, start=Path("autoencoder"), frozen=("encoder", "reader")
    )
    finds = replace(
        base,
        model=replace(shape, chunks=chunks),
        objective="causal+0.4*facts+0.1*quote/4" + asked,
        context=context,
        start=Path("language"),
        frozen=("encoder", "reader.text", "embed", "start", "place", "decoder", "head"),
        steps=find_steps,
        batch=4,
        optim=OptimConfig(lr=1e-2, warmup=20, decay_from=0.3, final=0.02),
        eval_every=100,
        eval_chunks=16,
        checkpoint_every=100,
    )
    reads = replace(reads, eval_every=140, checkpoint_every=350)
    return Curriculum(stages={"autoencoder": autoencoder, "language": reads, "find": finds})


def smollm2_soft() -> TrainConfig:
    """16 of SmolLM2's tokens in one vector of 2,048 numbers, and back as vectors that it reads like tokens."""
    return TrainConfig(
        model=SoftAutoencoderShape(),
        steps=250,
        batch=64,
        optim=OptimConfig(lr=1e-3, warmup=20, decay_from=0.1, final=0.0),
        eval_every=50,
        eval_chunks=16,
        checkpoint_every=150,
        compile="off",
    )


def smollm2_memory() -> TrainConfig:
    """SmolLM2 reads its own last hidden state of earlier chunks, each as four soft tokens (paper: Llama as decoder)."""
    encoder = BaseEncoderShape(chunk_tokens=16)
    return _smollm2(
        PretrainedShape(encoder=encoder, chunks=2, reader=VectorReader(vectors=4)), "causal/2+blank+0.5*copy/2"
    )


def smollm2_curriculum() -> Curriculum:
    """SmolLM2 learns to read memories of 16 tokens: autoencoder, frozen; blank copies; copies; then next tokens too."""
    model, frozen = PretrainedShape(chunks=2), ("encoder", "reader")
    blank = replace(_smollm2(model, "blank"), start=Path("soft"), frozen=frozen, steps=60)
    copy = replace(_smollm2(model, "copy"), start=Path("blank"), frozen=frozen, steps=20)
    combined = replace(_smollm2(model, "causal+0.5*blank/2+0.5*copy/2"), start=Path("copy"), frozen=frozen, steps=30)
    return Curriculum(stages={"soft": smollm2_soft(), "blank": blank, "copy": copy, "combined": combined})


RETAINING = "causal+0.5*blank/2+0.25*copy/4+recall"  # what makes a model form memories that it can read


def _named(*made: Callable[[], Any]) -> dict[str, Any]:
    return {one.__name__.replace("_", "-"): one for one in made}


_OURS = slots, slots_nested, mixer, mixer_heads, transformer, causal_mixer, causal_transformer
_MEMORY = memory_vector, memory_none, memory_full, memory_oracle, memory_recurrent
_PAPER, _SMOLLM2 = (paper_mixer, paper_transformer), (smollm2_soft, smollm2_memory)
PRESETS: dict[str, Callable[[], TrainConfig]] = _named(*_OURS, *_PAPER, *_MEMORY, paper_memory, *_SMOLLM2)
CURRICULA: dict[str, Callable[[], Curriculum]] = _named(
    memory, memory_64, vector_curriculum, paper_curriculum, smollm2_curriculum
)


def preset(name: str) -> TrainConfig:
    """The config of that name.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; there are {', '.join([*PRESETS, *CURRICULA])}.")
    return PRESETS[name]()


def _with_stacks(config: TrainConfig, stack: StackConfig) -> TrainConfig:
    return replace(config, model=replace(config.model, encoder=stack, decoder=stack))


def _model(reader: ReaderConfig) -> MemoryShape:
    """A memory model at laptop size: a slots encoder of 16 tokens, a transformer decoder of two layers."""
    encoder = replace(SLOTS, chunk_tokens=16).encoder_shape
    return MemoryShape(
        chunks=4, encoder=encoder, reader=reader, decoder=StackConfig(kind="transformer", width=128, heads=4)
    )


def _memory(reader: ReaderConfig, objective: str) -> TrainConfig:
    """A run of such a model."""
    return TrainConfig(
        model=_model(reader),
        objective=objective,
        steps=350,
        batch=16,
        optim=OptimConfig(kind="muon", lr=1e-2, matrix_lr=5e-3, decay_from=0.1, final=0.0, warmup=20),
        eval_every=70,
        checkpoint_every=175,
    )


def _smollm2(model: PretrainedShape, objective: str) -> TrainConfig:
    """A few steps for a language model on two cores, whose every step is dear."""
    return TrainConfig(
        model=model,
        objective=objective,
        steps=100,
        batch=4,
        optim=OptimConfig(lr=2e-3, warmup=5, decay_from=0.3, final=0.1),
        eval_every=20,
        eval_chunks=4,
        checkpoint_every=50,
        compile="off",
    )
