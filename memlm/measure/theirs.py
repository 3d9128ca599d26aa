"""Models of others as encoders under measurement: one for every layer and readout, which share their passes.

They read the text of our chunks with their own tokenizer; the probe's targets stay the data's tokens, so that all
encoders of a page are asked for the same text by the same decoder.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from memlm.files import sha256_json
from memlm.measure.config import MeasureConfig
from memlm.measure.encoders import Encoder
from memlm.precision import device_of
from memlm.pretrained.hidden import HiddenReader, View, views_of
from memlm.pretrained.opening import open_pretrained, untrained


def encoders_of(reader: HiddenReader, names: list[str], training: str) -> list[Encoder]:
    """Each view of a reader as an encoder; they share their passes and, by seed, one untrained twin."""
    opened = reader.opened
    data = sha256_json(reader.data.to_str()) if reader.data else None
    kinds = [
        ({"encoder": opened.fingerprint(), "data tokenizer": data, **asdict(view)}, memory_dim)
        for view, memory_dim in zip(reader.views, reader.dims, strict=True)
    ]

    def twin(number: int, seed: int) -> Encoder:
        seed += 1_000_003  # not a run's usual one
        if seed not in reader.twins:
            reader.twins[seed] = replace(reader, opened=untrained(opened, seed), twins={})
        return encoders_of(reader.twins[seed], [f"{name}-untrained" for name in names], "untrained")[number]

    def told(view: View, tokens_NT: np.ndarray) -> dict[str, Any]:
        return {
            "layer": view.layer,
            "readout": view.readout,
            "source": opened.source,
            "precision": opened.precision,
            "quantize": opened.quantize,
            "ids": "the model's own" if reader.shares_ids else "text, tokenised by the model",
            **reader.told(tokens_NT),
        }

    return [
        Encoder(
            name=name,
            kind=opened.model.config.model_type,
            training=training,
            identity=f"{opened.fingerprint()} layer {view.layer} {view.readout}",
            encode=reader.encode,
            kinds=kinds,
            number=number,
            device=opened.model.device,
            parameters=sum(p.numel() for p in opened.model.parameters()),
            twin=None if training == "untrained" else partial(twin, number),
            architecture=f"{opened.name}, layer {view.layer}, {view.readout}",
            told=partial(told, view),
            reader=reader,
        )
        for number, (name, view) in enumerate(zip(names, reader.views, strict=True))
    ]


def open_theirs(name: str, tokenizer: Tokenizer, config: MeasureConfig) -> list[Encoder]:
    """A model of others as encoders, one for each layer and readout that is asked for.

    Raises:
        UsageError: there is no such model, layer or readout, or it cannot be measured.
        WorkError: it cannot be fetched, or there is too little memory.
    """
    device = str(device_of(config.device))
    opened = open_pretrained(name, device=device, precision=config.precision, quantize=config.quantize)
    short = Path(name).name if Path(name).exists() else name
    views = views_of(opened, config.layers, config.readouts)
    reader = HiddenReader(opened, views, tokenizer, config.batch)
    names = [short if len(views) == 1 else f"{short} layer {view.layer} {view.readout}" for view in views]
    return encoders_of(reader, names, opened.kind)
