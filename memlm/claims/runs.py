"""The runs that the rules need, of one seed, at small sizes: presets and what differs from them, by name.

Names tell the chunk length where there are two. `full` steps are such that all of it takes about an hour on two cores.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from memlm import presets
from memlm.demo import MUON, small
from memlm.memory.encoder_shape import EncoderShape
from memlm.models.shapes import AutoencoderShape, CausalShape, MemoryShape, OracleShape
from memlm.nn.config import StackConfig
from memlm.train.config import TrainConfig

AUTOENCODER, LANGUAGE = "slots-16", "memory-language"  # what memory models begin with
_SHORT = 100  # steps of the causal encoder that is trained ...
_LONGER = (1, 3, 10)  # ... so many times as long
_LAYERS = (1, 4)  # beside the two that all have


def retention() -> dict[str, TrainConfig]:
    """C1, C2: an autoencoder and causal encoders of 16 tokens, and what E3 asks of these."""
    longer: dict[str, TrainConfig] = {
        f"causal-16-x{times}": causal(_paper().stack, _SHORT * times) for times in _LONGER
    }
    return {AUTOENCODER: presets.memory().stages["autoencoder"], **longer}


def paper() -> dict[str, TrainConfig]:
    """C4: the paper's memory model on next tokens alone, and an autoencoder of the same encoder."""
    stack = _paper().stack
    twin = AutoencoderShape(chunk_tokens=16, memory_dim=256, memory_norm=False, encoder=stack, decoder=stack)
    same = TrainConfig(model=twin, steps=350, batch=64, optim=MUON)
    return {"mixer-16": same, "memory-vector": presets.memory_vector()}


def _paper() -> EncoderShape:
    """The encoder of the paper's memory model."""
    return cast(EncoderShape, cast(MemoryShape, presets.memory_vector().model).encoder)


def layers() -> dict[str, TrainConfig]:
    """E3: the causal encoder of other depths."""
    return {f"causal-16-{n}-layer": causal(replace(_paper().stack, layers=n), _SHORT) for n in _LAYERS}


def causal(stack: StackConfig, steps: int) -> TrainConfig:
    """A language model whose last hidden state is looked at."""
    shape = CausalShape(chunk_tokens=16, stack=stack)
    return TrainConfig(model=shape, objective="causal", steps=steps, batch=64, optim=MUON)


def long(*, others: bool) -> dict[str, TrainConfig]:
    """C2 and C1 at 64 tokens."""
    causals = {"causal-mixer": presets.causal_mixer, "causal-transformer": presets.causal_transformer}
    return {"slots": presets.slots(), **({name: small(make()) for name, make in causals.items()} if others else {})}


def memory(folder: Callable[[str], Path]) -> dict[str, TrainConfig]:
    """C5, C6: ours by its curriculum, the same on next tokens alone, and directly; shorter than the preset.

    They are asked over four chunks, and so they are trained after contexts of 64 memories at most.
    Directly: the last stage's objective from the first step, and the decoder learns together with what finds and
    copies, by its own optimiser (with that of the last stage it learns less: LOG.md, 46).
    """
    stages = presets.memory().stages
    language = replace(stages["language"], steps=200)
    find = replace(stages["find"], steps=150, context=64, start=folder(LANGUAGE))
    direct = replace(
        find,
        start=folder(AUTOENCODER),
        frozen=("encoder", "reader.text"),
        optim=language.optim,
        steps=language.steps + find.steps,
    )
    return {
        LANGUAGE: replace(language, start=folder(AUTOENCODER)),
        "memory": find,
        "memory-causal": replace(find, objective="causal"),
        "memory-direct": direct,
    }


def symbols() -> dict[str, TrainConfig]:
    """C7: both kinds of causal stack, and an autoencoder, on the source of E14."""
    autoencoder = replace(presets.slots(), model=replace(presets.SLOTS, chunk_tokens=16, memory_dim=128))
    kinds = {
        "symbols-transformer": StackConfig(kind="transformer", width=128, layers=1, heads=4),
        "symbols-mixer": StackConfig(kind="mixer", width=128, layers=1, kernel=4),
    }
    runs: dict[str, TrainConfig] = {name: causal(stack, 300) for name, stack in kinds.items()}
    return {"symbols-slots": replace(autoencoder, steps=150, batch=128), **runs}


def codes() -> dict[str, TrainConfig]:
    """E10: an autoencoder of text and one of uniform random tokens, otherwise alike."""
    text = replace(presets.memory().stages["autoencoder"], objective="autoencode")
    return {"codes-text": text, "codes-random": replace(text, objective="noise")}


def precision() -> dict[str, TrainConfig]:
    """E11: what is beside `slots`: the same with noise on its memories in training."""
    base = presets.slots()
    return {"slots-noise": replace(base, model=replace(base.model, bridge="slots-noise"))}


def vector(folder: Callable[[str], Path]) -> dict[str, TrainConfig]:
    """C5 of the paper's memory model: both objectives over one frozen autoencoder, and next tokens alone."""
    both = replace(presets.vector_curriculum().stages["both"], start=folder(AUTOENCODER), steps=500)
    return {"vector-both": both, "vector-causal": replace(both, objective="causal")}


def design(folder: Callable[[str], Path]) -> dict[str, TrainConfig]:
    """E4, E5, E9: the same by positions and by how it is trained."""
    two = vector(folder)
    both = two["vector-both"]
    shape = cast(MemoryShape, both.model)
    return {
        **two,
        **{
            f"design-{scheme}": replace(both, model=replace(shape, positions=scheme))
            for scheme in ("variable", "fixed")
        },
        "design-direct": replace(both, start=None, frozen=()),
        "design-alone": replace(both, start=None, frozen=(), objective="causal"),
        "design-blank": replace(both, objective="blank", steps=250),
        "design-staged": replace(both, start=folder("design-blank"), steps=250),
    }


def oracles() -> dict[str, TrainConfig]:
    """E12: where the oracle's memory stands, and how wide it is."""
    base = presets.memory_oracle()
    shape = cast(OracleShape, base.model)
    return {
        f"oracle-{given}-{width}": replace(
            base, model=replace(shape, given=given, encoder=replace(shape.encoder, memory_dim=width)), steps=120
        )
        for given in ("token", "embedding", "sum")
        for width in (8, 32, 128)
    }
