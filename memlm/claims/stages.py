"""Stages of a page of claims: runs that are trained, figures that are measured of them, and who needs them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from memlm.claims import runs
from memlm.claims.work import Work
from memlm.train.config import TrainConfig

_MEMORY_CHUNKS, _TOKENS = 64, 256  # of the context whose cost is measured (C3)
_READ = 4  # chunks of an example of access


class Stage(NamedTuple):
    """Runs by name, in an order in which all start from earlier ones, and what is measured once they are trained."""

    needed_by: set[str]
    runs: Callable[[Work], dict[str, TrainConfig]]
    figures: Callable[[Work], None]
    data: Callable[[Work], Path] = lambda work: work.config.out / "data"
    one_seed: bool = False  # dear, and shown of one
    alone: bool = False  # a benchmark, which nothing may run beside


def layers(work: Work) -> dict[str, TrainConfig]:
    """Only in a whole one."""
    return runs.layers() if work.config.budget.everything else {}


def long(work: Work) -> dict[str, TrainConfig]:
    """In a quick one only the autoencoder, as long as in a whole one: it learns late."""
    budget = work.config.budget
    named = runs.long(others=budget.everything)
    return named | {"slots": replace(named["slots"], steps=round(named["slots"].steps / budget.scale))}


def noise(work: Work) -> dict[str, TrainConfig]:
    """The autoencoder of 64 tokens, with noise in training and without."""
    return {"slots": long(work)["slots"], **runs.precision()}


def memory(work: Work) -> dict[str, TrainConfig]:
    """All of them over the autoencoder of 16 tokens."""
    return {runs.AUTOENCODER: runs.retention()[runs.AUTOENCODER], **runs.memory(work.folder)}


def vector(work: Work) -> dict[str, TrainConfig]:
    """The same."""
    return {runs.AUTOENCODER: runs.retention()[runs.AUTOENCODER], **runs.vector(work.folder)}


def design(work: Work) -> dict[str, TrainConfig]:
    """The same."""
    return {runs.AUTOENCODER: runs.retention()[runs.AUTOENCODER], **runs.design(work.folder)}


def _retention(work: Work) -> None:
    """Without twins, which no rule reads and which take half of the time."""
    work.measure("retention", runs.retention(), controls=False)


def _paper(work: Work) -> None:
    """What its memories hold, of one seed beside its twin, and what it gets from them; no rule reads a curve."""
    twin = work.seed == work.config.first_seed
    work.measure("paper", runs.paper(), controls=twin, train_chunks=work.config.budget.probe.train_chunks[-1:])
    _access(work, "paper-access", ["memory-vector"], ("causal", "copy"))


def _layers(work: Work) -> None:
    if named := layers(work):
        work.measure("layers", named, controls=False)


def _long(work: Work) -> None:
    """By two families, in a quick one by one: at this length each is dear; without twins."""
    changes: dict[str, Any] = {"families": ("linear", "linear+slots")}
    if not work.config.budget.everything:
        changes = {"families": ("linear+slots",), "train_chunks": (1024, 4096)}
    work.measure("long", long(work), controls=False, **changes)


def _memory(work: Work) -> None:
    named = [name for name in memory(work) if name not in (runs.AUTOENCODER, runs.LANGUAGE)]
    _access(work, "access", named, ("causal", "copy", "blank", "recall"))


def _vector(work: Work) -> None:
    _access(work, "vector-access", list(runs.vector(work.folder)), ("causal", "blank"))


def _access(work: Work, name: str, models: list[str], judged: tuple[str, ...]) -> None:
    """What models get from their memories, of the tasks that rules ask for alone."""
    from memlm.loading import load_model
    from memlm.measure.access import measure_access
    from memlm.measure.config import AccessConfig

    examples, device = work.config.budget.examples, work.config.device
    wanted = AccessConfig(examples=examples, free_running=0, chunks=_READ, tasks=judged, seed=work.seed, device=device)

    def make() -> Iterator[dict[str, Any]]:
        for model in models:
            folder = work.folder(model)
            yield from measure_access(load_model(str(folder)).requires_grad_(False), work.corpus, wanted, folder.name)

    work.once(name, "access.json", models, make)


def _cost(work: Work) -> None:
    from memlm.bench.form import Options
    from memlm.bench.memory import run
    from memlm.bench.serving import FULL, MEMORY

    folder = work.folder("cost")
    if not (folder / "memory.json").exists():
        seconds = work.config.budget.cost_seconds
        tokens = _TOKENS if work.config.scale >= 1 else 4
        contexts = tuple(_MEMORY_CHUNKS * tokens // by for by in (16, 4, 1))  # shorter ones tell what the last takes
        options = Options(data=work.corpus.path, out=folder, seconds=seconds)
        run(options, contexts=contexts, chunk_tokens=tokens, brief=True, names=(FULL, MEMORY)).save(folder)


def _symbols(work: Work) -> None:
    from memlm.claims.places import places_of
    from memlm.claims.symbols import prepare_symbols

    corpus, named = prepare_symbols(work.config.out / "symbols"), runs.symbols()
    probe = work.probe(train_chunks=(4096,))
    twins = work.seed == work.config.first_seed  # no rule reads them
    work.once("e14", "experiment.json", named, lambda: places_of(work, corpus, probe, list(named), twins=twins))


def _experiment(name: str, named: Callable[[Work], dict[str, TrainConfig]], cases: dict[str, str] | None = None) -> Any:
    """What measures an experiment; its cases are the runs, unless they are named."""

    def figures(work: Work) -> None:
        from memlm.claims import experiments

        told = cases or {run: run for run in named(work) if run != runs.AUTOENCODER}
        work.once(name.lower(), "experiment.json", named(work), lambda: experiments.MEASURED[name](work, told))

    return figures


def _symbols_data(work: Work) -> Path:
    return work.config.out / "symbols" / "data"


def _always(named: dict[str, TrainConfig]) -> Callable[[Work], dict[str, TrainConfig]]:
    return lambda _: named


_SYMBOLS, _ORACLES = _always(runs.symbols()), _always(runs.oracles())
_TEXT = _always(runs.codes())
_CODES = {"trained on text": "codes-text", "trained on random tokens": "codes-random"}
_DESIGN = {
    "original positions": "vector-both",
    "variable positions": "design-variable",
    "fixed positions": "design-fixed",
    "next tokens alone": "vector-causal",
    "no autoencoder, the encoder learns too": "design-direct",
    "the same, next tokens alone": "design-alone",
    "blanks alone first": "design-staged",
}
_STORED = {"trained without noise": "slots", "with noise": "slots-noise"}
STAGES: dict[str, Stage] = {
    "symbols": Stage({"C7"}, _SYMBOLS, _symbols, _symbols_data),
    "retention": Stage({"C1", "C2"}, lambda _: runs.retention(), _retention),
    "paper": Stage({"C4"}, lambda _: runs.paper(), _paper),
    "memory": Stage({"C5", "C6"}, memory, _memory),
    "vector": Stage({"C5"}, vector, _vector),
    "long": Stage({"C1", "C2"}, long, _long),
    "layers": Stage({"C1"}, layers, _layers),
    "E10": Stage({"E10"}, _TEXT, _experiment("E10", _TEXT, _CODES), one_seed=True),
    "E11": Stage({"E11"}, noise, _experiment("E11", noise, _STORED), one_seed=True),
    "E9": Stage({"E9"}, design, _experiment("E9", design, _DESIGN), one_seed=True),
    "E12": Stage({"E12"}, _ORACLES, _experiment("E12", _ORACLES), one_seed=True),
    "cost": Stage({"C3"}, _always({}), _cost, alone=True),
}
