"""What an objective is called: a name, or several with weights. No torch here: configs check themselves with this."""

from typing import Literal, NamedTuple

from memlm.errors import UsageError


class Known(NamedTuple):
    """An objective that there is: what it asks, "module:function" that makes it, and what a model needs for it.

    The function takes the vocabulary's size. A model has to predict each token from its `past`, to read many `chunks`,
    or to tell each chunk from its memory `itself`.
    """

    told: str
    made_by: str
    needs: Literal["past", "chunks", "itself"]


NAMES = {
    "autoencode": Known("all tokens, from their own memory", "memlm.objectives.text:autoencode", "itself"),
    "noise": Known("random tokens, from their own memory", "memlm.objectives.noise:Noise", "itself"),
    "causal": Known("every token, from those before it", "memlm.objectives.text:causal", "past"),
    "copy": Known("the second half, which repeats the first, shown", "memlm.objectives.text:copy", "chunks"),
    "blank": Known("the first half, at the places of blanks", "memlm.objectives.text:blank", "chunks"),
    "facts": Known("values of keys of several tokens, told in a text", "memlm.objectives.facts:facts", "chunks"),
    "quote": Known("how passages of a text go on", "memlm.objectives.facts:Quote", "chunks"),
    "recall": Known("values of random keys, told chunks ago", "memlm.objectives.recall:Recall", "chunks"),
}
ALIASES = {"combined": "causal+0.5*copy"}  # the reference's weights (paper, Objectives)


class Part(NamedTuple):
    """A part of an objective: its name, what its mean loss counts, and that it is of every `share`th window only."""

    name: str
    weight: float = 1.0
    share: int = 1


def parse(text: str) -> tuple[Part, ...]:
    """`causal+0.5*blank/4` -> (Part("causal", 1.0, 1), Part("blank", 0.5, 4)).

    Raises:
        UsageError: an unknown name, the same name twice, a weight that is no positive number, a share that is no whole
            number.
    """
    parts: dict[str, Part] = {}
    for part in ALIASES.get(text.strip(), text).split("+"):
        weighted, _, share = part.partition("/")
        weight, _, name = weighted.strip().rpartition("*")
        name = name.strip()
        if name not in NAMES:
            raise UsageError(f"there is no objective {name!r}; there are {', '.join(NAMES)} and {', '.join(ALIASES)}.")
        if name in parts:
            raise UsageError(f"the objective {text!r} names {name} twice.")
        try:
            parts[name] = Part(name, float(weight or 1), int(share or 1))
        except ValueError:
            raise UsageError(f"the objective {text!r} cannot be read: write 0.5*{name} or 0.5*{name}/4.") from None
        if not 0 < parts[name].weight < float("inf") or parts[name].share < 1:
            raise UsageError(f"in the objective {text!r} weight and share of {name} must be above 0.")
    return tuple(parts.values())
