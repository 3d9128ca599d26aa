"""Yardsticks that others publish on, generated here: GradMem's key-value retrieval, RULER's needles and variables, and
multi-query associative recall (MQAR); our copying memory model beside a plain transformer, and what was published.

GradMem (arXiv 2603.13875): N pairs of two-symbol keys and values of 62 symbols, then a key; its context is removed.
MQAR (Zoology, arXiv 2312.04927, their generator): vocabulary 8,192, keys of one token, trained at 64/4 ... 256/64.
RULER (arXiv 2404.06654): a needle (S-N), four needles of which all are asked (MK-MQ), and chains of variables (VT), in
held-out books, at 1, 4, 16 and 64 times the contexts that the preset `memory` is trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from memlm import presets, ui
from memlm.bench.form import Options, Report
from memlm.bench.questions import COLUMNS, figure_of
from memlm.bench.ruler import ruler
from memlm.cpu import tune_cpu
from memlm.loading import build_model, load_model
from memlm.measure.reading import score_places
from memlm.models.model import Generative, TextMemory
from memlm.models.shapes import AutoencoderShape, FullContextShape, MemoryShape
from memlm.nn.loss import IGNORED
from memlm.nn.vocabulary import PAD
from memlm.objectives.batch import Batch
from memlm.readers.config import PointerReader
from memlm.train.config import Curriculum, OptimConfig
from memlm.train.curriculum import train_curriculum
from memlm.train.optim import build_optimizers, learning_rate, set_learning_rate
from memlm.train.start import freeze

T = 16  # tokens of a memory
SYMBOLS, BETWEEN, AFTER = 62, 64, 65  # of keys and values; the tokens ":" and ";"
MQAR_VOCAB = 8192
MQAR: dict[str, tuple[tuple[int, int], ...]] = {"train": ((64, 4), (128, 8), (256, 16), (256, 32), (256, 64))}
MQAR["test"] = (*MQAR["train"], (512, 128), (1024, 256))  # tokens, pairs
PAIRS = (4, 8, 16, 32, 64, 96)
TIMES = (1, 4, 16, 64)  # the length of contexts in training
KV_STEPS = {"autoencoder": 300, "memory": 200}
MQAR_STEPS = {"autoencoder": 600, "memory": 150, "plain": 600}
ROWS, TESTED = 16, 64  # examples of a step, and of a figure
PUBLISHED = {  # (task, setting) -> who: value
    ("kv-retrieval", "N = 8"): {"RMT (2603.13875)": 0.962},
    ("kv-retrieval", "N = 32"): {
        "full attention (2603.13875)": 0.998,
        "GradMem, 5 steps (2603.13875)": 0.9965,
        "Mamba (2603.13875)": 0.902,
    },
    ("kv-retrieval", "N = 96"): {"GradMem (2603.13875)": 0.884},
}
HILS = {  # arXiv 2607.02980: 345M parameters, trained at 8K tokens; (setting, who): S-N, MK-MQ, VT
    ("8K tokens", "HiLS (2607.02980)"): (1.0, 0.95, 0.72),
    ("4M tokens", "HiLS (2607.02980)"): (0.96, 0.89, 0.43),
    ("8K tokens", "full attention, RoPE (2607.02980)"): (1.0, 0.97, 0.34),
    ("16K tokens", "full attention, RoPE (2607.02980)"): (0.0, 0.0, 0.0),
    ("8K tokens", "NSA (2607.02980)"): (0.49, 0.17, 0.16),
}

Maker = Callable[[np.random.Generator, int], Batch]  # of so many examples


def run(
    options: Options,
    *,
    plan: Curriculum | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    pairs: Sequence[int] = PAIRS,
    times: Sequence[int] = TIMES,
    mqar_vocab: int = MQAR_VOCAB,
    share: float = 1.0,
    parts: Sequence[str] = ("kv-retrieval", "mqar", "ruler"),
) -> Report:
    """Train what is not trained yet, and ask it; `share` of the steps, some parts."""
    tune_cpu()
    corpus, plan = options.corpus(), plan or presets.memory()
    place = options.data.with_name(f"{options.data.name}-runs")
    if options.seconds is not None:
        plan = plan.each(max_seconds=options.seconds)
    models: list[Generative] = []
    for seed in seeds if "ruler" in parts else ():
        train_curriculum(plan.each(data=options.data, seed=seed), out := place / f"memory-{seed}", resume=True)
        models.append(cast(Generative, load_model(out)).eval())
    kv, mqar = ({name: max(1, round(share * n)) for name, n in steps.items()} for steps in (KV_STEPS, MQAR_STEPS))
    rows, notes = [], []
    rows += _retrieval(pairs, kv, seeds, notes) if "kv-retrieval" in parts else ()
    rows += _mqar(mqar_vocab, mqar, seeds, notes) if "mqar" in parts else ()
    rows += ruler(models, corpus, times, plan.stages[plan.last].context) if "ruler" in parts else ()
    rows += [
        (task, setting, "exact_match", who, None, value, None, None, None, None)
        for (task, setting), values in PUBLISHED.items()
        for who, value in values.items()
    ]
    rows += [
        (f"ruler-{task}", setting, "exact_match", who, None, value, None, None, None, None)
        for (setting, who), values in HILS.items()
        for task, value in zip(("s-n", "mk-mq", "vt"), values, strict=True)
    ]
    return Report(
        name="yardsticks",
        columns=COLUMNS,
        rows=rows,
        ratios={f"{row[0]}, {row[1]}, {row[4]:,} memories": row[5] for row in rows if row[3] == "memory"},
        setting=(
            f"seeds {', '.join(map(str, seeds))}; kv-retrieval: {kv}, mqar: {mqar} steps of {ROWS} examples, memories "
            f"of {T} tokens in 256 numbers; ruler: preset memory, data {options.data.name} ({corpus.hash[:12]}), part "
            "test"
        ),
        notes=notes,
        told={"seeds": list(seeds)},
    )


def _learn(model: TextMemory, make: Callable[[int], Batch], steps: int, optim: OptimConfig) -> TextMemory:
    """Train on made-up batches, by their numbers."""
    optimizers = build_optimizers(model.train(), optim)
    for step in range(steps):
        set_learning_rate(optimizers, learning_rate(optim, step, steps))
        loss = cast(Any, model(**make(step).inputs())).loss
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    return model.eval()


def _by_seeds(
    make: Maker, vocab: int, layers: int, steps: dict[str, int], seeds: Sequence[int]
) -> tuple[dict[str, list[Generative]], float]:
    """`_taught` of each seed: the models by name, and what is recalled on average."""
    taught, recalled = zip(*(_taught(make, vocab, layers, steps, seed) for seed in seeds), strict=True)
    return {name: [one[name] for one in taught] for name in taught[0]}, float(np.mean(recalled))


def _taught(
    make: Maker, vocab: int, layers: int, steps: dict[str, int], seed: int
) -> tuple[dict[str, Generative], float]:
    """Ours and a plain transformer, trained on a task; and how many random tokens ours recalls.

    Ours: an autoencoder learns random tokens and is frozen; the rest learns the task.
    """
    stages = presets.memory().stages
    first, last = stages["autoencoder"], cast(MemoryShape, stages["find"].model)
    decoder = replace(last.decoder, layers=layers)
    shape = replace(last, reader=replace(cast(PointerReader, last.reader), window=0), decoder=decoder)
    noise = lambda rng: torch.from_numpy(rng.integers(1, vocab, (ROWS * 8, T)))  # noqa: E731

    def random_tokens(step: int) -> Batch:
        ids = noise(np.random.default_rng((1, seed, step)))
        return Batch(ids, ids)

    ui.say(f"seed {seed}: autoencoder of random tokens")
    auto = build_model(cast(AutoencoderShape, first.model), vocab, seed)
    auto = _learn(auto, random_tokens, steps["autoencoder"], first.optim)
    ours = build_model(shape, vocab, seed)
    ours.encoder.load_state_dict(auto.encoder.state_dict())  # pyright: ignore[reportOptionalMemberAccess]
    cast(Any, ours).reader.text.load_state_dict(cast(Any, auto).decoder.state_dict())
    freeze(ours, ("encoder", "reader.text"), fresh_embedding=False)
    with torch.inference_mode():
        ids = noise(np.random.default_rng(2))
        recalled = (cast(Any, ours).reader.text.words(ours.encode(ids)) == ids).float().mean().item()
    plain = build_model(FullContextShape(chunks=4, chunk_tokens=T, decoder=decoder), vocab, seed)
    taught, models = {}, {"memory": ours, "plain": plain}
    for name, model in ((name, models[name]) for name in steps if name in models):
        ui.say(f"{name}: {steps[name]} steps")
        optim = OptimConfig(kind="muon", lr=5e-3, matrix_lr=5e-3, warmup=20, decay_from=0.3, final=0.02)
        learn = lambda step: make(np.random.default_rng((3, seed, step)), ROWS)  # noqa: E731
        taught[name] = cast(Generative, _learn(model, learn, steps[name], optim))
    return taught, recalled


def _figures(
    task: str, setting: str, metric: str, taught: dict[str, list[Generative]], batch: Batch, trained: int, each: int = T
) -> Iterator[tuple[Any, ...]]:
    """A row for each kind of model."""
    chunks = batch.remembered or batch.input_ids.shape[1] // T - 1
    for name, models in taught.items():
        scores = [score_places(model, batch, "own", np.arange(len(batch.input_ids)), model.device) for model in models]
        yield figure_of(task, setting, metric, name, chunks, scores, trained, each)


def pairs_asked(rng: np.random.Generator, rows: int, pairs: int, asked: int = 4) -> Batch:
    """So many pairs of GradMem's task, `k k : v v ;`, and after them some of the keys."""
    codes_BN = np.stack([rng.choice(SYMBOLS**2, pairs, replace=False) for _ in range(rows)])
    symbol_BN4 = (
        np.stack([codes_BN // SYMBOLS, codes_BN % SYMBOLS, *rng.integers(SYMBOLS, size=(2, rows, pairs))], -1) + 2
    )
    line_BN6 = np.insert(symbol_BN4, (2, 4), (BETWEEN, AFTER), -1)
    asked_BA = np.stack([rng.permutation(pairs)[:asked] for _ in range(rows)])
    return _after(line_BN6.reshape(rows, -1), np.take_along_axis(line_BN6, asked_BA[..., None], 1), (3, 5))


def _retrieval(
    pairs: Sequence[int], steps: dict[str, int], seeds: Sequence[int], notes: list[str]
) -> Iterator[tuple[Any, ...]]:
    """GradMem's task: rows of exact matches by the number of pairs."""
    make = lambda rng, rows: pairs_asked(rng, rows, int(rng.choice(pairs)))  # noqa: E731
    taught, recalled = _by_seeds(make, AFTER + 1, 4, steps, seeds)
    notes.append(
        f"kv-retrieval: 'k k : v v ;' a pair, so that N pairs are {6 * max(pairs) / T:.0f} memories of 256 numbers at "
        f"N = {max(pairs)}, where GradMem and RMT keep 8 x 128 numbers whatever N is; {recalled:.2%} of random tokens "
        "are recalled from a memory. Four layers of width 128; four keys are asked of a context, each by itself."
    )
    for N in pairs:
        batch = pairs_asked(np.random.default_rng(4), TESTED, N)
        yield from _figures("kv-retrieval", f"N = {N}", "exact_match", taught, batch, -(-6 * max(pairs) // T))


def _after(text_BN: np.ndarray, line_BAL: np.ndarray, values: tuple[int, int], each: int = T) -> Batch:
    """A text in whole chunks, and after it lines that ask, each in chunks of its own; `values` of a line are scored."""
    rows, size = len(line_BAL), line_BAL.shape[2]
    K = -(-text_BN.shape[1] // each) * each // T
    text_Bn = np.pad(text_BN, ((0, 0), (0, K * T - text_BN.shape[1])), constant_values=PAD)
    label_BAL = np.full_like(line_BAL, IGNORED)
    label_BAL[..., slice(*values)] = line_BAL[..., slice(*values)]
    room = ((0, 0), (0, 0), (0, each - size))
    ids = np.pad(line_BAL, room, constant_values=PAD).reshape(rows, -1)
    labels = np.pad(label_BAL, room, constant_values=IGNORED).reshape(rows, -1)
    before = np.full_like(text_Bn, IGNORED)
    joined = [torch.from_numpy(np.concatenate(both, 1).astype(np.int64)) for both in ((text_Bn, ids), (before, labels))]
    return Batch(joined[0], joined[1], remembered=K)


def mqar_asked(rng: np.random.Generator, rows: int, vocab: int, size: tuple[int, int]) -> Batch:
    """Zoology's task of so many tokens and pairs: pairs, then their keys among random tokens; values are scored."""
    N, P = size
    keys = np.stack([1 + rng.choice(vocab // 2 - 1, P, replace=False) for _ in range(rows)])
    values = np.stack([vocab // 2 + rng.choice(vocab - vocab // 2, P, replace=False) for _ in range(rows)])
    ids_BN = rng.integers(1, vocab, (rows, N + 1))  # what is neither a pair nor a query
    ids_BN[:, : 2 * P] = np.stack([keys, values], -1).reshape(rows, -1)
    space = (N - 2 * P) // 2
    share = np.arange(1, space + 1) ** -0.99  # the gap between a pair and its query: a power law
    gaps = np.stack([rng.choice(space, P, replace=False, p=share / share.sum()) for _ in range(rows)])
    place = 2 * P + 2 * gaps
    np.put_along_axis(ids_BN, place, keys, 1)
    labels_BN = np.full_like(ids_BN, IGNORED)
    np.put_along_axis(labels_BN, place + 1, values, 1)
    room = ((0, 0), (0, -(N + 1) % T))
    ids_BN, labels_BN = np.pad(ids_BN, room), np.pad(labels_BN, room, constant_values=IGNORED)
    return Batch(torch.from_numpy(ids_BN), torch.from_numpy(labels_BN), remembered=2 * P // T)


def _mqar(vocab: int, steps: dict[str, int], seeds: Sequence[int], notes: list[str]) -> Iterator[tuple[Any, ...]]:
    """Zoology's task: rows of values right."""
    sizes = MQAR["train"]
    make = lambda rng, rows: mqar_asked(rng, rows, vocab, sizes[int(rng.integers(len(sizes)))])  # noqa: E731
    taught, recalled = _by_seeds(make, vocab, 2, steps, seeds)
    notes.append(
        f"mqar: two layers of width 128, {recalled:.2%} of random tokens of {vocab:,} are recalled from a memory; a "
        "query whose pair stands in its own chunk must be answered by the decoder. Published as plots only: attention "
        "solves it at every width. Where plain is near 0 it has not learnt at this budget, which is not zero."
    )
    for size in MQAR["test"]:
        batch = mqar_asked(np.random.default_rng(5), TESTED, vocab, size)
        setting = f"{size[0]} tokens, {size[1]} pairs"
        yield from _figures("mqar", setting, "token_accuracy", taught, batch, 256 // T, batch.input_ids.shape[1])
