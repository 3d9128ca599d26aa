"""What an objective is called: a name, or several with weights. No torch here: configs check themselves with this."""

from memlm.errors import UsageError

NAMES = {
    "autoencode": "all tokens, from their own memory",
    "noise": "random tokens, from their own memory",
    "causal": "every token, from those before it",
    "copy": "the second half, which repeats the first, shown token by token",
    "blank": "the first half at the places of blanks: only memories can tell",
    "recall": "values of random keys, told chunks ago",
}
ALIASES = {"combined": "causal+0.5*copy"}  # the reference's weights (paper, Objectives)


def parse(text: str) -> tuple[tuple[str, float], ...]:
    """`causal+0.5*blank` -> (("causal", 1.0), ("blank", 0.5)).

    Raises:
        UsageError: an unknown name, the same name twice, or a weight that is no positive number.
    """
    parts: dict[str, float] = {}
    for part in ALIASES.get(text.strip(), text).split("+"):
        weight, _, name = part.strip().rpartition("*")
        name = name.strip()
        if name not in NAMES:
            raise UsageError(f"there is no objective {name!r}; there are {', '.join(NAMES)} and {', '.join(ALIASES)}.")
        if name in parts:
            raise UsageError(f"the objective {text!r} names {name} twice.")
        try:
            parts[name] = float(weight or 1)
        except ValueError:
            raise UsageError(f"in the objective {text!r}, {weight!r} is no weight: write 0.5*{name}.") from None
        if not 0 < parts[name] < float("inf"):
            raise UsageError(f"in the objective {text!r} the weight of {name} must be above 0.")
    return tuple(parts.items())
