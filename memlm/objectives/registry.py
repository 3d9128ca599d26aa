"""A name -> the objective of that name."""

from collections.abc import Callable

from memlm.objectives.batch import Objective
from memlm.objectives.combined import Combined
from memlm.objectives.names import Part, parse
from memlm.objectives.noise import Noise
from memlm.objectives.recall import Recall
from memlm.objectives.text import Copy, Same

OBJECTIVES: dict[str, Callable[[int], Objective]] = {  # each made from the vocabulary's size
    "autoencode": lambda _: Same(own=True),
    "noise": Noise,
    "causal": lambda _: Same(own=False),
    "copy": lambda _: Copy(blank=False),
    "blank": lambda _: Copy(blank=True),
    "recall": Recall,
}


def build_objective(text: str, vocab_size: int) -> Objective:
    """The objective that `text` names, such as `causal` or `causal+0.5*blank/4`.

    Raises:
        UsageError: it names none.
    """
    parts = parse(text)
    built = [OBJECTIVES[part.name](vocab_size) for part in parts]
    if len(parts) == 1 and parts[0] == Part(parts[0].name):
        return built[0]
    return Combined([(one, part.weight, part.share) for one, part in zip(built, parts, strict=True)])
