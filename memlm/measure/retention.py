"""The whole measurement: every encoder, its controls, one baseline without memory, one list of results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.files import sha256_json
from memlm.measure.config import MeasureConfig
from memlm.measure.controls import derangement, device_of
from memlm.measure.embeddings import embed, encoding_cost
from memlm.measure.encoders import Encoder
from memlm.measure.probe import Probe, train_floor, train_probe
from memlm.measure.result import passages, retention_figures, storage_figures
from memlm.measure.scores import ChunkScores, score_chunks
from memlm.measure.texts import GivenTexts
from memlm.nn.vocabulary import END
from memlm.precision import settle
from memlm.provenance import commit, machine
from memlm.records import to_dict

Array = np.ndarray
Decode = Callable[[Tensor], Tensor]  # memories [B, M] -> logits [B, T, V]; a Probe is a fresh decoder


class Measurement:
    """Measures encoders of one chunk length on one corpus; the floor without memory is trained once.

    Args:
        config: what is scored and the probe's budget.
        corpus: the prepared data, or given texts; probes learn on one side and are scored on the held-out one.
        chunk_tokens: T.
        cache: the folder that keeps embeddings.

    Raises:
        UsageError: no held-out document is as long as a chunk.
    """

    def __init__(self, config: MeasureConfig, corpus: Corpus | GivenTexts, chunk_tokens: int, cache: Path):
        settle(device_of(config.device))
        self.config, self.corpus, self.cache = config, corpus, cache
        self.device = device_of(config.device)
        self.train_NT, self.held_NT = corpus.sides(chunk_tokens, config.probe.train_chunks, config.chunks)
        rng = np.random.default_rng(config.seed)
        # Random tokens leave the special ones out: no text has them inside a chunk.
        self.random_NT = rng.integers(END + 1, corpus.vocab_size, self.held_NT.shape)
        self.shuffled_N = derangement(len(self.held_NT), rng)
        self.results: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.costs: dict[str, dict[str, float | None]] = {}  # of an encoder's memories, by its name
        self.probes: dict[str, Probe] = {}  # by what the memories depend on that each has learnt to read
        self.twins: set[str] = set()  # architectures whose untrained twin has been measured: one serves them all

        self.nothing = train_floor(config.probe, self.train_NT, corpus.vocab_size, self.device)
        nothing_N1 = np.zeros((len(self.held_NT), 1), np.float32)
        self.floor = score_chunks(self.nothing, nothing_N1, self.held_NT, self.device)
        self.random_floor = score_chunks(self.nothing, nothing_N1, self.random_NT, self.device)
        self._report(None, "none", self.nothing, self.floor)
        self._sample(self.results[-1], self.floor)

    def add(self, encoder: Encoder) -> None:
        """Measure an encoder: its own decoder if it has one, then a fresh one, then the controls.

        Raises:
            UsageError: the encoder's chunk length or vocabulary is not this measurement's.
        """
        encoder.check(self.corpus.vocab_size, self.held_NT.shape[1])
        self.costs[encoder.name] = encoding_cost(encoder, self.held_NT, self.cache)
        if encoder.decode:
            self._score(encoder, encoder.decode)
        origin = sha256_json(encoder.origin)
        if origin not in self.probes:
            train_NM, floor, size = embed(encoder, self.train_NT, self.cache), self.nothing, self.corpus.vocab_size
            args = self.config.probe, train_NM, self.train_NT, size, self.device, encoder.name, floor
            self.probes[origin] = train_probe(*args)
        self._score(encoder, self.probes[origin])
        if self.config.controls and encoder.twin and encoder.architecture not in self.twins:
            self.twins.add(encoder.architecture)
            self.add(encoder.twin(self.config.seed))

    def _score(self, encoder: Encoder, decode: Decode) -> None:
        """Score one decoder of an encoder's memories on held-out chunks and on the controls that train nothing."""
        held_NM = embed(encoder, self.held_NT, self.cache)
        scores = score_chunks(decode, held_NM, self.held_NT, self.device)
        row = self._report(encoder, encoder.training, decode, scores)
        self._sample(row, scores)
        if self.config.controls and encoder.training != "untrained":
            shuffled = score_chunks(decode, held_NM[self.shuffled_N], self.held_NT, self.device)
            self._report(encoder, "shuffled", decode, shuffled)
            if encoder.any_tokens:
                random_NM = embed(encoder, self.random_NT, self.cache)
                random = score_chunks(decode, random_NM, self.random_NT, self.device)
                self._report(encoder, "random-tokens", decode, random)

    def _sample(self, row: dict[str, Any], scores: ChunkScores) -> None:
        """Keep some recalled passages of a row."""
        text = passages(scores, self.held_NT, self.corpus.tokenizer)
        self.samples.append({key: row[key] for key in ("model", "training", "decoder")} | {"passages": text})

    def _report(self, encoder: Encoder | None, training: str, decode: Decode, scores: ChunkScores) -> dict[str, Any]:
        """Add one row: who, what was scored and how, every figure with its interval, and where it comes from."""
        probe = decode if isinstance(decode, Probe) else None
        random = training == "random-tokens"
        tokens_NT, floor = (self.random_NT, self.random_floor) if random else (self.held_NT, self.floor)
        memory_dim, vocab_size = encoder.memory_dim if encoder else 0, self.corpus.vocab_size
        bytes_N = self.corpus.token_bytes[tokens_NT].sum(1)
        texts = [text.encode() for text in self.corpus.tokenizer.decode_batch(tokens_NT.tolist())]
        row = {
            "model": encoder.name if encoder else "no memory",
            "encoder": encoder.kind if encoder else "none",
            "training": training,
            "decoder": "fresh" if probe else "own",
            "chunk_tokens": tokens_NT.shape[1],
            "chunk_chars": round(float(np.mean([len(text.decode()) for text in texts])), 1),
            "memory_dim": memory_dim,
            **retention_figures(scores, floor, vocab_size, bytes_N, memory_dim, self.config.seed),
            **storage_figures(texts, tokens_NT.shape[1], vocab_size, memory_dim),
            **(self.costs[encoder.name] if encoder else {"encoder_parameters": 0, "encode_seconds": 0.0}),
            **(encoder.told(tokens_NT) if encoder else {}),
            "chunks": len(tokens_NT),
            "probe": to_dict(self.config.probe) if probe else None,
            "probe_step": probe.step if probe else None,
            "seed": self.config.seed,
            "data": self.corpus.hash,
            "vocab_size": vocab_size,
            "device": str(self.device),
            "machine": machine(self.device.type),
            "commit": commit(),
        }
        self.results.append(row)
        ui.say(
            f"{row['model']} ({training}, {row['decoder']} decoder): {row['token_accuracy']:.2%} of tokens, "
            f"{row['exact_match']:.1%} of chunks, {row['usable_bits_per_token']:.2f} usable bits a token"
        )
        return row
