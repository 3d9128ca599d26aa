"""What makes each benchmark small enough to run from end to end on a tiny corpus."""

from dataclasses import replace
from importlib import import_module

from foreign_models import save_foreign
from texts import write_documents
from tiny_models import save_tiny

from memlm import presets
from memlm.bench import smollm2far, smollm2lora, smollm2ruler
from memlm.data.prepare import Prepare, prepare
from memlm.memory.encoder_shape import EncoderShape
from memlm.nn.config import StackConfig
from memlm.pretrained.shapes import BaseConfig, PretrainedShape, SoftAutoencoderShape, SoftTokens
from memlm.train.adapt import Adapting
from memlm.train.config import Curriculum

STACK = StackConfig(kind="transformer", width=8, layers=2, heads=2)
# What makes each benchmark small; a new one needs a row.
SMALL = {
    "slots": {"target": 1e-4},
    "mixer": {"batch": 1},
    "encode": {"models": ("slots", "mixer", "transformer", "causal-mixer"), "batch": 2},
    "bank": {"memories": 300, "appended": 100, "rounds": 1, "alone": False},
    "memory": {"contexts": (4, 256), "chunk_tokens": 4, "stack": STACK, "vocab_size": 20},
    "attention": {"cases": {"vector": ((3, 4), (2, 70)), "soft-tokens": ((3, 4),)}},
    "parallel": {
        "stack": STACK,
        "vocab_size": 20,
        "forms": {(3, 4): "asked"},
        "frozen": {(2, 4): "asked"},
        "stream": 16,
        "prompt": 6,
        "new": 3,
    },
    "tokenise": {"limit": 2000},
    "probe": {
        "tokens": 4,
        "chunks": 24,
        "batch": 8,
    },
    "far": {"seeds": (0,), "contexts": (1, 4, 8), "cost": (16, 32)},
    "far64": {"seeds": (0,), "contexts": (4, 8)},
    "yardsticks": {"pairs": (4,), "times": (32, 64), "mqar_vocab": 600, "share": 0.001},
    "kept": {"seeds": 1, "chunks": 6, "scale": 0.001},
    "startup": {"rounds": 1, "warm_up": 0},
    "frontier": {"grid": {32: (2,), 64: (2, 4)}, "budgets": (4, 2), "batch": 4},
}


def small_language_model(options) -> dict:
    """What makes the benchmark of a real language model one of a tiny one, with data in its tokens."""
    lm = save_tiny("llama", options.data.parent / "lm")
    source = write_documents(options.data.parent / "documents")
    prepare(Prepare(source=str(source), out=options.data, tokenizer=lm))
    encoder = EncoderShape(
        chunk_tokens=4, memory_dim=16, stack=StackConfig(kind="pointwise", width=4, layers=0), readout="slots"
    )
    soft, base = SoftTokens(width=4, hidden=8), BaseConfig(name=str(lm), lora_rank=2)
    models = {"soft": SoftAutoencoderShape(base=str(lm), encoder=encoder, decoder=soft, negatives=8)}
    other = PretrainedShape(encoder=encoder, chunks=2, reader=soft, decoder=base)
    stages = {
        name: replace(config, model=models.get(name, other), steps=1, batch=2)
        for name, config in presets.smollm2_curriculum().stages.items()
    }
    return {"curriculum": Curriculum(stages=stages), "context": 8, "examples": 3, "plain": 6, "rounds": 1}


def small_far(options) -> dict:
    """The same for a language model over long texts."""
    lm = save_tiny("llama", options.out.parent / "far-lm")
    adapting = Adapting(base=str(lm), data=options.data, windows=4, steps=1, context=8)
    sizes = {"contexts": (256,), "examples": 1, "windows": (8,), "remembered": (64,), "places": 1, "most": 512}
    return {"sizes": smollm2far.Sizes(**sizes, seeds=(0, 1), train=adapting, autoencoder_steps=1)}


def small_lora(options) -> dict:
    """The same for its adapter."""
    lm = save_tiny("llama", options.out.parent / "lora-lm")
    adapting = Adapting(base=str(lm), data=options.data, windows=4, steps=1, context=8, lora=2, lora_steps=1)
    sizes = {"contexts": (256,), "examples": 1, "quotations": 1, "windows": (8,), "remembered": 64, "places": 1}
    return {"sizes": smollm2lora.Sizes(**sizes, seeds=(0, 1), train=adapting, autoencoder_steps=1)}


def small_ruler(options) -> dict:
    """The same asked as RULER does."""
    lm = save_tiny("llama", options.out.parent / "ruler-lm")
    adapting = Adapting(base=str(lm), data=options.data, windows=4, steps=1, context=8, lora=2, lora_steps=1)
    sizes = {"contexts": (256,), "examples": 1, "most": 512, "seeds": (0, 1)}
    return {"sizes": smollm2ruler.Sizes(**sizes, train=adapting, autoencoder_steps=1)}


def small_plan() -> Curriculum:
    """The memory model of the benchmark, small."""
    few = StackConfig(kind="pointwise", width=4, layers=0)
    stages = presets.memory().stages
    first = replace(stages["autoencoder"].model, chunk_tokens=8, memory_dim=8, encoder=few, decoder=few)
    reader = replace(stages["find"].model.reader, unroll=few, word_dim=4, key_dim=4)
    shape = replace(stages["find"].model, encoder=first.encoder_shape, reader=reader, decoder=STACK, chunks=4)
    models = {"autoencoder": first, "language": shape, "find": shape}
    stages = {
        name: replace(stage, model=models[name], steps=1, batch=4, context=min(2, stage.context))
        for name, stage in stages.items()
    }
    return Curriculum(stages=stages)


def run(name, options, **more):
    if name == "smollm2":
        options = replace(options, data=options.out.parent / "language-model" / "data")
        more = {**small_language_model(options), **more}
    if name == "kept":
        more = {"runs": options.out.parent / "kept", **more}
    if name in ("far", "far64", "yardsticks"):
        more = {"plan": small_plan(), **more}
    if name == "smollm2far":
        options, more = replace(options, seconds=None), {**small_far(options), **more}
        more = {"runs": options.out.parent / "far-runs", **more}
    if name == "smollm2lora":
        more = {"runs": options.out.parent / "lora-runs", **small_lora(options), **more}
    if name == "smollm2ruler":
        more = {"runs": options.out.parent / "ruler-runs", **small_ruler(options), **more}
    if name == "probe":
        more = {"model": str(save_foreign("causal", options.out.parent / "foreign")), "rounds": 1, **more}
    report = import_module(f"memlm.bench.{name}").run(options, **{**SMALL.get(name, {}), **more})
    return report, report.save(options.out).read_text()
