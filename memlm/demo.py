"""The whole story on a small real corpus, on two CPU cores: prepare, train, measure, report.

First our autoencoder, so that within a minute or two a passage is seen to come back out of one vector. Then the
paper's claims: embeddings of language models hold little of their input (C1), those of autoencoders are nearly perfect
memories (C2), memories in the place of tokens save computation (C3), a memory model that only predicts next tokens
forms memories without use (C4). Beside it ours, which finds what it needs among a thousand memories. With `--full` also
the paper's way: that a model which has to retain learns to form and to read memories (C5), and that a curriculum over a
frozen encoder gets there in fewer steps (C6). Every step is kept in its folder, so that a demo that was stopped goes on
where it was. Whatever the numbers are, they are shown as they are.
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
# Less than the protocol's: one of three families, one budget, one seed; with `--full` two of each.
PROBE = ProbeConfig(families=("slots",), train_chunks=(4096,), seeds=1, steps=150, batch=64)
FULL_PROBE = ProbeConfig(families=("linear", "slots"), train_chunks=(3000, 12_000), seeds=2, steps=300, batch=64)
LOOKED_AT = 64  # held-out chunks at a look at a run
CONTEXTS = 1024, 4096, 16384  # whose cost is measured: what the next one takes is told by two before it ...
COST_SECONDS = 30.0  # ... as far as a side gets in so long
PASSAGES = 2  # that are shown as soon as there is a vector of them
FAR = 4, 64, 1024  # chunks of the texts that a model which finds is asked about, where there is text for two
QUOTED = 16  # tokens of a passage that are given, and told
STEPS = {"language": 400, "find": 200}  # of `memory`: half of the preset's, for eight minutes in all
SEEDS = 3  # of the tables of `--full`


def runs(full: bool = False) -> dict[str, TrainConfig]:
    """What tells C1 and C2: ours and language models; with `full` the paper's autoencoders on their stacks."""
    paper = {"mixer": small(presets.mixer()), "transformer": small(presets.transformer())}
    return {
        "slots": replace(presets.slots(), steps=800),
        **(paper if full else {}),
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
    stages["find"] = replace(find, context=max(1, min(find.context, room)))
    return {"memory-vector": presets.memory_vector(), "memory": Curriculum(stages=stages)}


def full_runs(autoencoder: Path) -> dict[str, Run]:
    """What `--full` adds of every seed over the autoencoder of `memory`: what tells C5 and C6; and from scratch.

    `memory-curriculum` learns to read, then all; `memory-causal` next tokens alone, after as many causal tokens;
    `memory-direct` all from the first step, after as many of the decoder; `memory-fresh` is the curriculum with the
    encoder's word embeddings trained anew, the reference's way.
    """
    stages, scratch = presets.memory_curriculum().stages, presets.memory_soft()
    direct = replace(stages["combined"], start=autoencoder, shrink_perturb=0.0)
    curriculum = {"read": replace(stages["read"], start=autoencoder), "combined": stages["combined"]}
    frozen = ("encoder.readout", "encoder.norm", "reader.text")
    read = replace(stages["read"], start=autoencoder, fresh_embedding=True, frozen=frozen)
    again = replace(stages["combined"], frozen=frozen)
    return {
        "memory-curriculum": Curriculum(stages=curriculum),
        "memory-causal": replace(direct, objective="causal"),
        "memory-direct": replace(direct, steps=direct.steps + stages["read"].steps),
        "memory-scratch": scratch,
        "memory-scratch-causal": replace(scratch, objective="causal"),
        "memory-fresh": Curriculum(stages={"read": read, "combined": again}),
    }


def single_runs() -> dict[str, Run]:
    """What `--full` adds of one seed: the baselines."""
    return {
        "memory-none": presets.memory_none(),
        "memory-full": presets.memory_full(),
        "memory-recurrent": presets.memory_recurrent(),
        "memory-oracle": presets.memory_oracle(),
    }


@dataclass(frozen=True, kw_only=True)
class Demo(Checked):
    """What the demo shows and where it keeps it."""

    out: Path = Path("runs/demo")  # everything goes in here
    source: str = "gutenberg"  # a named corpus, a file or a folder
    scale: Positive = 1.0  # of every training budget; less only shows that it works
    seed: Natural = 0
    full: bool = False  # three seeds, baselines and controls of memory models: about an hour


def demo(config: Demo) -> dict[str, Any]:
    """Run what is left of the demo.

    Returns:
        the measurement of retention (`results`, `samples`, ...) with `access` (of the memory models), `report`, the
        page's path, and `train_seconds` of training by run.
    """
    from memlm import ui
    from memlm.data.prepare import Prepare, prepare
    from memlm.export import export, shipped
    from memlm.measure.run import measure
    from memlm.report.page import write_report

    data, beside = config.out / "data", "-full" if config.full else ""
    shared: Any = {"data": data, "scale": config.scale, "looked_at": LOOKED_AT}
    ui.say("1/7 corpus")
    prepare(Prepare(source=config.source, out=data, seed=config.seed))
    ui.say("2/7 an autoencoder whose one vector shall hold a passage of 64 tokens")
    table = runs(config.full)
    seconds = train_table({"slots": table.pop("slots")}, config.out, seed=config.seed, **shared)
    _show_passages(config.out / "slots", data)
    ui.say("3/7 language models, whose last state is measured beside it")
    seconds |= train_table(table, config.out, seed=config.seed, **shared)
    ui.say("4/7 what each embedding holds: a fresh decoder of the same budget for each, and controls")
    probe = FULL_PROBE if config.full else PROBE
    probe = replace(probe, steps=max(1, round(probe.steps * config.scale)), seed=config.seed)
    wanted = MeasureConfig(probe=probe, chunks=1024, seed=config.seed)
    retention = config.out / f"retention{beside}"
    report = measure([str(config.out / name) for name in runs(config.full)], data, retention, wanted)
    ui.say("5/7 memory models, and what they get from their memories")
    named = _memory_runs(config)
    for seed, some in named.items():
        seconds |= train_table(some, config.out, seed=seed, **shared)
    lengths = _lengths(data)
    _show_reading(config.out / "memory", data, max(lengths, default=0))
    finders = {f"memory{_mark(config, seed)}" for seed in named}
    models = [str(config.out / name) for some in named.values() for name in some if name not in finders]
    models.append(str(config.out / "memory" / "autoencoder"))  # what an encoder of 16 tokens could do at best (C4)
    wanted = replace(wanted, access_examples=256, free_running=32, attribution=64)
    access = measure(models, data, config.out / f"access{beside}", wanted)
    wanted = replace(wanted, access_chunks=lengths, access_examples=32, free_running=8, retention=False)
    far = measure([str(config.out / name) for name in sorted(finders)], data, config.out / f"far{beside}", wanted)
    ui.say("6/7 what a context costs: a decoder that reads memories, and one that reads all tokens")
    _cost(config)
    ui.say("7/7 report, and the autoencoder as a folder to ship")
    model = config.out / f"export{beside}"
    told = shipped(model) if model.exists() else export(config.out / "slots", model, [retention])
    page = config.out / "report.html"
    # By name: the other demo's measurements may stand there too, with some of the same rows.
    every = [*runs(config.full), *(name for some in named.values() for name in some)]
    made = (retention.name, f"access{beside}", f"far{beside}", "cost")
    write_report([config.out / name for name in (*every, *made)], page)
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


def _memory_runs(config: Demo) -> dict[int, dict[str, Run]]:
    """By seed, the memory models of the demo; further seeds have them in their names."""
    from memlm.data.corpus import Corpus

    corpus, named = Corpus.open(config.out / "data"), {}
    tokens = min(len(corpus.train), len(corpus.tune))
    for seed in range(config.seed, config.seed + (SEEDS if config.full else 1)):
        mark = _mark(config, seed)
        every = memory_runs(tokens) | (full_runs(config.out / f"memory{mark}" / "autoencoder") if config.full else {})
        named[seed] = {f"{name}{mark}": run for name, run in every.items()}
    if config.full:
        named[config.seed] |= single_runs()
    return named


def _mark(config: Demo, seed: int) -> str:
    """What the name of a further seed's run ends with."""
    return "" if seed == config.seed else f"-seed{seed}"


def small(config: TrainConfig) -> TrainConfig:
    """A paper's model at the demo's size."""
    config = replace(config, steps=100, batch=32, optim=MUON)
    stacks = {f.name: f for f in fields(config.model) if f.type in (StackConfig, "StackConfig")}
    smaller = {name: replace(getattr(config.model, name), expansion=2) for name in stacks}
    return replace(config, model=replace(config.model, **smaller))
