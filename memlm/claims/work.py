"""Work of one seed: where its runs and measurements are, and how they are trained, measured and kept."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from memlm.claims.config import Claims
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import read_object, write_json
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.precision import device_of
from memlm.protocol import PROTOCOL
from memlm.provenance import environment
from memlm.train.config import TrainConfig
from memlm.train.table import train_table

LOOKED_AT = 64  # held-out chunks at each of a run's looks: no rule reads them


class Work(NamedTuple):
    """A seed of a call."""

    config: Claims
    seed: int

    @property
    def corpus(self) -> Corpus:
        """The prepared corpus."""
        return Corpus.open(self.config.out / "data")

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return device_of(self.config.device)

    def folder(self, name: str) -> Path:
        """Of a run or a measurement of this seed."""
        return self.config.out / f"{name}-seed{self.seed}"

    def train(self, name: str, run: TrainConfig, data: Path) -> None:
        """Train a run of this seed."""
        device = self.config.device
        run = replace(run, device=device)
        scale = self.config.budget.scale * self.config.scale
        table = {self.folder(name).name: run}
        train_table(table, self.config.out, data=data, seed=self.seed, scale=scale, looked_at=LOOKED_AT)

    def measure(self, name: str, models: Iterable[str], *, controls: bool = True, **changes: Any) -> None:
        """Measure what the embeddings of runs hold into a folder; `changes` are of the probe."""
        from memlm.measure.run import measure

        wanted = MeasureConfig(
            probe=self.probe(**changes),
            chunks=self.config.budget.chunks,
            controls=controls,
            access=False,
            free_running=0,
            attribution=0,
            seed=self.seed,
            device=self.config.device,
        )
        places = [str(self.folder(model)) for model in models]
        measure(places, self.corpus.path, self.folder(name), wanted, cache=self.config.out / "embeddings")

    def probe(self, **changes: Any) -> ProbeConfig:
        """The probe of this seed."""
        probe = self.config.budget.probe
        return replace(probe, steps=max(1, round(probe.steps * self.config.scale)), seed=self.seed, **changes)

    def once(self, name: str, file: str, models: Iterable[str], make: Callable[[], Iterable[dict[str, Any]]]) -> None:
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
        told = environment(self.device.type)
        write_json(path, {"results": list(make()), "config": asked, "environment": told})
