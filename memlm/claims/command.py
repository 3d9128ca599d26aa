"""`memlm claims`: stages that train and measure what the rules need, each kept in folders of its own, then the page.

A stage is made for each seed, if a claim or experiment that needs it is asked. What is there is not made again.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from memlm import ui
from memlm.claims import runs
from memlm.claims.config import Claims
from memlm.errors import UsageError
from memlm.files import read_object, write_json
from memlm.protocol import PROTOCOL
from memlm.provenance import environment
from memlm.train.table import Run, train_table

_MEMORY_CHUNKS, _TOKENS = 64, 256  # of the context whose cost is measured (C3)


class Work(NamedTuple):
    """A seed of a call."""

    config: Claims
    seed: int

    @property
    def data(self) -> Path:
        """The prepared corpus."""
        return self.config.out / "data"

    def folder(self, name: str) -> Path:
        """Of a run or a measurement of this seed."""
        return self.config.out / f"{name}-seed{self.seed}"

    def train(self, named: dict[str, Run], data: Path | None = None) -> None:
        """Train runs of this seed."""
        table = {self.folder(name).name: run for name, run in named.items()}
        scale = self.config.budget.scale * self.config.scale
        train_table(table, self.config.out, data=data or self.data, seed=self.seed, scale=scale)

    def measure(self, name: str, models: Iterable[str], **changes: Any) -> None:
        """Measure what the embeddings of runs hold, into a folder."""
        from memlm.measure.config import MeasureConfig
        from memlm.measure.run import measure

        wanted = MeasureConfig(
            probe=self.probe(**changes), chunks=self.config.budget.chunks, access=False, attribution=0, seed=self.seed
        )
        places = [str(self.folder(model)) for model in models]
        measure(places, self.data, self.folder(name), wanted, cache=self.config.out / "embeddings")

    def probe(self, **changes: Any) -> Any:
        """The probe of this seed."""
        probe = self.config.budget.probe
        return replace(probe, steps=max(1, round(probe.steps * self.config.scale)), seed=self.seed, **changes)

    def once(self, name: str, file: str, models: Iterable[str], make: Callable[[], list[dict[str, Any]]]) -> None:
        """Write rows that are not there yet: `file` in the folder of that name, with what they were made from.

        UsageError where it holds others.
        """
        path = self.folder(name) / file
        asked = {"protocol": PROTOCOL, "models": list(models), "chunks": self.config.budget.chunks}
        asked |= {"examples": self.config.budget.examples, "scale": self.config.scale, "quick": self.config.quick}
        if path.exists():
            if read_object(path).get("config") != asked:
                raise UsageError(f"{path} holds other figures: name another place.")
            return
        write_json(path, {"results": make(), "config": asked, "environment": environment("cpu")})


def _retention(work: Work) -> None:
    named = runs.retention() | {"memory-vector": runs.memory(Path())["memory-vector"]}
    work.train(named)
    work.measure("retention", named)


def _layers(work: Work) -> None:
    if work.config.budget.everything:
        work.train(runs.layers())
        work.measure("layers", runs.layers())


def _long(work: Work) -> None:
    """In a quick one only the autoencoder, whose own decoder is asked."""
    everything = work.config.budget.everything
    named = runs.long(others=everything)
    work.train(named)
    work.measure("long", named, **({} if everything else {"families": ("slots",), "train_chunks": (1024, 4096)}))


def _memory(work: Work) -> None:
    from memlm.data.corpus import Corpus
    from memlm.loading import load_model
    from memlm.measure.access import measure_access
    from memlm.measure.config import AccessConfig

    work.train({runs.AUTOENCODER: runs.retention()[runs.AUTOENCODER]})
    named = runs.memory(work.folder(runs.AUTOENCODER))
    work.train(named)

    def make() -> list[dict[str, Any]]:
        wanted = AccessConfig(examples=work.config.budget.examples, free_running=0, seed=work.seed)
        corpus = Corpus.open(work.data)
        models = {name: load_model(str(work.folder(name))).requires_grad_(False) for name in named}
        return [
            row for name, one in models.items() for row in measure_access(one, corpus, wanted, work.folder(name).name)
        ]

    work.once("access", "access.json", named, make)


def _cost(work: Work) -> None:
    from memlm.bench.form import Options
    from memlm.bench.memory import run

    folder = work.folder("cost")
    if not (folder / "memory.json").exists():
        seconds = work.config.budget.cost_seconds
        tokens = _TOKENS if work.config.scale >= 1 else 4
        contexts = tuple(_MEMORY_CHUNKS * tokens // by for by in (16, 4, 1))  # shorter ones tell what the last takes
        options = Options(data=work.data, out=folder, seconds=seconds)
        run(options, contexts=contexts, chunk_tokens=tokens, brief=True).save(folder)


def _symbols(work: Work) -> None:
    import torch

    from memlm.claims.places import PART, places_rows, usable_by_place
    from memlm.claims.symbols import prepare_symbols
    from memlm.measure.controls import origin
    from memlm.measure.encoders import open_encoder

    corpus, named = prepare_symbols(work.config.out / "symbols"), runs.symbols()
    work.train(named, corpus.path)
    chunks, cpu = work.config.budget.chunks, torch.device("cpu")
    probe, cache = work.probe(train_chunks=(4096,)), work.config.out / "embeddings"

    def rows(name: str) -> list[dict[str, Any]]:
        encoder = open_encoder(str(work.folder(name)), cpu)
        assert encoder.twin
        told = {"model": work.folder(name).name, **origin(corpus, PART, work.seed, cpu)}
        found = []
        for one, case in ((encoder, name), (encoder.twin(work.seed), f"{name}, untrained")):
            found += places_rows(one, case, usable_by_place(one, corpus, probe, cache, chunks), **told)
        return found

    work.once("e14", "experiment.json", named, lambda: [row for name in named for row in rows(name)])


def _experiment(name: str) -> Callable[[Work], None]:
    def run(work: Work) -> None:
        if work.seed and not work.config.budget.everything:
            return
        from memlm.claims import experiments
        from memlm.data.corpus import Corpus

        started = work.folder(runs.AUTOENCODER)
        named, cases, make = {
            "E9": (runs.design(started), None, experiments.design),
            "E10": (runs.codes(), {"trained on text": "codes-text", "trained on random tokens": "codes-random"},
                    experiments.codes),
            "E11": (runs.long(others=False) | runs.precision(),
                    {"trained without noise": "slots", "with noise": "slots-noise"}, experiments.precision),
            "E12": (runs.oracles(), None, experiments.oracles),
        }[name]  # fmt: skip
        if name in ("E9", "E12") and work.seed:
            return  # dear, and shown of one seed
        if name == "E9":
            work.train({runs.AUTOENCODER: runs.retention()[runs.AUTOENCODER]})
        work.train(named)
        place = experiments.Place(work.config.out, Corpus.open(work.data), work.seed, work.config.budget.chunks)
        cases = cases or {one: one for one in named}
        work.once(name.lower(), "experiment.json", named, lambda: list(make(place, cases)))

    return run


# Who needs which stage.
STAGES: dict[str, tuple[set[str], Callable[[Work], None]]] = {
    "symbols": ({"C7"}, _symbols),
    "retention": ({"C1", "C2", "C4"}, _retention),
    "memory": ({"C4", "C5", "C6"}, _memory),
    "long": ({"C1", "C2"}, _long),
    "layers": ({"C1"}, _layers),
    **{name: ({name}, _experiment(name)) for name in ("E10", "E11", "E9", "E12")},
    "cost": ({"C3"}, _cost),
}


def make_claims(config: Claims) -> dict[str, Any]:
    """Do what is left, and write `claims.md` and `claims.json`.

    Returns:
        what claims.json tells, and `page`, the path of claims.md.

    Raises:
        UsageError: the folder was begun with other settings, or the source cannot be read.
        WorkError: as of preparing, training and measuring.
    """
    from memlm.data.prepare import Prepare, prepare
    from memlm.report.claims_page import write_claims

    begun = time.perf_counter()
    prepare(Prepare(source=config.source, out=config.out / "data"))
    for name, (needed_by, stage) in STAGES.items():
        for seed in range(config.seeds if needed_by & set(config.asked) else 0):
            ui.say(f"{name}, seed {seed + 1} of {config.seeds}")
            stage(Work(config, seed))
    minutes = (time.perf_counter() - begun) / 60
    told = {"quick": config.quick, "seeds": config.seeds, "source": config.source, "minutes": round(minutes, 1)}
    told |= {"asked": list(config.asked), "scale": config.scale}
    return write_claims(config.out, told)
