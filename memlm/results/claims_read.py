"""Runs -> the figures that rules ask for, of every seed: a reader for each claim.

Seeds are paired: a share of an autoencoder's bits is counted seed by seed, and the interval is over these shares.
"""

import json
from collections.abc import Callable, Iterator
from itertools import dropwhile
from typing import NamedTuple

from memlm.results import lineage
from memlm.results.compared import Model, Setting
from memlm.results.held import USABLE, Held, encoder_of, held_by, largest, minus, shares
from memlm.results.rules import BySeed
from memlm.results.runs import Run, Runs
from memlm.results.text import figure_of, number, plural

_TASKS = {"blank": ("a blank copy", "both"), "copy": ("a copy", "teacher-forced"), "recall": ("values", None)}
_PREDICTS = ("causal", "masked", "sentence")  # trainings whose embeddings C1 is about
_LENGTH = ("steps", "eval_every", "checkpoint_every")  # what the length of a training changes in its config
_LONGER = 10  # times as long, that C1 asks of


class Reading(NamedTuple):
    """What some runs say of a claim."""

    says: str
    figures: dict[str, dict[str, BySeed]]  # a clause's figure -> of which models or tasks -> by seed
    runs: list[Run]


Read = Iterator[Reading]


def _c1(runs: Runs, settings: list[Setting]) -> Read:
    """All encoders trained to predict, beside the best autoencoder: of each the family that tells most."""
    held: dict[str, BySeed] = {}
    behind: list[Run] = []
    told: list[str] = []
    for group in held_by(runs):
        best = next((one for one in group if one.training == "autoencoder"), None)
        encoders = [one for one in group if one.training in _PREDICTS]
        if best is None or not encoders:
            continue
        row = next(iter(best.rows.values()))
        told.append(f"{row['chunk_tokens']} tokens, beside {best.name} ({_where(best)}, {_budget(best)})")
        behind += best.runs
        for one in encoders:
            behind += one.runs
            of = f"{one.name}, {row['chunk_tokens']} tokens"
            held[of] = shares(largest(map(one.continued, one.families)), largest(map(best.usable, best.families)))
    if held:
        yield Reading(f"{'; '.join(told)}.", {"held": held}, behind)


def _c1_scale(runs: Runs, settings: list[Setting]) -> Read:
    """Causal encoders that differ in the length of their training alone, the longest beside the shortest."""
    for group in held_by(runs):
        lengths: dict[str, list[Held]] = {}
        for one in group:
            if one.training == "causal" and one.runs:
                same = json.dumps(lineage.settings(one.runs[0], *_LENGTH), sort_keys=True)
                lengths.setdefault(same, []).append(one)
        for some in lengths.values():
            some.sort(key=lambda one: one.config["steps"])
            first, last = some[0], some[-1]
            if last.config["steps"] < 0.99 * _LONGER * first.config["steps"]:
                continue
            figures = {family: shares(last.usable(family), first.usable(family)) for family in first.families}
            bits = ", ".join(f"{number(one.mean(), 3)} after {number(one.config['steps'])} steps" for one in some)
            yield Reading(
                f"{first.name} and the same one trained longer ({_where(first)}, {_budget(first)}): usable bits a "
                f"token {bits}.",
                {"longer": figures},
                [run for one in some for run in one.runs],
            )


def _c2(runs: Runs, settings: list[Setting]) -> Read:
    """The best autoencoder of either length, by its own decoder."""
    best: dict[int, Held] = {}
    for group in held_by(runs, "own"):
        for one in group:
            tokens = next(iter(one.rows.values()))["chunk_tokens"]
            known = best.get(tokens)
            if tokens in (16, 64) and (known is None or known.mean("token_accuracy") < one.mean("token_accuracy")):
                best[tokens] = one
    if best:
        told = ", ".join(f"{one.name} at {tokens} tokens ({_where(one)})" for tokens, one in sorted(best.items()))
        figures = {f"right_{tokens}": {"": one.by_seed("token_accuracy")} for tokens, one in best.items()}
        yield Reading(f"{told}.", figures, [run for one in best.values() for run in one.runs])


def _c3(runs: Runs, settings: list[Setting]) -> Read:
    """Benchmarks of one setting, each with models of its own seed."""
    alike: dict[str, list[Run]] = {}
    for run in runs.benchmark:
        alike.setdefault(str(run.environment.get("setting")), []).append(run)
    for some in alike.values():
        figures: dict[str, BySeed] = {"cache": {}, "time": {}}
        for seed, run in enumerate(some):
            for what, ratio in run.summary.items():
                for figure, begins in (("cache", "cache at"), ("time", "time per token at")):
                    if what.startswith(begins) and "texts at once" not in what and figure_of({"x": ratio}, "x"):
                        figures[figure][seed] = 1 / ratio
        if figures["cache"] or figures["time"]:
            yield Reading(
                f"{some[0].environment.get('setting')}.",
                {figure: {"": values} for figure, values in figures.items()},
                some,
            )


def _c4(runs: Runs, settings: list[Setting]) -> Read:
    """Memory models on next tokens alone whose encoder learnt with them, and what that encoder holds."""
    for setting in _reading(settings):
        for model in setting:
            gain = {"": _right(model, "copy", "gain")}
            if _learnt(model) != {"causal"} or lineage.encoder_frozen(model.runs[0]) or not gain[""]:
                continue
            held: dict[str, BySeed] = {}
            told = [f"{model.name}, trained on next tokens alone ({_part(model)})"]
            behind = list(model.runs)
            for group in held_by(runs):
                own = (one for one in group if one.training != "untrained" and one.runs)
                mine = next((one for one in own if one.runs[0] in model.runs), None)
                same = [one for one in group if mine and encoder_of(one.config) == encoder_of(mine.config)]
                peer = next((one for one in same if one.training == "autoencoder"), None)
                if mine is None or peer is None:
                    continue
                held[f"beside {peer.name}"] = shares(mine.by_seed(USABLE), peer.by_seed(USABLE))
                behind += peer.runs
                told.append(f"its encoder holds {number(mine.mean(), 2)} usable bits a token")
                told.append(f"{peer.name}, an autoencoder of the same encoder, {number(peer.mean(), 2)}")
                twins = [one for one in same if one.training == "untrained"]
                told += [f"untrained it holds {number(t.mean(), 2)} ({plural(len(t.rows), 'seed')})" for t in twins[:1]]
            yield Reading(f"{'; '.join(told)}.", {"gain": gain, "held": held}, behind)


def _c5(runs: Runs, settings: list[Setting]) -> Read:
    """Models that also retain, and can look up."""
    return _retaining(settings, ("blank", "recall"))


def _c5_vector(runs: Runs, settings: list[Setting]) -> Read:
    """Models that also retain and read a memory as one vector."""
    alone = [[model for model in s if model.runs and lineage.one_vector(model.runs[0])] for s in settings]
    return _retaining(alone, ("blank",))


def _retaining(settings: list[Setting], tasks: tuple[str, ...]) -> Read:
    """Models that also retain, and the best one of the same shape on next tokens alone after as many causal tokens."""
    for setting in _reading(settings):
        for model in setting:
            asked = {task: _right(model, task) for task in tasks}
            alone = [peer for peer in setting if _learnt(peer) == {"causal"} and _alike(model, peer, "model")]
            alone = [peer for peer in alone if _loss(peer) and _equal(model, peer, lineage.causal_tokens)]
            both = {"causal"} < lineage.objectives_of(model.runs[0]).keys()
            if not both or not all(asked.values()) or not _loss(model) or not alone:
                continue
            peer = min(alone, key=lambda one: _average(_loss(one)))
            price = {seed: share - 1 for seed, share in shares(_loss(model), _loss(peer)).items()}
            says = f"{model.name}, trained on {model.runs[0].config['objective']} ({_part(model)}): "
            says += (
                f"{number(_average(_loss(model)), 3)} nats a token; {peer.name}, on next tokens alone after as many "
            )
            says += f"causal tokens, {number(_average(_loss(peer)), 3)}."
            figures = {task: {"": values} for task, values in asked.items()} | {"price": {"": price}}
            yield Reading(says, figures, [*model.runs, *peer.runs])


def _c6(runs: Runs, settings: list[Setting]) -> Read:
    """A curriculum beside training on its last objective from the first step, after as many steps of the decoder."""
    for setting in _reading(settings):
        for model, direct in ((model, direct) for model in setting for direct in setting):
            run, base, learns = model.runs[0], _base(model), lineage.objectives_of(model.runs[0])
            staged = len(lineage.decoder_of(run)) > 1 and lineage.encoder_frozen(run)
            staged = staged and (not base or "autoencode" in lineage.objectives_of(base[0]))
            tasks = [task for task in _TASKS if task in learns] or ["blank"]
            ahead = {_TASKS[task][0]: minus(_right(model, task), _right(direct, task)) for task in tasks}
            equal = _equal(model, direct, lineage.decoder_steps)
            if not staged or not any(ahead.values()) or not equal or not _is_direct(direct, model):
                continue
            price = {seed: share - 1 for seed, share in shares(_loss(model), _loss(direct)).items()}
            how = "the same frozen encoder" if lineage.encoder_frozen(direct.runs[0]) else "an encoder that learns too"
            tokens = [number(_mean(one, lineage.causal_tokens) / 1e6, 2) for one in (model, direct)]
            says = f"{model.name} and {direct.name}, directly with {how} ({_part(model)}), after "
            says += f"{number(_mean(model, lineage.decoder_steps))} decoder steps; {tokens[0]} and {tokens[1]} million "
            says += "causal tokens."
            yield Reading(says, {"ahead": ahead, "price": {"": price}}, [*model.runs, *direct.runs])


def _c7(runs: Runs, settings: list[Setting]) -> Read:
    """Each causal encoder of the source of E14, beside the autoencoder."""
    rows = [row for run in runs.experiment for row in run.rows if row["experiment"] == "E14"]
    figures: dict[str, dict[str, dict[str, BySeed]]] = {}  # training -> case -> family of probes -> by seed
    for row in rows:
        what, _, family = row["figure"].partition(", ")
        if what == "older tokens":
            case = figures.setdefault(row["training"], {}).setdefault(row["case"], {})
            case.setdefault(family, {})[row["seed"]] = row["value"]
    for name, causal in figures.get("causal", {}).items():
        kept = {}
        for case, of in figures.get("autoencoder", {}).items():
            family = max(of, key=lambda one: _average(of[one]))  # bits are a lower bound: a weak probe refutes nothing
            kept[f"{case}, {family}"] = of[family]
        names = {row.get("model") for row in rows}
        says = f"{name} on the source of E14 (part {rows[0].get('part')})."
        behind = [run for run in runs.training if run.path.name in names]
        yield Reading(says, {"causal": causal, "autoencoder": kept}, behind)


READERS: dict[str, Callable[[Runs, list[Setting]], Read]] = {
    **{"C1": _c1, "C1 scale": _c1_scale, "C2": _c2, "C3": _c3},
    **{"C4": _c4, "C5": _c5, "C5 vector": _c5_vector, "C6": _c6, "C7": _c7},
}


def _where(held: Held) -> str:
    """Which part of which data its rows are of; protocol 1 had none."""
    row = next(iter(held.rows.values()))
    return f"part {row.get('part') or 'valid'}, protocol {row.get('protocol') or 1}"


def _budget(held: Held) -> str:
    """The largest budget of its probes."""
    chunks = next(iter(held.rows.values())).get("train_chunks")
    return f"probes of {number(chunks)} chunks" if chunks else "an older probe"


def _part(model: Model) -> str:
    """Which part its access was measured on."""
    row = model.first.rows[0]
    return f"part {row.get('part') or 'valid'}, protocol {row.get('protocol') or 1}"


def _reading(settings: list[Setting]) -> list[Setting]:
    """Models that read memories and whose runs are known."""
    return [[m for m in setting if m.runs and all(map(lineage.reads_memories, m.runs))] for setting in settings]


def _is_direct(direct: Model, model: Model) -> bool:
    """Whether a model was trained on another's last objective from the first step, on its encoder or a fresh one."""
    same = lineage.recipe(_base(direct)) == lineage.recipe(_base(model))
    same = same and _alike(model, direct, "fresh_embedding")
    once = len(lineage.decoder_of(direct.runs[0])) == 1 and _alike(model, direct, "model", "objective")
    return once and (same or not lineage.encoder_frozen(direct.runs[0]))


def _learnt(model: Model) -> set[str]:
    """All that its decoder was ever trained on."""
    return {name for run in lineage.decoder_of(model.runs[0]) for name in lineage.objectives_of(run)}


def _base(model: Model) -> tuple[Run, ...]:
    """The run that its encoder is from and those before, if that was another kind of model and is known."""
    return tuple(dropwhile(lineage.reads_memories, model.runs[0].chain))


def _alike(one: Model, other: Model, *keys: str) -> bool:
    return all(one.runs[0].config.get(key) == other.runs[0].config.get(key) for key in keys)


def _right(model: Model, task: str, memory: str = "own") -> BySeed:
    return model.by_seed(task, memory, mode=_TASKS[task][1])


def _loss(model: Model) -> BySeed:
    return model.by_seed("causal", "own", "cross_entropy")


def _average(values: BySeed) -> float:
    return sum(values.values()) / len(values)


def _mean(model: Model, budget: Callable[[Run], float]) -> float:
    return sum(map(budget, model.runs)) / len(model.runs)


def _equal(one: Model, other: Model, budget: Callable[[Run], float]) -> bool:
    return lineage.about_equal(_mean(one, budget), _mean(other, budget))
