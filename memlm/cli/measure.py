"""memlm measure MODEL... --data DATA --out RUN: what an embedding holds, and what a model gets from it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.measure.config import MeasureConfig


@dataclass(frozen=True, kw_only=True)
class Call:
    """Freeze encoders, train a fresh decoder on each one's memories alone, and report what came back.

    Encoders are runs of ours, any causal, masked, encoder or sentence-transformers model of others, at any layers,
    readouts and chunk lengths, and vectors from anywhere beside the texts they are of; --cram and --invert tell what a
    causal model of others could give without any probe. The text is the test part, with controls (no memory, shuffled
    memories, untrained twin, uniform random tokens) and 95 % intervals over chunks and seeds (docs/protocol.md). Of a
    model that reads memories also what it gets from them: loss, copies, recall of key-value pairs and of needles, with
    its memories, without, and with another text's; and, token by token, what each prediction owes to them.
    """

    models: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="[MODEL...]",
            help="run folders or saved folders; of others: hub names, local folders, GGUF files, smollm2, minilm",
            help_behavior_hint="",
        ),
    ] = ()
    vectors: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(
            metavar="FILE...",
            help=".npy or .safetensors files with vectors [K, M] of the texts in --texts",
            help_behavior_hint="",
        ),
    ] = ()
    texts: Path | None = None  # what is asked for in the place of --data's text: .txt or .jsonl, a text a line; .json
    data: Path | None = None  # a folder made by memlm prepare, `data` if not given; with --texts its tokenizer alone
    out: Path  # the measurement's folder: results.json, access.json, attribution.json
    cache: Path | None = None  # where embeddings are kept; OUT/embeddings if not given
    prior: Path | None = None  # a causal run of ours: also tell what vectors add to what it would guess
    json: bool = False  # print one JSON object with a list `results`
    config: Annotated[MeasureConfig, tyro.conf.arg(name="")] = field(default_factory=MeasureConfig)


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm measure")
    from memlm.measure.run import measure

    encoders = [*call.models, *call.vectors]
    cache, texts, prior = call.cache, call.texts, call.prior
    report = measure(encoders, call.data, call.out, call.config, cache=cache, texts=texts, prior=prior)
    print(json.dumps(report) if call.json else report)
