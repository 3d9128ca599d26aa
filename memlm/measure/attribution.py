"""Where a model needs its memories, token by token: occlusion of texts of which that is known.

A figure is one number: of a text (plain, copy, noisy copy), of the places of one kind in it, with its 95 % bootstrap
interval over texts. Only places that could read a memory are counted: in a text's first chunk all is 0 by its nature.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import WorkError
from memlm.measure.config import AttributionConfig
from memlm.measure.intervals import ratio
from memlm.measure.occlusion import METRICS, Attribution, attribute
from memlm.measure.reading import memories_read
from memlm.measure.subject import Subject, examined
from memlm.models.model import TextMemory
from memlm.nn.vocabulary import END
from memlm.objectives.text import Copy

Array = np.ndarray
PLACES = ("plain", "copied", "noise")
DIGITS = 4  # of what is kept of single tokens, to be looked at
_TOLD = (
    *("text", "places", "against", "figure", "metric", "hidden", "value", "value_ci", "chance", "texts", "tokens"),
    *("chunks", "memories_min", "memories_mean", "memories_max", "note"),
)


@dataclass(frozen=True)
class Texts:
    """B texts of N tokens, each of which is predicted, and scored, at its own place."""

    ids_BN: Tensor
    place_BN: Tensor  # what stands there, a number among `PLACES`
    marks_BC: Tensor | None = None  # bool, the chunks that repeat earlier ones
    back: int = 0  # from how many chunks before a copied token is copied; 0: there are none


def plain(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Texts:
    """The text as it is: memories are of use where it comes back to something."""
    return Texts(tokens_BW, torch.zeros_like(tokens_BW))


def copy(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int, noisy: bool = False) -> Texts:
    """The text twice: memories tell all of the second half.

    Half of that, at random places of each text, is uniformly random if `noisy`: told by nothing at all.
    """
    batch, half = Copy(blank=False)(tokens_BW, chunk_tokens), tokens_BW.shape[1]
    place_BN = torch.zeros_like(batch.input_ids)
    place_BN[:, half:] = PLACES.index("copied")
    if noisy:
        generator = torch.Generator().manual_seed(seed)
        noise_BW = torch.rand(tokens_BW.shape, generator=generator).argsort(1) < half // 2
        random_BW = torch.randint(END + 1, vocab_size, tokens_BW.shape, generator=generator)
        batch.input_ids[:, half:][noise_BW] = random_BW[noise_BW]
        place_BN[:, half:][noise_BW] = PLACES.index("noise")
    return Texts(batch.input_ids, place_BN, batch.marks, half // chunk_tokens)


# A name -> how texts are made, and how many chunks of text one of C chunks takes.
TEXTS = {
    "plain": (plain, lambda chunks: chunks),
    "copy": (copy, lambda chunks: chunks // 2),
    "noisy copy": (partial(copy, noisy=True), lambda chunks: chunks // 2),
}


def measure_attribution(model: TextMemory, corpus: Corpus, config: AttributionConfig, name: str) -> dict[str, Any]:
    """Attribute every token of held-out texts to the memories of a memory model with any reader, or a recurrent one.

    Returns `results`, rows that are flat and of JSON values:
    `text` (plain, copy, noisy copy), `places` (plain, copied, noise), `figure` (`mean` over these places; `auc`:
    how well the metric tells them from places `against` of the same text, 0.5 for not at all, mean over texts;
    `source`: the share of them whose most important single memory is the one that they are copied from), `metric`
    (of measure/occlusion.py, or `entropy` and `entropy_none`), `hidden` (`all` memories or `one`), `value`,
    `value_ci`, `chance`, `texts` and `tokens` that it is of, `chunks` of a text, `memories_min`, `memories_mean`,
    `memories_max` (how many these places could read), `note`, and where it comes from as of `measure_access`.
    `samples`, one text of each kind: its `pieces`, and for each of them its place and all metrics.

    Raises:
        UsageError: another kind of model, another vocabulary, no text that long, or more chunks than there is room for.
        WorkError: a figure is no number.
    """
    rows, samples = [], []
    with examined(model, corpus, name, config, _TOLD) as subject:
        for text, texts in subject.examples(TEXTS, config.texts):
            if isinstance(texts, str):
                rows.append(subject.row(text=text, note=texts))
                continue
            found = attribute(subject.model, texts.ids_BN, texts.marks_BC, subject.device)
            if not all(np.isfinite(values).all() for values in (*found.all.values(), *found.each.values())):
                raise WorkError(f"{name} gives logits that are no numbers: train it anew, with a lower rate.")
            some = list(_figures(subject, text, texts, found))
            said = [r for r in some if r["figure"] == "mean" and r["metric"] == "loss"]
            ui.say(f"{name}: memories in {text}: " + ", ".join(f"{r['places']} {r['value']:+.3f} nats" for r in said))
            rows += some
            samples.append(_sample(subject, text, texts, found))
    return {"results": rows, "samples": samples}


def auc(these: Array, those: Array) -> float:
    """The chance that one of these is above one of those, ties by halves."""
    return float((these[:, None] > those).mean() + (these[:, None] == those).mean() / 2)


def most_important(each_BKN: Array) -> Array:
    """The number of the memory without which a token's prediction changes most [B, N], -1 where none changes it."""
    return np.where(each_BKN.max(1) > 0, each_BKN.argmax(1), -1)


def _figures(subject: Subject, text: str, texts: Texts, found: Attribution) -> Iterator[dict[str, Any]]:
    """Means, then what tells copied places from others, then which memory told them."""
    chunk_N = np.arange(texts.ids_BN.shape[1]) // subject.model.chunk_tokens
    at = {name: (texts.place_BN.numpy() == i) & (chunk_N > 0) for i, name in enumerate(PLACES)}
    at = {name: where_BN for name, where_BN in at.items() if where_BN.any()}

    def row(places: str, figure: str, metric: str, top_B: Any, below_B: Array, **told: Any) -> dict[str, Any]:
        of = ratio(np.stack([top_B, below_B], 1).astype(float), subject.seed, share=figure != "mean")
        told = {"hidden": "all" if metric in METRICS else None, **of, **subject.reach(at[places].sum(0)), **told}
        return subject.row(text=text, places=places, figure=figure, metric=metric, texts=len(below_B), **told)

    values = {**found.all, "entropy": found.entropy_BN, "entropy_none": found.entropy_none_BN}
    for name, where_BN in at.items():
        for metric, value_BN in values.items():
            yield row(name, "mean", metric, (value_BN * where_BN).sum(1), where_BN.sum(1))
    if "copied" not in at:
        return
    copied_BN = at["copied"]
    for other in [name for name in at if name != "copied"]:
        for metric in METRICS:
            triples = zip(values[metric], copied_BN, at[other], strict=True)
            auc_B = [auc(value_N[these_N], value_N[those_N]) for value_N, these_N, those_N in triples]
            yield row("copied", "auc", metric, auc_B, np.ones(len(auc_B)), against=other, chance=0.5)
    if found.each:
        readable_N = np.maximum(memories_read(subject.model, chunk_N, "own"), 1)
        chance = float((copied_BN / readable_N).sum() / copied_BN.sum())
        for metric in METRICS:
            told_BN = copied_BN & (most_important(found.each[metric]) == chunk_N - texts.back)
            yield row("copied", "source", metric, told_BN.sum(1), copied_BN.sum(1), hidden="one", chance=chance)


def _sample(subject: Subject, text: str, texts: Texts, found: Attribution) -> dict[str, Any]:
    """A text from the midst of them, token by token."""
    tokenizer, b = subject.corpus.tokenizer, len(texts.ids_BN) // 2
    kept = {**found.all, "entropy": found.entropy_BN, "entropy_none": found.entropy_none_BN}
    return {
        "model": subject.name,
        "text": text,
        "chunk_tokens": subject.model.chunk_tokens,
        "pieces": [tokenizer.decode([i], skip_special_tokens=False) for i in texts.ids_BN[b].tolist()],
        "places": [PLACES[i] for i in texts.place_BN[b].tolist()],
        **{metric: np.round(values[b], DIGITS).tolist() for metric, values in kept.items()},
        "told_by": most_important(found.each["l1"])[b].tolist() if found.each else None,
        "opened": None if found.opened is None else _opened(*(of[b] for of in found.opened)),
    }


def _opened(number_Nk: Array, share_Nk: Array) -> list[list[tuple[int, float]]]:
    """For each token the memories that it is copied from, a hundredth of its probability at least, the most first."""
    return [
        sorted(((int(k), round(float(s), DIGITS)) for k, s in zip(*of, strict=True) if s >= 0.01), key=lambda o: -o[1])
        for of in zip(number_Nk, share_Nk, strict=True)
    ]
