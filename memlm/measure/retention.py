"""Retention of one chunk length: every encoder, its controls, the floor they are counted from, and budget curves."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache as once
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import sha256_json
from memlm.measure.config import LINEAR, MeasureConfig
from memlm.measure.controls import derangement, origin
from memlm.measure.embeddings import embed, encoding_cost
from memlm.measure.encoders import Encoder
from memlm.measure.families import fit_families
from memlm.measure.intervals import units_of
from memlm.measure.probe import Lesson, Probe, lesson
from memlm.measure.scores import ChunkScores, passages, retention_figures, score_chunks, storage_figures
from memlm.measure.texts import GivenTexts
from memlm.nn.vocabulary import END
from memlm.precision import device_of, exact, settle
from memlm.records import to_dict

Array = np.ndarray
Decode = Callable[[Tensor], Tensor]  # memories [B, M] -> logits [B, T, V]
USABLE = "usable_bits_per_token"
_CURVE = (USABLE, "token_accuracy", "cross_entropy")  # figures of a point of a budget curve


class Fitted(NamedTuple):
    """What was fitted to one encoder's memories."""

    probes: list[Probe]  # of the family that tells the kept chunks of the largest budget best, one a seed
    scores: list[ChunkScores]  # what these tell of the chunks that are scored
    told: dict[str, Any]  # what its row says of the families and budgets
    curve: list[dict[str, Any]]  # a row for each family and budget


class Measurement:
    """Measures encoders of one chunk length on one corpus, or on given texts; floors are counted once.

    Probes learn on train and are scored on `config.part`; `cache` keeps embeddings. UsageError where no document of a
    part is as long as a chunk.
    """

    def __init__(self, config: MeasureConfig, corpus: Corpus | GivenTexts, chunk_tokens: int, cache: Path):
        settle(device_of(config.device))
        self.config, self.corpus, self.cache = config, corpus, cache
        self.device = device_of(config.device)
        self.learnt = corpus.sample("train", chunk_tokens, max(config.probe.train_chunks))
        self.held_NT, document_N = corpus.chunks(config.part, chunk_tokens, config.chunks)
        if len(self.held_NT) < 2 or len(self.learnt.tokens) < 4:
            raise UsageError(
                f"there are {len(self.learnt.tokens)} chunks to learn from and {len(self.held_NT)} to score, too few: "
                "take shorter chunks or more text."
            )
        self.unit_N = units_of(document_N)
        self.budgets = sorted({max(4, min(n, len(self.learnt.tokens))) for n in config.probe.train_chunks})
        rng = np.random.default_rng(config.seed)
        # Random tokens leave the special ones out: no text has them inside a chunk.
        self.random_NT = rng.integers(END + 1, corpus.vocab_size, self.held_NT.shape)
        self.shuffled_N = derangement(len(self.held_NT), rng)
        self.results: list[dict[str, Any]] = []
        self.curves: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.measured: list[Encoder] = []  # twins too
        self.fitted: dict[str, Fitted] = {}  # by what the memories depend on
        self.twins: set[str] = set()  # architectures whose untrained twin has been measured: one serves them all
        self.lessons = once(self._lessons)
        self.floors = once(self._floors)
        self._report(None, "none", self.floors(self.budgets[-1]), fresh=True, sample=True)

    def add(self, encoder: Encoder) -> None:
        """Measure an encoder: its own decoder if it has one, then fresh ones, then the controls.

        UsageError where its chunk length or vocabulary is not this measurement's.
        """
        encoder.check(self.corpus.vocab_size, self.held_NT.shape[1])
        held_NM = embed(encoder, self.held_NT, self.cache)  # once: whoever brought a function may pay for its calls
        if encoder.decode:
            own = [score_chunks(encoder.decode, held_NM, self.held_NT, self.device)]
            self._score(encoder, [encoder.decode], own, held_NM)
        depends_on = sha256_json(encoder.origin)
        if depends_on not in self.fitted:
            self.fitted[depends_on] = self._fit(encoder, held_NM)
        fitted = self.fitted[depends_on]
        self.measured.append(encoder)
        self.curves += [{"model": encoder.name, "training": encoder.training, **row} for row in fitted.curve]
        self._score(encoder, fitted.probes, fitted.scores, held_NM, fitted.told)
        if self.config.controls and encoder.twin and encoder.architecture not in self.twins:
            self.twins.add(encoder.architecture)
            self.add(encoder.twin(self.config.seed))

    def _fit(self, encoder: Encoder, held_NM: Array) -> Fitted:
        """Every family: the closed form at every budget, others at the two largest, more seeds at the last."""
        probe, most = self.config.probe, self.budgets[-1]
        learnt_NM = embed(encoder, self.learnt.tokens, self.cache)
        curve: list[dict[str, Any]] = []
        best: dict[str, tuple[list[Probe], list[ChunkScores]]] = {}
        for budget in self.budgets:
            families = [one for one in probe.families if one == LINEAR or budget in self.budgets[-2:]]
            if not families:
                continue
            with exact(self.device):
                fitted = [
                    fit_families(learnt_NM[:budget], one, self.device, probe, encoder.name, families)
                    for one in self.lessons(budget)
                ]
            for family in families:
                probes = [by_family[family] for by_family in fitted]
                with exact(self.device):
                    scores = [score_chunks(one, held_NM, self.held_NT, self.device) for one in probes]
                curve.append(self._point(encoder, family, budget, probes, scores))
                if budget == most:
                    best[family] = probes, scores
        last = {row["family"]: row for row in curve if row["train_chunks"] == most}
        chosen = min(last, key=lambda family: last[family]["kept_cross_entropy"])
        told = {
            "family": chosen,
            "train_chunks": most,
            "probe_seeds": last[chosen]["probe_seeds"],
            "families": {name: {key: row[key] for key in (USABLE, f"{USABLE}_ci")} for name, row in last.items()},
            "learnt": last[chosen][f"{USABLE}_ci"][0] > 0,
            "last_doubling": last_doubling([row for row in curve if row["family"] == chosen]),
        }
        return Fitted(*best[chosen], told, curve)

    def _point(
        self, encoder: Encoder, family: str, budget: int, probes: list[Probe], scores: list[ChunkScores]
    ) -> dict[str, Any]:
        """The row of a family at a budget."""
        figures = self.figures(scores, self.floors(budget), self.held_NT, encoder.memory_dim)
        tokens = self.held_NT.shape[1]
        return {
            "chunk_tokens": tokens,
            "family": family,
            "train_chunks": budget,
            "probe_seeds": len(probes),
            **{key: figures[key] for name in _CURVE for key in (name, f"{name}_ci")},
            "kept_cross_entropy": float(np.mean([one.kept_nats for one in probes])) / tokens,
            "trust": [round(float(one.trust_T.mean()), 4) for one in probes],
            **origin(self.corpus, self.config.part, self.config.seed, self.device),
        }

    def _score(
        self,
        encoder: Encoder,
        decoders: Sequence[Decode],
        scores: list[ChunkScores],
        held_NM: Array,
        told: dict[str, Any] | None = None,
    ) -> None:
        """Report what decoders of an encoder's memories were scored, and score the controls that train nothing."""
        self._report(encoder, encoder.training, scores, told, fresh=told is not None, sample=True)
        if not self.config.controls or encoder.training == "untrained":
            return
        about = {key: told[key] for key in ("family", "train_chunks", "probe_seeds")} if told else None
        controls = {"shuffled": (held_NM[self.shuffled_N], self.held_NT)}
        if encoder.any_tokens:
            controls["random-tokens"] = embed(encoder, self.random_NT, self.cache), self.random_NT
        for training, (memories_NM, tokens_NT) in controls.items():
            with exact(self.device) if told else nullcontext():  # as what they are compared with
                found = [score_chunks(decode, memories_NM, tokens_NT, self.device) for decode in decoders]
            self._report(encoder, training, found, about, fresh=told is not None)

    def _report(
        self,
        encoder: Encoder | None,
        training: str,
        scores: list[ChunkScores],
        told: dict[str, Any] | None = None,
        *,
        fresh: bool,
        sample: bool = False,
    ) -> None:
        """Add one row: who, what was scored and how, every figure with its interval, and where it comes from.

        With `sample` some recalled passages are kept beside it.
        """
        random = training == "random-tokens"
        tokens_NT = self.random_NT if random else self.held_NT
        floors = self.floors(self.budgets[-1], random)
        memory_dim, vocab_size = encoder.memory_dim if encoder else 0, self.corpus.vocab_size
        texts = self.corpus.tokenizer.decode_batch(tokens_NT.tolist())
        who = {
            "model": encoder.name if encoder else "no memory",
            "training": training,
            "decoder": "fresh" if fresh else "own",
        }
        row = {
            **who,
            "encoder": encoder.kind if encoder else "none",
            "chunk_tokens": tokens_NT.shape[1],
            "chunk_chars": round(float(np.mean([len(text) for text in texts])), 1),
            "memory_dim": memory_dim,
            **self.figures(scores, floors, tokens_NT, memory_dim),
            **storage_figures([text.encode() for text in texts], tokens_NT.shape[1], vocab_size, memory_dim),
            "encoder_parameters": 0,
            "encode_seconds": 0.0,
            **(encoding_cost(encoder, self.held_NT, self.cache) | encoder.told(tokens_NT) if encoder else {}),
            **(told or {}),
            "chunks": len(tokens_NT),
            "probe": to_dict(self.config.probe) if fresh else None,
            "vocab_size": vocab_size,
            **origin(self.corpus, self.config.part, self.config.seed, self.device),
        }
        self.results.append(row)
        if sample:
            self.samples.append({**who, "passages": passages(scores[0], self.held_NT, self.corpus.tokenizer)})
        ui.say(
            f"{row['model']} ({training}, {row['decoder']} decoder): {row['token_accuracy']:.2%} of tokens, "
            f"{row['exact_match']:.1%} of chunks, {row[USABLE]:.2f} usable bits a token"
        )

    def figures(
        self, scores: list[ChunkScores], floors: list[ChunkScores], tokens_NT: Array, memory_dim: int
    ) -> dict[str, Any]:
        """Every figure of what decoders told of chunks, beside what is told without a memory."""
        bytes_N = self.corpus.token_bytes[tokens_NT].sum(1)
        floors = floors[: len(scores)]  # a model's own decoder has no seeds: it stands beside the first one's
        vocab_size, seed = self.corpus.vocab_size, self.config.seed
        return retention_figures(scores, floors, vocab_size, bytes_N, memory_dim, self.unit_N, seed)

    def _lessons(self, budget: int) -> list[Lesson]:
        """What probes of a budget learn from, by seed."""
        tokens_NT, document_N = (of[:budget] for of in self.learnt)
        seeds = self.config.probe.seeds if budget == self.budgets[-1] else 1
        first = self.config.probe.seed
        return [lesson(tokens_NT, document_N, self.corpus.vocab_size, seed) for seed in range(first, first + seeds)]

    def _floors(self, budget: int, random: bool = False) -> list[ChunkScores]:
        """What is told without a memory of the chunks that are scored, by seed."""
        tokens_NT, nothing = self.random_NT if random else self.held_NT, np.zeros((1, 1), np.float32)
        floors = [Probe(nothing, one.known_TV).to(self.device) for one in self.lessons(budget)]
        nothing_N1 = nothing.repeat(len(tokens_NT), 0)
        return [score_chunks(floor, nothing_N1, tokens_NT, self.device) for floor in floors]


def last_doubling(curve: list[dict[str, Any]]) -> float | None:
    """Which share of its usable bits the last doubling of the budget brought; None of one budget, or of no bits."""
    rows = sorted(curve, key=lambda row: row["train_chunks"])[-2:]
    if len(rows) < 2 or rows[1][USABLE] <= 0:
        return None
    doublings = float(np.log2(rows[1]["train_chunks"] / rows[0]["train_chunks"]))
    return (rows[1][USABLE] - rows[0][USABLE]) / doublings / rows[1][USABLE]
