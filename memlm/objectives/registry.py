"""A name -> the objective of that name."""

from collections.abc import Callable

from memlm.objectives.batch import Objective
from memlm.objectives.combined import Combined
from memlm.objectives.names import parse
from memlm.objectives.noise import Noise
from memlm.objectives.recall import Recall
from memlm.objectives.text import Copy, Same

OBJECTIVES: dict[str, Callable[[int], Objective]] = {  # each made from the vocabulary's size
    "autoencode": lambda _: Same(),
    "noise": Noise,
    "causal": lambda _: Same(),
    "copy": lambda _: Copy(blank=False),
    "blank": lambda _: Copy(blank=True),
    "recall": Recall,
}


def build_objective(text: str, vocab_size: int) -> Objective:
    """The objective that `text` names, such as `causal` or `causal+0.5*blank`.

    Raises:
        UsageError: it names none.
    """
    parts = [(OBJECTIVES[name](vocab_size), weight) for name, weight in parse(text)]
    return parts[0][0] if len(parts) == 1 and parts[0][1] == 1 else Combined(parts)
