"""A frozen language model of others is given memories of text through LoRA: how many tokens it copies from them before
and after its training, whether plain text costs it anything, and what a context costs.

The curriculum of the preset is trained beside the data, and resumed there if the benchmark was stopped.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memlm import ui
from memlm.bench.form import Options, Report
from memlm.bench.serving import Serving
from memlm.bench.timing import in_turn, pair_ratio
from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus
from memlm.data.prepare import Prepare, prepare
from memlm.decoding.cached import Decoding, Prompt
from memlm.loading import build_model, load_model
from memlm.measure.controls import derangement
from memlm.measure.intervals import interval, share_interval
from memlm.measure.reading import MEMORIES, score_places, write_marked
from memlm.measure.tasks import TASKS
from memlm.nn.loss import IGNORED
from memlm.presets import smollm2_curriculum
from memlm.pretrained.base import logits
from memlm.pretrained.memory import PretrainedMemory
from memlm.pretrained.opening import open_pretrained
from memlm.pretrained.shapes import PretrainedShape
from memlm.readers.config import VectorReader
from memlm.train.config import Curriculum
from memlm.train.curriculum import train_curriculum
from memlm.train.start import start_from

CONTEXT = 2048
PLAIN = 64  # tokens of a plain text
FIGURES = ("tokens right", "95 %", "nats", "95 % of nats")


def run(
    options: Options,
    *,
    curriculum: Curriculum | None = None,
    context: int = CONTEXT,
    examples: int = 24,
    plain: int = PLAIN,
    rounds: int = 5,
) -> Report:
    """Train, score before and after, and time."""
    tune_cpu()
    plan = (curriculum or smollm2_curriculum()).each(data=options.data)
    last = plan.stages[plan.last]
    shape = cast(PretrainedShape, last.model)
    if not options.data.exists():
        prepare(Prepare(source="gutenberg", out=options.data, tokenizer=Path(shape.base)))
    if options.seconds is not None:
        plan = plan.each(max_seconds=options.seconds)
    runs = options.data.with_name(f"{options.data.name}-runs")
    summary = train_curriculum(plan, runs, resume=True)
    corpus, first = Corpus.open(options.data), next(iter(plan.stages))
    before = cast(PretrainedMemory, build_model(shape, corpus.vocab_size, last.seed).eval())
    start_from(before, runs / first, corpus.tokenizer)
    after = cast(PretrainedMemory, load_model(runs))
    access = [dict(_access(model, corpus, examples)) for model in (before, after)]
    text = _plain(after, corpus, examples, plain)
    del before
    served = _served(after, context, rounds)
    full, slots, vector = served.values()
    then, T = f"after {context:,} tokens", shape.chunk_tokens
    asked = "plain text, LoRA on where nothing is read / the base model (asked, at most 1.02)"
    return Report(
        name="smollm2",
        columns=("task", "mode", "memories", *(f"{side}: {it}" for side in ("before", "after") for it in FIGURES)),
        rows=[(*key, *access[0][key], *access[1][key]) for key in access[0]],
        ratios={
            "plain text, the memory model without memories / the base model": text["unread"] / text["base"],
            asked: text["always"] / text["base"],
            f"time per token {then}, full context / one soft token": pair_ratio(full["token"], vector["token"]),
            f"time per token {then}, full context / {T} soft tokens": pair_ratio(full["token"], slots["token"]),
            f"cache bytes {then}, full context / one soft token": full["bytes"] / vector["bytes"],
            f"cache bytes {then}, full context / {T} soft tokens": full["bytes"] / slots["bytes"],
        },
        setting=(
            f"{Path(shape.base).name}: {after.config.base_source}; chunks of {T} tokens in {shape.memory_dim} numbers, "
            f"LoRA of rank {shape.decoder.lora_rank} on all linear layers; {examples} held-out examples of "
            f"{shape.chunks} chunks; seed {last.seed}; stages "
            + ", ".join(f"{name}: {c.objective}, {c.steps} steps of {c.batch}" for name, c in plan.stages.items())
        ),
        notes=[
            "Before: the language model untouched, reading soft tokens of its autoencoder. After: the last stage.",
            "Memories: the text's own, none, or those of another text. Intervals: 95 %, bootstrap over examples.",
            f"Soft tokens, held out: {summary['stages'][first]['token_accuracy']:.2%} of tokens are the nearest ones.",
            f"Plain text, {plain} tokens: base {text['base']:.4f} nats a token; the memory model without memories "
            f"{text['unread']:.4f}, equal to the bit: {'yes' if text['bits'] else 'no'}; LoRA everywhere "
            f"{text['always']:.4f}.",
            *(
                f"{side}: prefill {one['prefill']:.2f} s (once), {1000 * median(one['token']):.1f} ms a token, "
                f"{one['bytes']:,} bytes of cache"
                for side, one in served.items()
            ),
            "Times do not depend on weights: the side with one soft token each has a reader that was not trained. The "
            "full context runs with the adapter in place and multiplied by zero, as the others do with it at work.",
        ],
        told={"seed": last.seed, "examples": examples},
        raw={"plain": text, "served": served, "stages": summary["stages"]},
    )


def _access(
    model: PretrainedMemory, corpus: Corpus, examples: int
) -> Iterator[tuple[tuple[str, str, str], tuple[Any, ...]]]:
    """(task, mode, memories) -> `FIGURES`, with intervals over examples."""
    T, chunks = model.chunk_tokens, model.config.read_shape().chunks
    for name in ("blank", "copy", "causal"):
        make, of_text = TASKS[name]
        text_BW = torch.from_numpy(corpus.chunks("test", of_text(chunks) * T, limit=examples).tokens)
        batch = make(text_BW, T, corpus.vocab_size, 0).batch
        shuffled_B = derangement(len(text_BW), np.random.default_rng(0))
        for memory in MEMORIES:
            found = score_places(model, batch, memory, shuffled_B, model.device)
            nats_B2 = np.stack([found.nats_BN.sum(1), found.scored_BN.sum(1)], 1)
            nats = float(np.divide(*nats_B2.sum(0))), interval(lambda m: m[:, 0] / m[:, 1], nats_B2)
            share = _share(found.right_BN, found.scored_BN, f"{name}, {memory}")
            yield (name, "teacher-forced", memory), (*share, *nats)
        if name == "copy":
            assert batch.marks is not None
            right_BN = (write_marked(model, batch.input_ids, batch.marks) == batch.labels).numpy()
            share = _share(right_BN, (batch.labels != IGNORED).numpy(), "copy, own, free running")
            yield (name, "free-running", "own"), (*share, "-", "-")


def _share(right_BN: np.ndarray, scored_BN: np.ndarray, what: str) -> tuple[float, list[float]]:
    """The share of scored tokens that are right, which is also said as it comes, and its interval over examples."""
    right_B2 = np.stack([(right_BN & scored_BN).sum(1), scored_BN.sum(1)], 1).astype(float)
    right = float(np.divide(*right_B2.sum(0)))
    ui.say(f"{what}: {right:.2%} of tokens")
    return right, share_interval(right_B2)


@torch.inference_mode()
def _plain(model: PretrainedMemory, corpus: Corpus, examples: int, tokens: int) -> dict[str, Any]:
    """Nats a token of plain text: of the base as it came, of the memory model with nothing to read, of LoRA always."""
    ids_BN = torch.from_numpy(corpus.chunks("test", tokens, limit=examples).tokens)
    own_BN = model.base.own(ids_BN)
    read_BN = torch.cat([torch.full_like(own_BN[:, :1], model.base.begin), own_BN[:, :-1]], 1)
    told = {"base": open_pretrained(model.base.name, head=True).model(input_ids=read_BN).logits}
    x_BNW = model.inputs(F.pad(ids_BN, (1, 0))[:, :-1], torch.arange(tokens))
    assert model.adapter is not None
    for model.adapter.serves in ("always", "reading"):
        told[model.adapter.serves] = logits(model.base.lm, model.decoder(x_BNW))
    nats = {name: F.cross_entropy(of.flatten(0, 1), own_BN.flatten()).item() for name, of in told.items()}
    return {
        "base": nats["base"],
        "unread": nats["reading"],
        "always": nats["always"],
        "bits": torch.equal(told["base"], told["reading"]),
    }


class _Full(Decoding):
    """The language model as it comes, which keeps every token."""

    @torch.inference_mode()
    def __init__(self, model: PretrainedMemory, ids_BN: Tensor):
        self.lm = model.base.lm
        self.cache: Any = None
        self._read(model.base.own(ids_BN))

    def _read(self, own_BN: Tensor) -> Tensor:
        out = self.lm(input_ids=own_BN, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache, self.logits = out.past_key_values, out.logits[:, -1]
        return self.logits

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`, in the language model's own ids."""
        return self._read(tokens_B[:, None])

    @property
    def nbytes(self) -> int:
        """As of `Decoding`."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers)


def _served(model: PretrainedMemory, context: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds to read a context and for each of the T tokens after it, and bytes kept, side by side."""
    T, shape = model.chunk_tokens, cast(PretrainedShape, model.config.read_shape())
    one = replace(shape, reader=VectorReader())
    vector = cast(PretrainedMemory, build_model(one, model.config.vocab_size, 0).eval())
    ids_BN = torch.randint(2, model.config.vocab_size, (1, context), generator=torch.Generator().manual_seed(0))
    sides = {"full context": Serving(partial(_Full, model, ids_BN), T)}
    for side, reading in ((f"memories, {T} soft tokens each", model), ("memories, one soft token each", vector)):
        sides[side] = Serving(partial(reading.decoding, Prompt(ids_BN, [context])), T)
    prefill = in_turn({name: side.prefill for name, side in sides.items()}, rounds=1, warm_up=0)
    kept = [side.cache_bytes for side in sides.values()]
    assert kept[1:] == [reading.cache_bytes(context) for reading in (model, vector)], "another size than the formula's"
    tokens = in_turn({name: side.go_on for name, side in sides.items()}, rounds=rounds)
    return {
        name: {"prefill": prefill[name][0], "token": [t / T for t in tokens[name]], "bytes": side.cache_bytes}
        for name, side in sides.items()
    }
