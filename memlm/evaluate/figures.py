"""Values of single examples -> rows: a figure, its interval, and its difference from the one it is held against."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from memlm.evaluate.config import Condition
from memlm.measure.intervals import COVERAGE, RESAMPLES, share_interval

_OVER_CORPUS = ("bleu", "chrf", "chrf++", "ter")  # dear to aggregate, so resampled a tenth as often, as lm-eval does


@dataclass(frozen=True)
class Outcome:
    """One figure of one model under one condition, example by example."""

    key: tuple[str, str, str]  # task, metric and filter
    model: str
    condition: Condition  # whose memories it read
    values: list[Any]  # of the examples, as lm-eval's task gives them
    aggregate: Callable[[list[Any]], float]  # lm-eval's: values -> the figure
    told: dict[str, Any]  # what the row says beside the figure
    seed: int  # of resamples

    @cached_property
    def value(self) -> float:
        """The figure over all examples."""
        return float(self.aggregate(self.values))

    @cached_property
    def resampled(self) -> np.ndarray:
        """The figure over bootstrap resamples of its examples [R], the same ones for equally many examples."""
        rng, n = np.random.default_rng(self.seed), len(self.values)
        count = RESAMPLES // 10 if self.key[1] in _OVER_CORPUS else RESAMPLES
        picks = (rng.integers(n, size=n).tolist() for _ in range(count))
        return np.array([self.aggregate([self.values[i] for i in pick]) for pick in picks])

    @property
    def interval(self) -> list[float]:
        """95 %; of what is 0, or 1, in every example that of Wilson: no sample proves such a share."""
        if self.values in ([0] * len(self.values), [1] * len(self.values)):
            return share_interval(np.array([[float(value), 1.0] for value in self.values]))
        return _quantiles(self.resampled)


def rows_of(outcomes: list[Outcome]) -> Iterator[dict[str, Any]]:
    """A row for each; its difference is what the model's `own` memories give beyond the row's condition.

    That of a row of `own` memories is what they give beyond the first model's.
    """
    own = {(outcome.key, outcome.model): outcome for outcome in outcomes if outcome.condition == "own"}
    first = {outcome.key: outcome for outcome in reversed(outcomes) if outcome.condition == "own"}
    for one in outcomes:
        mine, other = own[one.key, one.model], one if one.condition != "own" else first[one.key]
        paired = other is not mine and len(other.values) == len(mine.values)
        yield {
            **dict(zip(("task", "metric", "filter"), one.key, strict=True)),
            "model": one.model,
            "condition": one.condition,
            "value": one.value,
            "stderr": float(one.resampled.std()),
            "value_ci": one.interval,
            "n": len(one.values),
            "difference_of": _of(mine, other) if paired else None,
            "difference": mine.value - other.value if paired else None,
            "difference_ci": _interval(mine, other) if paired else None,
            **one.told,
        }


def _of(mine: Outcome, other: Outcome) -> str:
    if mine.model == other.model:
        return f"own - {other.condition}"
    return f"{mine.model} - {other.model}"


def _interval(mine: Outcome, other: Outcome) -> list[float]:
    """95 %; where no example of a share differs, as many as could differ without one being seen, either way."""
    if mine.values == other.values and {*map(type, mine.values)} <= {int, float, bool} and {*mine.values} <= {0, 1}:
        most = replace(mine, values=[0] * len(mine.values)).interval[1]
        return [-most, most]
    return _quantiles(mine.resampled - other.resampled)


def _quantiles(figures_R: np.ndarray) -> list[float]:
    tail = (1 - COVERAGE) / 2
    return [float(q) for q in np.quantile(figures_R, [tail, 1 - tail])]
