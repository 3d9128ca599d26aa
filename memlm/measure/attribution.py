"""Where a model needs its memories, token by token: occlusion of texts of which that is known.

A figure is one number: of a text (plain, copy, noisy copy), of the places of one kind in it, with its 95 % bootstrap
interval over texts. Only places that could read a memory are counted: in a text's first chunk all is 0 by its nature.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import WorkError
from memlm.measure.bootstrap import interval, share_interval
from memlm.measure.config import AttributionConfig
from memlm.measure.occluded_texts import PLACES, TEXTS, Texts
from memlm.measure.occlusion import METRICS, Attribution, attribute
from memlm.measure.reading import memories_read
from memlm.measure.subject import Subject, examined
from memlm.models.model import TextMemory

Array = np.ndarray
DIGITS = 4  # of what is kept of single tokens, to be looked at


def measure_attribution(model: TextMemory, corpus: Corpus, config: AttributionConfig, name: str) -> dict[str, Any]:
    """Attribute every token of held-out texts to the model's memories.

    Args:
        model: a memory model with any reader, or a recurrent one.
        corpus: the data it was trained on.
        config: how many texts, of how many chunks.
        name: what the model is called in the report.

    Returns:
        `results`, rows that are flat and of JSON values:
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
    with examined(model, corpus, name, config.seed, config.device) as subject:
        rows, samples = [], []
        chunks = config.chunks or model.config.read_shape().chunks
        for text, (make, chunks_of_text) in TEXTS.items():
            if chunks < 2:
                rows.append(subject.row(text=text, **_told(note="one chunk has no earlier one to remember.")))
                continue
            windows_BW = subject.windows(chunks_of_text(chunks), config.texts)
            texts = make(windows_BW, model.chunk_tokens, corpus.vocab_size, config.seed)
            found = attribute(subject.model, texts.ids_BN, texts.marks_BC, subject.device)
            if not all(np.isfinite(values).all() for values in (*found.all.values(), *found.each.values())):
                raise WorkError(f"{name} gives logits that are no numbers: train it anew, with a lower rate.")
            some = list(_Figures(subject, text, texts, found).rows())
            said = [r for r in some if r["figure"] == "mean" and r["metric"] == "loss"]
            ui.say(f"{name}: memories in {text}: " + ", ".join(f"{r['places']} {r['value']:+.3f} nats" for r in said))
            rows += some
            samples.append(_sample(subject, text, texts, found))
        return {"results": rows, "samples": samples}


@dataclass(frozen=True)
class _Figures:
    """All figures of texts of one kind."""

    subject: Subject
    text: str
    texts: Texts
    found: Attribution

    def rows(self) -> Iterator[dict[str, Any]]:
        """Means, then what tells copied places from others, then which memory told them."""
        chunk_N = np.arange(self.texts.ids_BN.shape[1]) // self.subject.model.chunk_tokens
        at = {name: (self.texts.place_BN.numpy() == i) & (chunk_N > 0) for i, name in enumerate(PLACES)}
        at = {name: where_BN for name, where_BN in at.items() if where_BN.any()}
        values = {**self.found.all, "entropy": self.found.entropy_BN, "entropy_none": self.found.entropy_none_BN}
        for name, where_BN in at.items():
            for metric, value_BN in values.items():
                pair_B2 = np.stack([(value_BN * where_BN).sum(1), where_BN.sum(1)], 1)
                yield self._row(name, "mean", metric, pair_B2, where_BN)
        for other in [name for name in at if name != "copied"] if "copied" in at else ():
            for metric in METRICS:
                these, those = (_parts(values[metric], at[name]) for name in ("copied", other))
                auc_B = list(map(auc, these, those))
                pair_B2 = np.stack([auc_B, np.ones(len(auc_B))], 1)
                yield self._row("copied", "auc", metric, pair_B2, at["copied"], against=other, chance=0.5)
        if "copied" in at and self.found.each:
            readable_N = np.maximum(memories_read(self.subject.model, chunk_N, "own"), 1)
            chance = float((at["copied"] / readable_N).sum() / at["copied"].sum())
            for metric in METRICS:
                told_BN = most_important(self.found.each[metric]) == chunk_N - self.texts.back
                pair_B2 = np.stack([(told_BN & at["copied"]).sum(1), at["copied"].sum(1)], 1)
                yield self._row("copied", "source", metric, pair_B2, at["copied"], hidden="one", chance=chance)

    def _row(
        self, places: str, figure: str, metric: str, pair_B2: Array, where_BN: Array, **told: Any
    ) -> dict[str, Any]:
        """A figure, the sum of the first of each text's pair over the sum of the second."""
        pair_B2, seed = pair_B2.astype(float), self.subject.seed
        top, below = pair_B2.sum(0)
        chunk_N = np.arange(where_BN.shape[1]) // self.subject.model.chunk_tokens
        read_N, often_N = memories_read(self.subject.model, chunk_N, "own"), where_BN.sum(0)
        return self.subject.row(
            text=self.text,
            **_told(
                places=places,
                figure=figure,
                metric=metric,
                value=float(top / below),
                value_ci=interval(lambda m: m[:, 0] / m[:, 1], pair_B2, seed)
                if figure == "mean"
                else share_interval(pair_B2, seed),
                texts=len(pair_B2),
                tokens=int(often_N.sum()),
                chunks=int(chunk_N[-1]) + 1,
                memories_min=int(read_N[often_N > 0].min()),
                memories_mean=float(read_N @ often_N / often_N.sum()),
                memories_max=int(read_N[often_N > 0].max()),
                **({"hidden": "all"} if metric in METRICS else {}) | told,
            ),
        )


def auc(these: Array, those: Array) -> float:
    """The chance that one of these is above one of those, ties by halves."""
    return float((these[:, None] > those).mean() + (these[:, None] == those).mean() / 2)


def most_important(each_BKN: Array) -> Array:
    """The number of the memory without which a token's prediction changes most [B, N], -1 where none changes it."""
    return np.where(each_BKN.max(1) > 0, each_BKN.argmax(1), -1)


def _parts(value_BN: Array, where_BN: Array) -> list[Array]:
    """Of each text, the values at some places."""
    return [value_N[where_N] for value_N, where_N in zip(value_BN, where_BN, strict=True)]


def _told(**told: Any) -> dict[str, Any]:
    """Everything that all rows have."""
    return {key: told.get(key) for key in _TOLD}


def _sample(subject: Subject, text: str, texts: Texts, found: Attribution) -> dict[str, Any]:
    """A text from the midst of them, token by token."""

    def kept(values: Array) -> list[Any]:
        return np.round(values, DIGITS).tolist()

    tokenizer, b = subject.corpus.tokenizer, len(texts.ids_BN) // 2
    return {
        "model": subject.name,
        "text": text,
        "chunk_tokens": subject.model.chunk_tokens,
        "pieces": [tokenizer.decode([i], skip_special_tokens=False) for i in texts.ids_BN[b].tolist()],
        "places": [PLACES[i] for i in texts.place_BN[b].tolist()],
        **{metric: kept(values[b]) for metric, values in found.all.items()},
        "entropy": kept(found.entropy_BN[b]),
        "entropy_none": kept(found.entropy_none_BN[b]),
        "told_by": most_important(found.each["l1"])[b].tolist() if found.each else None,
    }


_TOLD = (
    *("places", "against", "figure", "metric", "hidden", "value", "value_ci", "chance", "texts", "tokens", "chunks"),
    *("memories_min", "memories_mean", "memories_max", "note"),
)
