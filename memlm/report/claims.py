"""The paper's claims about memory models (C4, C5, C6) as sentences: numbers from the rows, verdicts by stated limits.

Which run is which is read from its config: what it and the runs that it started from were trained on, and whether the
encoder was frozen. A claim whose runs are not all there is not told.
"""

from collections.abc import Callable
from dataclasses import dataclass

from memlm.report.access import Form, Model, Setting, Told, summarised
from memlm.report.lineage import (
    about_equal,
    causal_tokens,
    chain,
    decoder_steps,
    encoder_frozen,
    objectives_of,
    reads_memories,
    recipe,
    run_of,
    unseeded,
)
from memlm.report.runs import Row, Runs, TrainingRun
from memlm.report.text import MINUS, THIN, escape, figure_of, number, percent, plural

SAME_COPY = 0.02  # C4: a copy gains no more than this by memory ...
FAR_BELOW = 0.5  # ... and the encoder's usable information is less than this share of an autoencoder's
RIGHT = 0.95  # C5: of blank copies and of key-value recall ...
SAME_LOSS = 0.02  # ... while the causal loss is at most this share above the causal-only model's
AHEAD = 0.01  # C6: the curriculum is at least this much better in everything that is asked from memory
_TASKS = {"blank": ("a blank copy", "both"), "copy": ("a copy", "teacher-forced"), "recall": ("values", None)}
_USABLE = "usable_bits_per_token"


@dataclass(frozen=True)
class Claim:
    """A claim, what the runs say of it, whether it holds here, and by which limits."""

    name: str
    title: str
    says: str  # HTML
    holds: bool
    rule: str


def claims(runs: Runs, settings: list[Setting]) -> list[Claim]:
    """All claims that can be judged."""
    told = [claim for judge in (_c4, _c5, _c6) for setting in settings for claim in judge(runs, setting)]
    return sorted(told, key=lambda claim: claim.name)


def _c4(runs: Runs, setting: Setting) -> list[Claim]:
    """Causal training alone gives no access to memory, and memories poor in information."""
    found = []
    for model in _memory_models(setting):
        if _learnt(model, runs) != {"causal"} or encoder_frozen(model.runs[0]):
            continue
        own, none, gain = (model.told("copy", "token_accuracy", m, "teacher-forced") for m in ("own", "none", "gain"))
        if not own or not none or not gain:
            continue
        says = (
            f"{_name(model)}, trained on next tokens alone, copies {_share(own)} of tokens with its "
            f"memories and {_share(none)} without: a gain of {_points(gain)}."
        )
        holds = abs(gain.value) <= SAME_COPY
        if usable := _usable_bits(runs, model):
            mine, theirs, teacher = usable
            says += (
                f" Its encoder holds {_bits(mine)} usable bits a token, that of <b>{escape(teacher)}</b> "
                f"beside it, the best autoencoder, {_bits(theirs)}."
            )
            holds = holds and theirs.value > 0 and mine.value < FAR_BELOW * theirs.value
        else:
            says += " What its encoder holds was not measured beside an autoencoder."
        rule = (
            f"Holds if memory changes the copy by no more than {number(100 * SAME_COPY)} points and the encoder, where "
            f"measured, has less than {number(100 * FAR_BELOW)}{THIN}% of an autoencoder’s usable bits."
        )
        found.append(Claim("C4", "Causal training alone forms memories without access", says, holds, rule))
    return found


def _c5(runs: Runs, setting: Setting) -> list[Claim]:
    """Causal and retention objectives together: access, at no cost in causal loss."""
    found = []
    models = _memory_models(setting)
    alone = [model for model in models if _learnt(model, runs) == {"causal"}]
    for model in models:
        if not {"causal"} < objectives_of(model.runs[0]).keys():
            continue
        blank, recall = (model.told(task, "token_accuracy", "own") for task in ("blank", "recall"))
        loss = model.told("causal", "cross_entropy", "own")
        peers = [
            (theirs, peer)
            for peer in alone
            if (theirs := peer.told("causal", "cross_entropy", "own"))
            and peer.runs[0].config.get("model") == model.runs[0].config.get("model")
            and about_equal(_mean(peer, runs, causal_tokens), _mean(model, runs, causal_tokens))
        ]
        if not blank or not recall or not loss or not peers:
            continue
        theirs, peer = min(peers, key=lambda pair: pair[0].value)
        more = loss.value / theirs.value - 1
        chance = setting.chance("recall")
        guess = f" (chance {percent(chance)})" if chance else ""
        says = (
            f"{_name(model)}, trained on {escape(model.runs[0].config['objective'])}, fills in "
            f"{_share(blank)} of a blank copy from memory and recalls {_share(recall)} of values{guess}. Its causal "
            f"loss is {_nats(loss)}, that of the causal-only {_name(peer)} after as many causal tokens "
            f"{_nats(theirs)}: {_signed(more)}."
        )
        holds = blank.value >= RIGHT and recall.value >= RIGHT and more <= SAME_LOSS
        rule = (
            f"Holds if blank copy and recall are both at least {number(100 * RIGHT)}{THIN}% and the causal loss is at "
            f"most {number(100 * SAME_LOSS)}{THIN}% above that of the best model of the same shape trained on next "
            "tokens alone."
        )
        found.append(Claim("C5", "Both objectives together give access, and cost no loss", says, holds, rule))
    return found


def _c6(runs: Runs, setting: Setting) -> list[Claim]:
    """The curriculum against direct training, at equal decoder steps."""
    found = []
    models = _memory_models(setting)
    for model in models:
        run, steps = model.runs[0], _mean(model, runs, decoder_steps)
        base = _base(model, runs)
        if _stages(model, runs) < 2 or not encoder_frozen(run) or (base and "autoencode" not in objectives_of(base)):
            continue
        learnt = [name for name in _TASKS if name in objectives_of(run)] or ["blank"]
        for direct in models:
            both = [
                (_TASKS[task][0], mine, theirs)
                for task in learnt
                if (mine := model.told(task, "token_accuracy", "own", _TASKS[task][1]))
                and (theirs := direct.told(task, "token_accuracy", "own", _TASKS[task][1]))
            ]
            equal = about_equal(steps, _mean(direct, runs, decoder_steps))
            if not both or not equal or not _is_direct(direct, model, runs):
                continue
            how = "the same frozen encoder" if encoder_frozen(direct.runs[0]) else "an encoder that learns too"
            ours = ", ".join(f"{_share(mine)} of {what}" for what, mine, _ in both)
            says = (
                f"After {number(steps)} decoder steps, the curriculum {_name(model)} gets {ours} right; "
                f"{_name(direct)}, trained on the same objective directly with {how}, "
                f"{', '.join(_share(theirs) for *_, theirs in both)}."
            )
            losses = [m.told("causal", "cross_entropy", "own") for m in (model, direct)]
            if "causal" in objectives_of(run) and losses[0] and losses[1]:
                texts = [number(_mean(m, runs, causal_tokens) / 1e6, 2) for m in (model, direct)]
                says += (
                    f" Their causal losses are {_nats(losses[0])} and {_nats(losses[1])}, after {texts[0]} and "
                    f"{texts[1]} million causal tokens."
                )
            holds = all(mine.value >= theirs.value + AHEAD for _, mine, theirs in both)
            rule = (
                f"Holds if the curriculum is ahead by at least {number(100 * AHEAD)} point in all of these. Its "
                "earlier stages predict no text, so that at equal steps it has learnt from fewer causal tokens. The "
                "training of the encoder before is not counted."
            )
            found.append(Claim("C6", "A curriculum over a frozen encoder is ahead at equal steps", says, holds, rule))
    return found


def _is_direct(direct: Model, model: Model, runs: Runs) -> bool:
    """Whether a model was trained on another's last objective from the first step, on its encoder or a fresh one."""
    run, other = model.runs[0], direct.runs[0]
    same = all(run.config.get(key) == other.config.get(key) for key in ("model", "objective"))
    if not same or _stages(direct, runs) != 1:
        return False
    if not encoder_frozen(other):
        return True
    bases = [_base(one, runs) for one in (model, direct)]
    same_base = len({recipe(base, runs.training) if base else None for base in bases}) == 1
    return same_base and all(run.config.get(key) == other.config.get(key) for key in ("frozen", "fresh_embedding"))


def _memory_models(setting: Setting) -> list[Model]:
    """Models that read memories and whose runs are known."""
    return [model for model in setting.models if model.runs and all(reads_memories(run) for run in model.runs)]


def _learnt(model: Model, runs: Runs) -> set[str]:
    """All that its decoder was ever trained on."""
    before = chain(model.runs[0], runs.training)
    return {name for run in before if reads_memories(run) for name in objectives_of(run)}


def _stages(model: Model, runs: Runs) -> int:
    """How many runs its decoder went through."""
    return sum(reads_memories(run) for run in chain(model.runs[0], runs.training))


def _mean(model: Model, runs: Runs, budget: Callable[[TrainingRun, list[TrainingRun]], float]) -> float:
    """A budget, the mean of its seeds."""
    return sum(budget(run, runs.training) for run in model.runs) / len(model.runs)


def _base(model: Model, runs: Runs) -> TrainingRun | None:
    """The run that its encoder is from, if that was another kind of model and is known."""
    return next((run for run in chain(model.runs[0], runs.training) if not reads_memories(run)), None)


def _usable_bits(runs: Runs, model: Model) -> tuple[Told, Told, str] | None:
    """Usable bits a token of its encoder and of the best autoencoder beside it, both read by fresh decoders."""
    pairs = [pair for one in model.seeds if one.run and (pair := _beside(runs, one.run))]
    if len(pairs) < len(model.seeds):
        return None
    mine, theirs = (summarised(list(rows), _USABLE) for rows in zip(*pairs, strict=True))
    return (mine, theirs, unseeded(pairs[0][1]["model"])) if mine and theirs else None


def _beside(runs: Runs, run: TrainingRun) -> tuple[Row, Row] | None:
    """The retention of a run's encoder, and that of the best autoencoder of the same measurement."""
    for measurement in runs.measurements:
        rows = [r for r in measurement.results if r["decoder"] == "fresh" and figure_of(r, _USABLE) is not None]
        memories = [row for row in rows if row["training"] == "memory-model"]
        own = [row for row in memories if run_of(runs.training, row["model"], measurement.path) == run]
        peers = [row for row in rows if row["training"] == "autoencoder"]
        if own and peers:
            return own[0], max(peers, key=lambda row: row[_USABLE])
    return None


def _name(model: Model) -> str:
    """Who, and how many seeds its figures are the mean of."""
    seeds = f" (mean of {plural(len(model.seeds), 'seed')})" if len(model.seeds) > 1 else ""
    return f"<b>{escape(model.name)}</b>{seeds}"


def _share(told: Told) -> str:
    return percent(told.value) + _within(told, lambda value: number(100 * value, 2))


def _nats(told: Told) -> str:
    return f"{number(told.value, 3)} nats a token" + _within(told, lambda value: number(value, 3))


def _points(told: Told) -> str:
    return f"{number(100 * told.value, 2)} points" + _within(told, lambda value: number(100 * value, 2))


def _bits(told: Told) -> str:
    return number(told.value, 2) + _within(told, lambda value: number(value, 2))


def _within(told: Told, form: Form) -> str:
    return f" ({escape(told.spread(form))})" if told.interval else ""


def _signed(more: float) -> str:
    return f"{'+' if more >= 0 else MINUS}{number(abs(100 * more), 1)}{THIN}%"
