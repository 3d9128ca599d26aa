"""Models of others as encoders under measurement: one for every layer and readout, which share their passes.

They read the text of our chunks with their own tokenizer; the probe's targets stay the data's tokens, so that all
encoders of a page are asked for the same text by the same decoder.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlm.data.corpus import Corpus
from memlm.files import sha256_json
from memlm.measure.config import MeasureConfig
from memlm.measure.controls import device_of
from memlm.pretrained.hidden import HiddenReader, View, views_of
from memlm.pretrained.opening import open_pretrained, untrained

# What a model of others was trained in, by its kind.
TRAINING = {"causal": "causal", "masked": "masked", "encoder": "encoder", "sentence": "sentence"}


@dataclass(frozen=True)
class PretrainedEncoder:
    """One view of a model of others; its siblings are the other views of the same reader."""

    name: str
    training: str
    reader: HiddenReader
    number: int

    @property
    def view(self) -> View:
        """Layer and readout."""
        return self.reader.views[self.number]

    @property
    def kind(self) -> str:
        """The architecture's name."""
        return self.reader.opened.model.config.model_type

    @property
    def memory_dim(self) -> int:
        """M."""
        return self.reader.dims[self.number]

    @property
    def architecture(self) -> str:
        """A twin for every view of every model."""
        return f"{self.reader.opened.name}, layer {self.view.layer}, {self.view.readout}"

    @property
    def device(self) -> torch.device:
        """Where it stands."""
        return self.reader.opened.model.device

    @property
    def parameters(self) -> int:
        """All weights of the model, whichever layer is read."""
        return sum(p.numel() for p in self.reader.opened.model.parameters())

    def fingerprint(self) -> str:
        """The model's identity and the view."""
        return f"{self.reader.opened.fingerprint()} layer {self.view.layer} {self.view.readout}"

    def encode_all(self, ids_BT: Tensor) -> list[Tensor]:
        """The corpus' ids [B, T] -> the vectors of every view."""
        return self.reader.encode(ids_BT)

    def kinds(self) -> list[tuple[dict[str, Any], int]]:
        """Of every view: model, layer, readout and the tokenizer that makes text of the corpus' ids."""
        encoder = self.reader.opened.fingerprint()
        data = sha256_json(self.reader.data.to_str())
        origins = [{"encoder": encoder, "data tokenizer": data, **asdict(view)} for view in self.reader.views]
        return list(zip(origins, self.reader.dims, strict=True))

    def fits(self, corpus: Corpus, tokens: int) -> None:
        """It reads any text."""

    def own_decoder(self) -> Callable[[Tensor], Tensor] | None:
        """It has none."""
        return None

    def told(self, tokens_NT: np.ndarray) -> dict[str, Any]:
        """Which states of which model, and how it reads these chunks."""
        opened = self.reader.opened
        return {
            "layer": self.view.layer,
            "readout": self.view.readout,
            "source": opened.source,
            "precision": opened.precision,
            "quantize": opened.quantize,
            "ids": "the model's own" if self.reader.shares_ids else "text, tokenised by the model",
            **self.reader.told(tokens_NT),
        }

    def to(self, device: torch.device) -> None:
        """It was opened where it shall stand."""

    def untrained(self, seed: int) -> "PretrainedEncoder":
        """The same view of the same architecture before any training; all views share one such model."""
        seed += 1_000_003  # not a run's usual one
        if seed not in self.reader.twins:
            self.reader.twins[seed] = replace(self.reader, opened=untrained(self.reader.opened, seed), twins={})
        return PretrainedEncoder(f"{self.name}-untrained", "untrained", self.reader.twins[seed], self.number)


def open_theirs(name: str, corpus: Corpus, config: MeasureConfig) -> list[PretrainedEncoder]:
    """A model of others as encoders, one for each layer and readout that is asked for.

    Raises:
        UsageError: there is no such model, layer or readout, or it cannot be measured.
        WorkError: it cannot be fetched, or there is too little memory.
    """
    device = str(device_of(config.device))
    opened = open_pretrained(name, device=device, precision=config.precision, quantize=config.quantize)
    short = Path(name).name if Path(name).exists() else name
    views = views_of(opened, config.layers, config.readouts)
    reader = HiddenReader(opened, views, corpus.tokenizer, config.batch)
    names = [short if len(views) == 1 else f"{short} layer {view.layer} {view.readout}" for view in views]
    return [PretrainedEncoder(name, TRAINING[opened.kind], reader, i) for i, name in enumerate(names)]
