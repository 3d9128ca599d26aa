"""The whole measurement: every encoder, its controls, one baseline without memory, one list of results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import sha256_json
from memlm.measure.config import MeasureConfig
from memlm.measure.controls import derangement, origin
from memlm.measure.embeddings import embed, encoding_cost
from memlm.measure.encoders import Encoder
from memlm.measure.probe import Probe, train_floor, train_probe
from memlm.measure.scores import passages, retention_figures, score_chunks, storage_figures
from memlm.measure.texts import GivenTexts
from memlm.nn.vocabulary import END
from memlm.precision import device_of, settle
from memlm.records import to_dict

Array = np.ndarray
Decode = Callable[[Tensor], Tensor]  # memories [B, M] -> logits [B, T, V]; a Probe is a fresh decoder


class Measurement:
    """Measures encoders of one chunk length on one corpus; the floor without memory is trained once.

    Probes learn on one side of the corpus, or of given texts, and are scored on the held-out one; `cache` keeps
    embeddings. UsageError where no document of a side is as long as a chunk.
    """

    def __init__(self, config: MeasureConfig, corpus: Corpus | GivenTexts, chunk_tokens: int, cache: Path):
        settle(device_of(config.device))
        self.config, self.corpus, self.cache = config, corpus, cache
        self.device = device_of(config.device)
        self.train_NT, self.held_NT = corpus.sides(chunk_tokens, config.probe.train_chunks, config.chunks)
        if len(self.held_NT) < 2:
            raise UsageError("there is one held-out chunk, which has no interval: take shorter chunks or more text.")
        rng = np.random.default_rng(config.seed)
        # Random tokens leave the special ones out: no text has them inside a chunk.
        self.random_NT = rng.integers(END + 1, corpus.vocab_size, self.held_NT.shape)
        self.shuffled_N = derangement(len(self.held_NT), rng)
        self.results: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.probes: dict[str, Probe] = {}  # by what the memories depend on that each has learnt to read
        self.twins: set[str] = set()  # architectures whose untrained twin has been measured: one serves them all

        self.nothing = train_floor(config.probe, self.train_NT, corpus.vocab_size, self.device)
        nothing_N1 = np.zeros((len(self.held_NT), 1), np.float32)
        self.floor = score_chunks(self.nothing, nothing_N1, self.held_NT, self.device)
        self.random_floor = score_chunks(self.nothing, nothing_N1, self.random_NT, self.device)
        self._report(None, "none", self.nothing, nothing_N1, sample=True)

    def add(self, encoder: Encoder) -> None:
        """Measure an encoder: its own decoder if it has one, then a fresh one, then the controls.

        UsageError where its chunk length or vocabulary is not this measurement's.
        """
        encoder.check(self.corpus.vocab_size, self.held_NT.shape[1])
        if encoder.decode:
            self._score(encoder, encoder.decode)
        depends_on = sha256_json(encoder.origin)
        if depends_on not in self.probes:
            train_NM, vocab_size = embed(encoder, self.train_NT, self.cache), self.corpus.vocab_size
            args = self.config.probe, train_NM, self.train_NT, vocab_size, self.device, encoder.name, self.nothing
            self.probes[depends_on] = train_probe(*args)
        self._score(encoder, self.probes[depends_on])
        if self.config.controls and encoder.twin and encoder.architecture not in self.twins:
            self.twins.add(encoder.architecture)
            self.add(encoder.twin(self.config.seed))

    def _score(self, encoder: Encoder, decode: Decode) -> None:
        """Score one decoder of an encoder's memories on held-out chunks and on the controls that train nothing."""
        held_NM = embed(encoder, self.held_NT, self.cache)
        self._report(encoder, encoder.training, decode, held_NM, sample=True)
        if self.config.controls and encoder.training != "untrained":
            self._report(encoder, "shuffled", decode, held_NM[self.shuffled_N])
            if encoder.any_tokens:
                self._report(encoder, "random-tokens", decode, embed(encoder, self.random_NT, self.cache))

    def _report(
        self, encoder: Encoder | None, training: str, decode: Decode, memories_NM: Array, sample: bool = False
    ) -> None:
        """Add one row: who, what was scored and how, every figure with its interval, and where it comes from.

        With `sample` some recalled passages are kept beside it.
        """
        probe = decode if isinstance(decode, Probe) else None
        random = training == "random-tokens"
        tokens_NT, floor = (self.random_NT, self.random_floor) if random else (self.held_NT, self.floor)
        scores = score_chunks(decode, memories_NM, tokens_NT, self.device)
        memory_dim, vocab_size = encoder.memory_dim if encoder else 0, self.corpus.vocab_size
        bytes_N = self.corpus.token_bytes[tokens_NT].sum(1)
        texts = self.corpus.tokenizer.decode_batch(tokens_NT.tolist())
        who = {
            "model": encoder.name if encoder else "no memory",
            "training": training,
            "decoder": "fresh" if probe else "own",
        }
        row = {
            **who,
            "encoder": encoder.kind if encoder else "none",
            "chunk_tokens": tokens_NT.shape[1],
            "chunk_chars": round(float(np.mean([len(text) for text in texts])), 1),
            "memory_dim": memory_dim,
            **retention_figures(scores, floor, vocab_size, bytes_N, memory_dim, self.config.seed),
            **storage_figures([text.encode() for text in texts], tokens_NT.shape[1], vocab_size, memory_dim),
            "encoder_parameters": 0,
            "encode_seconds": 0.0,
            **(encoding_cost(encoder, self.held_NT, self.cache) | encoder.told(tokens_NT) if encoder else {}),
            "chunks": len(tokens_NT),
            "probe": to_dict(self.config.probe) if probe else None,
            "probe_step": probe.step if probe else None,
            "vocab_size": vocab_size,
            **origin(self.corpus, self.config.seed, self.device),
        }
        self.results.append(row)
        if sample:
            self.samples.append({**who, "passages": passages(scores, self.held_NT, self.corpus.tokenizer)})
        ui.say(
            f"{row['model']} ({training}, {row['decoder']} decoder): {row['token_accuracy']:.2%} of tokens, "
            f"{row['exact_match']:.1%} of chunks, {row['usable_bits_per_token']:.2f} usable bits a token"
        )
