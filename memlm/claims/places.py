"""What an embedding holds of each place of a chunk: usable bits by place, as a share of a token's entropy (C7)."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from memlm.claims.symbols import OLDER, entropy
from memlm.claims.work import Work
from memlm.data.corpus import Corpus
from memlm.measure.config import ProbeConfig
from memlm.measure.controls import origin
from memlm.measure.embeddings import embed
from memlm.measure.encoders import Encoder, open_encoder
from memlm.measure.families import fit_families
from memlm.measure.probe import Probe, lesson
from memlm.precision import exact

PART = "test"


def places_of(
    work: Work, corpus: Corpus, probe: ProbeConfig, names: list[str], *, twins: bool
) -> Iterator[dict[str, Any]]:
    """Rows of E14 of runs, and of each one's untrained twin if that is asked for."""
    for name in names:
        encoder = open_encoder(str(work.folder(name)), work.device)
        told = {"model": work.folder(name).name, **origin(corpus, PART, work.seed, work.device)}
        cache, chunks = work.config.out / "embeddings", work.config.budget.chunks
        twin = encoder.twin if twins else None
        for one, case in ((encoder, name), *([(twin(work.seed), f"{name}, untrained")] if twin else [])):
            yield from places_rows(one, case, usable_by_place(one, corpus, probe, cache, chunks), **told)


def usable_by_place(encoder: Encoder, corpus: Corpus, probe: ProbeConfig, cache: Path, chunks: int) -> dict[str, Any]:
    """Usable bits of every place by each family of probes: family -> [T], of the test chunks."""
    T = encoder.chunk_tokens or 0
    held_NT, _ = corpus.chunks(PART, T, chunks)
    learnt = corpus.sample("train", T, max(probe.train_chunks))
    one = lesson(learnt.tokens, learnt.document, corpus.vocab_size, probe.seed)
    held_NM, learnt_NM = embed(encoder, held_NT, cache), embed(encoder, learnt.tokens, cache)
    device = encoder.device
    with exact(device):
        nothing = _bits(Probe(held_NM[:1], one.known_TV).to(device), held_NM, held_NT)
        probes = fit_families(learnt_NM, one, device, probe, encoder.name)
        return {family: nothing - _bits(fitted, held_NM, held_NT) for family, fitted in probes.items()}


def places_rows(encoder: Encoder, case: str, bits: dict[str, np.ndarray], **told: Any) -> list[dict[str, Any]]:
    """Rows of E14: the share of older tokens, and of the last one, by each family."""
    parts = {"older tokens": slice(None, -OLDER), "last token": slice(-1, None)}
    who = {"experiment": "E14", "case": case, "training": encoder.training, **told}
    return [
        {**who, "figure": f"{what}, {family}", "value": float(bits_T[places].mean()) / entropy(), "unit": "share"}
        for what, places in parts.items()
        for family, bits_T in bits.items()
    ]


@torch.inference_mode()
def _bits(probe: Probe, memories_NM: np.ndarray, tokens_NT: np.ndarray) -> np.ndarray:
    """Mean cross-entropy of every place, bits [T]."""
    device = probe.mean_M.device
    logits_NTV = probe(torch.from_numpy(np.array(memories_NM)).to(device)).float()
    labels_NT = torch.from_numpy(tokens_NT.astype(np.int64)).to(device)
    nats_NT = F.cross_entropy(logits_NTV.transpose(1, 2), labels_NT, reduction="none")
    return nats_NT.mean(0).double().cpu().numpy() / math.log(2)
