"""The whole story on a small real corpus, on two CPU cores: prepare, train, measure, report.

First our autoencoder, so that within a minute or two a passage is seen to come back out of one vector. Then the
paper's claims: embeddings of language models hold little of their input (C1), those of autoencoders are nearly perfect
memories (C2), memories in the place of tokens save computation (C3), a memory model that only predicts next tokens
forms memories without use (C4). Beside it ours, which finds what it needs among a thousand memories. Every step is kept
in its folder, so that a demo that was stopped goes on where it was. Whatever the numbers are, they are shown as they
are. `memlm claims` judges the claims, all of them, by several seeds.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from memlm import presets
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.nn.config import StackConfig
from memlm.ranges import Checked, Natural, Positive
from memlm.train.config import Curriculum, OptimConfig, TrainConfig
from memlm.train.table import Run, train_table

# One optimiser for all, the best one found for each (LOG.md). Sizes and steps are such that all fits into eight
# minutes: the stacks of the paper's models have half the MLP of their presets.
MUON = OptimConfig(kind="muon", lr=1e-2, matrix_lr=1.4e-2, decay_from=0.1, final=0.0, warmup=20)
# Less than the protocol's: one of three families, one budget, one seed.
PROBE = ProbeConfig(families=("linear+slots",), train_chunks=(4096,), seeds=1, steps=150, batch=64)
LOOKED_AT = 64  # held-out chunks at a look at a run
CONTEXTS = 1024, 4096, 16384  # whose cost is measured: what the next one takes is told by two before it ...
COST_SECONDS = 30.0  # ... as far as a side gets in so long
PASSAGES = 2  # that are shown as soon as there is a vector of them
FAR = 4, 64, 1024  # chunks of the texts that a model which finds is asked about, where there is text for two
QUOTED = 16  # tokens of a passage that are given, and told
STEPS = {"language": 400, "find": 200}  # of `memory`: of 700 and 600 of the preset, for eight minutes in all ...
CONTEXT = 256  # ... and a quarter of its contexts
VECTOR_STEPS = 150  # of `memory-vector`


def runs() -> dict[str, TrainConfig]:
    """What tells C1 and C2: ours and language models."""
    return {
        "slots": presets.slots(),
        "causal-mixer": small(presets.causal_mixer()),
        "causal-transformer": small(presets.causal_transformer()),
    }


def memory_runs(tokens: int) -> dict[str, Run]:
    """What tells C4, the paper's on next tokens alone; and ours, which finds, after contexts for which there is text.

    Args:
        tokens: of the shorter one of what is trained on and what is chosen by.
    """
    stages = presets.memory().stages
    stages |= {name: replace(stages[name], steps=steps) for name, steps in STEPS.items()}
    find = stages["find"]
    room = (tokens - find.model.window_tokens) // find.model.chunk_tokens
    stages["find"] = replace(find, context=max(1, min(CONTEXT, room)))
    vector = replace(presets.memory_vector(), steps=VECTOR_STEPS)
    return {"memory-vector": vector, "memory": Curriculum(stages=stages)}


@dataclass(frozen=True, kw_only=True)
class Demo(Checked):
    """What the demo shows and where it keeps it."""

    out: Path = Path("runs/demo")  # everything goes in here
    source: str = "gutenberg"  # a named corpus, a file or a folder
    scale: Positive = 1.0  # of every training budget; less only shows that it works
    seed: Natural = 0


def demo(config: Demo) -> dict[str, Any]:
    """Run what is left of the demo.

    Returns:
        the measurement of retention (`results`, `samples`, ...) with `access` (of the memory models), `report`, the
        page's path, and `train_seconds` of training by run.
    """
    from memlm import ui
    from memlm.data.corpus import Corpus
    from memlm.data.prepare import Prepare, prepare
    from memlm.export import export, shipped
    from memlm.measure.run import measure
    from memlm.report.page import write_report

    data = config.out / "data"
    shared: Any = {"data": data, "scale": config.scale, "looked_at": LOOKED_AT}
    ui.say("1/7 corpus")
    prepare(Prepare(source=config.source, out=data, seed=config.seed))
    ui.say("2/7 an autoencoder whose one vector shall hold a passage of 64 tokens")
    table = runs()
    seconds = train_table({"slots": table.pop("slots")}, config.out, seed=config.seed, **shared)
    _show_passages(config.out / "slots", data)
    ui.say("3/7 language models, whose last state is measured beside it")
    seconds |= train_table(table, config.out, seed=config.seed, **shared)
    ui.say("4/7 what each embedding holds: a fresh decoder of the same budget for each, and controls")
    probe = replace(PROBE, steps=max(1, round(PROBE.steps * config.scale)), seed=config.seed)
    wanted = MeasureConfig(probe=probe, chunks=1024, seed=config.seed)
    retention = config.out / "retention"
    report = measure([str(config.out / name) for name in runs()], data, retention, wanted)
    ui.say("5/7 memory models, and what they get from their memories")
    corpus = Corpus.open(data)
    named = memory_runs(min(len(corpus.train), len(corpus.tune)))
    seconds |= train_table(named, config.out, seed=config.seed, **shared)
    lengths = _lengths(data)
    _show_reading(config.out / "memory", data, max(lengths, default=0))
    at_best = config.out / "memory" / "autoencoder"  # what an encoder of 16 tokens could do (C4)
    wanted = replace(wanted, access_examples=256, free_running=32, attribution=64)
    access = measure([str(config.out / "memory-vector"), str(at_best)], data, config.out / "access", wanted)
    wanted = replace(wanted, access_chunks=lengths, access_examples=32, free_running=8, retention=False)
    far = measure([str(config.out / "memory")], data, config.out / "far", wanted)
    ui.say("6/7 what a context costs: a decoder that reads memories, and one that reads all tokens")
    _cost(config)
    ui.say("7/7 report, and the autoencoder as a folder to ship")
    model = config.out / "export"
    told = shipped(model) if model.exists() else export(config.out / "slots", model, [retention])
    page = config.out / "report.html"
    write_report([config.out / name for name in (*runs(), *named, retention.name, "access", "far", "cost")], page)
    access = access["access"] + far["access"]
    return {**report, "access": access, "report": str(page), "model": told, "train_seconds": seconds}


def _show_passages(run: Path, data: Path) -> None:
    """Tell passages of held-out text beside what one vector gives back of each, wrong tokens in brackets."""
    import torch

    from memlm import ui
    from memlm.data.corpus import Corpus
    from memlm.loading import load_model

    model, corpus = load_model(run), Corpus.open(data)
    tokens_NT = corpus.chunks("test", model.chunk_tokens, PASSAGES + 1)[0][-PASSAGES:]  # not a book's first words
    with torch.inference_mode():
        recalled_NT = model.reconstruct(torch.from_numpy(tokens_NT)).argmax(-1).numpy()
    decode = corpus.tokenizer.decode
    for tokens_T, recalled_T in zip(tokens_NT.tolist(), recalled_NT.tolist(), strict=True):
        pairs = zip(recalled_T, tokens_T, strict=True)
        came = "".join(decode([one]) if one == token else f"[{decode([one])}]" for one, token in pairs)
        ui.say(f"  the text:        {' '.join(decode(tokens_T).split())}")
        ui.say(f"  from its vector: {' '.join(came.replace('][', '').split())}")


def _lengths(data: Path) -> tuple[int, ...]:
    """How many chunks the texts have that a model which finds is asked about: of `FAR` those that two texts have."""
    import numpy as np

    from memlm.data.corpus import Corpus

    corpus, T = Corpus.open(data), presets.memory().stages["autoencoder"].model.chunk_tokens
    texts = np.diff(corpus.test.documents) - 1
    return tuple(chunks for chunks in FAR if (texts // (chunks * T)).sum() > 1)


def _show_reading(run: Path, data: Path, chunks: int) -> None:
    """Tell how a passage of a held-out text goes on: as the text's memories tell, and without them."""
    from memlm import load, ui
    from memlm.data.corpus import Corpus

    if not chunks:
        return
    model, corpus = load(run), Corpus.open(data)
    tokens_N = corpus.chunks("test", chunks * model.chunk_tokens, 1).tokens[0]
    decode, at = corpus.tokenizer.decode, len(tokens_N) // 3
    given, goes_on = (decode(tokens_N[n : n + QUOTED].tolist()) for n in (at, at + QUOTED))
    memories = model.encode(decode(tokens_N.tolist()))
    told, alone = (model.generate(given, memories=m, max_new_tokens=QUOTED) for m in (memories, None))
    words = " ".join(given.split()[1:])  # the first one may be the end of a word
    ui.say(f"  {len(memories):,} memories hold {len(tokens_N):,} tokens, among them: {words} ...")
    for what, text in {"the text goes on:": goes_on, "from memories:": told, "without:": alone}.items():
        ui.say(f"  {what:17} {' '.join(text.split())}")


def _cost(config: Demo) -> None:
    """C3: `memlm bench memory` at the contexts that a demo has time for, kept as it is."""
    from memlm.bench.form import Options
    from memlm.bench.memory import run

    folder = config.out / "cost"
    if not (folder / "memory.json").exists():
        contexts = [n for n in CONTEXTS if n <= max(CONTEXTS[0], config.scale * CONTEXTS[-1])]
        options = Options(data=config.out / "data", out=folder, seconds=COST_SECONDS)
        run(options, contexts=contexts, brief=True).save(folder)


def small(config: TrainConfig) -> TrainConfig:
    """A paper's model at the demo's size."""
    config = replace(config, steps=100, batch=32, optim=MUON)
    stacks = {f.name: f for f in fields(config.model) if f.type in (StackConfig, "StackConfig")}
    smaller = {name: replace(getattr(config.model, name), expansion=2) for name in stacks}
    return replace(config, model=replace(config.model, **smaller))
