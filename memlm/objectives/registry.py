"""A name -> the objective of that name."""

from memlm.named import named
from memlm.objectives.batch import Objective
from memlm.objectives.combined import Combined
from memlm.objectives.context import AfterContext
from memlm.objectives.names import NAMES, Part, parse


def build_objective(text: str, vocab_size: int, context: int = 0, chunk_tokens: int = 0) -> Objective:
    """The objective that `text` names, such as `causal` or `causal+0.5*blank/4`.

    With a `context` it comes after so many chunks of T = `chunk_tokens` at most that are only remembered.

    Raises:
        UsageError: it names none.
    """
    if context:
        return AfterContext(build_objective(text, vocab_size), context, chunk_tokens)
    parts = parse(text)
    built = [named(NAMES[part.name].made_by)(vocab_size) for part in parts]
    if len(parts) == 1 and parts[0] == Part(parts[0].name):
        return built[0]
    return Combined([(one, part.weight, part.share) for one, part in zip(built, parts, strict=True)])
