"""An epoch of a probe over embeddings that are kept on disk, against the same epoch with the model in the loop."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from memlm.bench.form import Options, Report
from memlm.bench.timing import in_turn
from memlm.cpu import tune_cpu
from memlm.measure.config import DECODERS, MeasureConfig
from memlm.measure.embeddings import embed
from memlm.measure.theirs import open_theirs
from memlm.measure.trained_probe import TrainedProbe, probe_step
from memlm.train.optim import build_optimizers

TOKENS, CHUNKS = 32, 256


def run(
    options: Options,
    *,
    model: str = "smollm2",
    tokens: int = TOKENS,
    chunks: int = CHUNKS,
    batch: int = 64,
    rounds: int = 3,
) -> Report:
    """Keep the embeddings once, then train one epoch from them and one with the model, in turn."""
    tune_cpu()
    corpus, decoder = options.corpus(), DECODERS["slots"]
    (encoder,) = open_theirs(model, corpus.tokenizer, MeasureConfig())
    tokens_NT = corpus.chunks("train", tokens, limit=chunks).tokens
    with tempfile.TemporaryDirectory() as cache:
        floor_TV = torch.zeros(tokens, corpus.vocab_size)
        probe = TrainedProbe(decoder, embed(encoder, tokens_NT, Path(cache)), floor_TV).to(encoder.device)
        optimizers = build_optimizers(probe, decoder.optim)

        def epoch(read: Callable[[np.ndarray], Tensor]) -> None:
            for rows in np.array_split(np.arange(len(tokens_NT)), max(1, len(tokens_NT) // batch)):
                tokens_BT = torch.from_numpy(tokens_NT[rows]).to(encoder.device)
                probe_step(probe, optimizers, read(rows).to(encoder.device), tokens_BT, decoder.optim.clip)

        def from_disk() -> None:
            memories_NM = embed(encoder, tokens_NT, Path(cache))
            epoch(lambda rows: torch.from_numpy(memories_NM[rows]))

        def in_the_loop() -> None:
            epoch(lambda rows: encoder.encode(torch.from_numpy(tokens_NT[rows]).to(encoder.device))[encoder.number])

        times = in_turn({"kept": from_disk, "in the loop": in_the_loop}, rounds=rounds)
    told = encoder.told(tokens_NT)
    report = Report(
        name="probe",
        columns=("the model's embeddings", f"seconds an epoch (median of {rounds})", "chunks/s"),
        rows=[(side, median(seconds), len(tokens_NT) / median(seconds)) for side, seconds in times.items()],
        setting=(
            f"{told['source']}, last layer, {told['readout']}; {len(tokens_NT)} chunks of {tokens} "
            f"tokens, batch {batch}, the slots probe of memlm measure, fp32, data {corpus.hash[:12]}"
        ),
        device=encoder.device.type,
        notes=["Kept embeddings were computed once before, which costs about as long as the model takes of one epoch."],
        raw={"seconds": times},
    )
    report.ratio("seconds an epoch", times, "in the loop", "kept", "asked, at least 5")
    return report
