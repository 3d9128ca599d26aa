"""The paper's claims about memory models (C4, C5, C6): a table of rules, and a verdict for whatever runs each can read.

Which run is which is read from its config: what it and the runs that it started from were trained on, and whether the
encoder was frozen. Verdicts are by point estimates against stated limits.
"""

from collections.abc import Callable, Iterator
from itertools import dropwhile
from typing import Any, NamedTuple

from markupsafe import Markup

from memlm.report import lineage
from memlm.report.compared import Model, Setting, chance_of, summarised
from memlm.report.runs import Row, Run, Runs
from memlm.report.text import Told, figure_of, number, percent

SAME_COPY = 0.02  # C4: a copy gains no more than this by memory ...
FAR_BELOW = 0.5  # ... and the encoder's usable information is less than this share of an autoencoder's
RIGHT = 0.95  # C5: of blank copies and of key-value recall ...
SAME_LOSS = 0.02  # ... while the causal loss is at most this share above the causal-only model's
AHEAD = 0.01  # C6: the curriculum is at least this much better in everything that is asked from memory
_TASKS = {"blank": ("a blank copy", "both"), "copy": ("a copy", "teacher-forced"), "recall": ("values", None)}
_USABLE = "usable_bits_per_token"


class Rule(NamedTuple):
    """A claim of the paper and how runs decide it; the facts that were read fill `title` and `says` in."""

    name: str
    claim: str  # the title while nothing is decided
    title: str
    says: str
    rule: str
    read: Callable[[Setting, Runs], Iterator[tuple[bool, dict[str, Any]]]]  # whether it is within the limits, and facts
    holds: bool | None = None  # once read; None where no run decides it


def claims(runs: Runs, settings: list[Setting]) -> list[Rule]:
    """Every rule as each reading fills it in; nothing where no memory model was measured whose training is known."""
    # Of models that read memories and whose runs are known.
    settings = [[m for m in setting if m.runs and all(map(lineage.reads_memories, m.runs))] for setting in settings]
    told: list[Rule] = []
    for one in RULES if any(settings) else ():
        title, says = Markup(one.title), Markup(one.says)  # escape whatever fills them in
        found = [reading for setting in settings for reading in one.read(setting, runs)]
        told += [one._replace(title=title.format(**f), says=says.format(**f), holds=holds) for holds, f in found]
        told += [] if found else [one._replace(title=one.claim, says="The runs that would decide it are not all here.")]
    return told


def _causal_alone(setting: Setting, runs: Runs) -> Iterator[tuple[bool, dict[str, Any]]]:
    """C4: a copy with and without memories, and what the encoder holds beside an autoencoder's."""
    for model in setting:
        own, none, gain = (_right(model, "copy", memory) for memory in ("own", "none", "gain"))
        alone = _learnt(model) == {"causal"} and not lineage.encoder_frozen(model.runs[0])
        if not alone or not own or not none or not gain:
            continue
        holds, held = abs(gain.value) <= SAME_COPY, "What its encoder holds was not measured beside an autoencoder."
        if usable := _usable_bits(model, runs):
            mine, theirs, teacher = usable
            holds = holds and theirs.value > 0 and mine.value < FAR_BELOW * theirs.value
            text = "Its encoder holds {:bits} usable bits a token, that of <b>{}</b> beside it, the best autoencoder, "
            held = Markup(text + "{:bits}.").format(mine, teacher, theirs)
        yield holds, {"model": _name(model), "own": own, "none": none, "gain": gain, "held": held}


def _together(setting: Setting, runs: Runs) -> Iterator[tuple[bool, dict[str, Any]]]:
    """C5: access, and the causal loss beside that of the best model of the same shape on next tokens alone."""
    for model in setting:
        blank, recall, loss = _right(model, "blank"), _right(model, "recall"), _loss(model)
        alone = [peer for peer in setting if _learnt(peer) == {"causal"} and _alike(model, peer, "model")]
        alone = [peer for peer in alone if _equal(model, peer, lineage.causal_tokens)]
        peers = [(theirs, peer) for peer in alone if (theirs := _loss(peer))]
        both = {"causal"} < lineage.objectives_of(model.runs[0]).keys()
        if not both or not blank or not recall or not loss or not peers:
            continue
        theirs, peer = min(peers, key=lambda pair: pair[0].value)
        more, chance = loss.value / theirs.value - 1, chance_of(setting, "recall")
        facts = {"model": _name(model), "objective": model.runs[0].config["objective"], "peer": _name(peer)}
        facts |= {"blank": blank, "recall": recall, "loss": loss, "theirs": theirs, "price": Told(more)}
        facts |= {"values": Told(recall.value), "chance": f" (chance {percent(chance)})" if chance else ""}
        yield blank.value >= RIGHT and recall.value >= RIGHT and more <= SAME_LOSS, facts


def _curriculum(setting: Setting, runs: Runs) -> Iterator[tuple[bool, dict[str, Any]]]:
    """C6: the curriculum beside direct training, at equal decoder steps."""
    for model, direct in ((model, direct) for model in setting for direct in setting):
        run, base, learns = model.runs[0], _base(model), lineage.objectives_of(model.runs[0])
        staged = len(lineage.decoder_of(run)) > 1 and lineage.encoder_frozen(run)
        staged = staged and (not base or "autoencode" in lineage.objectives_of(base[0]))
        tasks = [task for task in _TASKS if task in learns] or ["blank"]
        pairs = [(_TASKS[task][0], _right(model, task), _right(direct, task)) for task in tasks]
        both = [(what, mine, theirs) for what, mine, theirs in pairs if mine and theirs]
        equal = _equal(model, direct, lineage.decoder_steps)
        if not staged or not both or not equal or not _is_direct(direct, model):
            continue
        cost, losses = "", [loss for loss in (_loss(model), _loss(direct)) if loss]
        if "causal" in learns and len(losses) == 2:
            cost = " Their causal losses are {:nats} and {:nats}, after {} and {} million causal tokens."
            texts = [number(_mean(one, lineage.causal_tokens) / 1e6, 2) for one in (model, direct)]
            cost = cost.format(*losses, *texts)
        how = "the same frozen encoder" if lineage.encoder_frozen(direct.runs[0]) else "an encoder that learns too"
        ahead = min(mine.value - theirs.value for _, mine, theirs in both)
        facts = {"model": _name(model), "direct": _name(direct), "how": how, "cost": cost, "ahead": Told(ahead)}
        facts |= {"steps": number(_mean(model, lineage.decoder_steps))}
        facts |= {"ours": ", ".join(f"{mine:share} of {what}" for what, mine, _ in both)}
        facts |= {"theirs": ", ".join(f"{theirs:share}" for *_, theirs in both)}
        yield ahead >= AHEAD, facts


RULES = [
    Rule(
        "C4",
        "Causal training alone forms memories without access",
        "Causal training alone: memories add {gain:points} to a copy",
        "{model}, trained on next tokens alone, copies {own:share} of tokens with its memories and {none:share} "
        "without: a gain of {gain:points}. {held}",
        f"Holds if memory changes the copy by no more than {100 * SAME_COPY:g} points and the encoder, where measured, "
        f"has less than {100 * FAR_BELOW:g} % of an autoencoder’s usable bits.",
        _causal_alone,
    ),
    Rule(
        "C5",
        "Both objectives together give access, at a price in causal loss",
        "Both objectives together: {values:share} of values recalled, at {price:more} of causal loss",
        "{model}, trained on {objective}, fills in {blank:share} of a blank copy from memory and recalls "
        "{recall:share} of values of unseen symbols{chance}. Its causal loss is {loss:nats}, that of the causal-only "
        "{peer} after as many causal tokens {theirs:nats}: {price:more}.",
        f"Holds if blank copy and recall are both at least {100 * RIGHT:g} % and the causal loss is at most "
        f"{100 * SAME_LOSS:g} % above that of the best model of the same shape trained on next tokens alone.",
        _together,
    ),
    Rule(
        "C6",
        "A curriculum over a frozen encoder is ahead at equal steps",
        "A curriculum over a frozen encoder: {ahead:points} beside direct training at equal steps",
        "After {steps} decoder steps, the curriculum {model} gets {ours} right; {direct}, trained on the same "
        "objective directly with {how}, {theirs}.{cost}",
        f"Holds if the curriculum is ahead by at least {100 * AHEAD:g} point in all of these. Its earlier stages "
        "predict no text, so that at equal steps it has learnt from fewer causal tokens. The training of the encoder "
        "before is not counted.",
        _curriculum,
    ),
]


def _is_direct(direct: Model, model: Model) -> bool:
    """Whether a model was trained on another's last objective from the first step, on its encoder or a fresh one."""
    same = lineage.recipe(_base(direct)) == lineage.recipe(_base(model))
    same = same and _alike(model, direct, "frozen", "fresh_embedding")
    once = len(lineage.decoder_of(direct.runs[0])) == 1 and _alike(model, direct, "model", "objective")
    return once and (same or not lineage.encoder_frozen(direct.runs[0]))


def _usable_bits(model: Model, runs: Runs) -> tuple[Told, Told, str] | None:
    """Usable bits a token of its encoder and of the best autoencoder beside it, both read by fresh decoders."""
    found: dict[str, tuple[Row, Row]] = {}
    for run, measurement in ((run, measurement) for run in model.runs for measurement in runs.measurement):
        rows = [r for r in measurement.rows if r["decoder"] == "fresh" and figure_of(r, _USABLE) is not None]
        memories = [row for row in rows if row["training"] == "memory-model"]
        own = [row for row in memories if runs.of(row["model"], measurement.path) == run]
        peers = [row for row in rows if row["training"] == "autoencoder"]
        if own and peers:
            found.setdefault(run.name, (own[0], max(peers, key=lambda row: row[_USABLE])))
    if len(found) < len(model.seeds):
        return None
    mine, theirs = (summarised(list(rows), _USABLE) for rows in zip(*found.values(), strict=True))
    return (mine, theirs, lineage.unseeded(next(iter(found.values()))[1]["model"])) if mine and theirs else None


def _name(model: Model) -> Markup:
    """Who, and how many seeds its figures are the mean of."""
    count = len(model.seeds)
    return Markup("<b>{}</b>{}").format(model.name, f" (mean of {count} seeds)" if count > 1 else "")


def _learnt(model: Model) -> set[str]:
    """All that its decoder was ever trained on."""
    return {name for run in lineage.decoder_of(model.runs[0]) for name in lineage.objectives_of(run)}


def _base(model: Model) -> tuple[Run, ...]:
    """The run that its encoder is from and those before, if that was another kind of model and is known."""
    return tuple(dropwhile(lineage.reads_memories, model.runs[0].chain))


def _alike(one: Model, other: Model, *keys: str) -> bool:
    return all(one.runs[0].config.get(key) == other.runs[0].config.get(key) for key in keys)


def _right(model: Model, task: str, memory: str = "own") -> Told | None:
    return model.access(task, memory, mode=_TASKS[task][1])


def _loss(model: Model) -> Told | None:
    return model.access("causal", "own", "cross_entropy")


def _mean(model: Model, budget: Callable[[Run], float]) -> float:
    return sum(map(budget, model.runs)) / len(model.runs)


def _equal(one: Model, other: Model, budget: Callable[[Run], float]) -> bool:
    return lineage.about_equal(_mean(one, budget), _mean(other, budget))
