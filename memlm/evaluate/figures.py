"""Values of single examples -> rows: a figure, its interval, and its difference from the one it is held against."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from memlm.evaluate.config import Condition
from memlm.measure.bootstrap import COVERAGE, RESAMPLES, share_interval

_OVER_CORPUS = ("bleu", "chrf", "chrf++", "ter")  # dear to aggregate, so resampled a tenth as often, as lm-eval does


@dataclass(frozen=True)
class Outcome:
    """One figure of one model under one condition, example by example.

    Args:
        key: task, metric and filter.
        model: its name.
        condition: whose memories it read.
        values: of the examples, as lm-eval's task gives them.
        aggregate: lm-eval's, values -> the figure.
        told: what the row says beside the figure.
        seed: of resamples.
    """

    key: tuple[str, str, str]
    model: str
    condition: Condition
    values: list[Any]
    aggregate: Callable[[list[Any]], float]
    told: dict[str, Any]
    seed: int

    @cached_property
    def resampled(self) -> np.ndarray:
        """The figure over bootstrap resamples of its examples [R], the same ones for equally many examples."""
        rng, n = np.random.default_rng(self.seed), len(self.values)
        count = RESAMPLES // 10 if self.key[1] in _OVER_CORPUS else RESAMPLES
        picks = (rng.integers(n, size=n).tolist() for _ in range(count))
        return np.array([self.aggregate([self.values[i] for i in pick]) for pick in picks])

    @property
    def interval(self) -> list[float]:
        """95 %; of what is 0, or 1, in every example that of Clopper and Pearson: no sample proves such a share."""
        if self.values in ([0] * len(self.values), [1] * len(self.values)):
            return share_interval(np.array([[float(value), 1.0] for value in self.values]), self.seed)
        return _quantiles(self.resampled)


def rows_of(outcomes: list[Outcome]) -> Iterator[dict[str, Any]]:
    """A row for each: held against the same model's `own` memories, and those against the first model's."""
    own = {(outcome.key, outcome.model): outcome for outcome in outcomes if outcome.condition == "own"}
    first = {outcome.key: outcome for outcome in reversed(outcomes) if outcome.condition == "own"}
    for outcome in outcomes:
        other = first[outcome.key] if outcome.condition == "own" else own[outcome.key, outcome.model]
        paired = other is not outcome and len(other.values) == len(outcome.values)
        value = float(outcome.aggregate(outcome.values))
        yield {
            **dict(zip(("task", "metric", "filter"), outcome.key, strict=True)),
            "model": outcome.model,
            "condition": outcome.condition,
            "value": value,
            "stderr": float(outcome.resampled.std()),
            "value_ci": outcome.interval,
            "n": len(outcome.values),
            "against": f"{other.model} {other.condition}" if paired else None,
            "difference": value - float(other.aggregate(other.values)) if paired else None,
            "difference_ci": _quantiles(outcome.resampled - other.resampled) if paired else None,
            **outcome.told,
        }


def _quantiles(figures_R: np.ndarray) -> list[float]:
    tail = (1 - COVERAGE) / 2
    return [float(q) for q in np.quantile(figures_R, [tail, 1 - tail])]
