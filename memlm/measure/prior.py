"""What a vector adds to what a language model would guess.

Usable bits beyond frequencies (retention.py) are told place by place, as if no other token were known: what neighbours
say of one another counts for each of them. Here every token is told from the vector and the true tokens before it, so
that the sum over places is, by the chain rule, what the vector tells of the text as a whole to a reader who knows the
language as well as the prior does.

    prior   a frozen causal model of ours: hidden states, and logits, from the tokens before
    floor   the prior's logits and, times the trust of each place, what is learnt of hidden states alone on the probe's
            chunks: what more training makes of the prior is not the vector's
    probe   the floor's logits and, times the trust, what a view of the vector for each place (bridge `slots`) and a
            linear map of the hidden state give: -> one pointwise block -> head, which begins at zero

A lower bound, as there: for this prior, probe and budget. A probe reads vectors with their chunk's ids behind them.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from memlm import ui
from memlm.errors import UsageError
from memlm.loading import load_model
from memlm.measure.config import DECODERS, DecoderConfig
from memlm.measure.controls import origin
from memlm.measure.embeddings import embed
from memlm.measure.encoders import Encoder
from memlm.measure.retention import USABLE, Decode, Measurement
from memlm.measure.scores import ChunkScores, score_chunks
from memlm.measure.trained_probe import Beside, TrainedProbe, fit_trained
from memlm.models.causal import CausalLM
from memlm.models.shapes import CausalShape
from memlm.precision import exact

Array = np.ndarray
FAMILY = "slots"  # whose decoder reads vectors here


def open_prior(path: Path, vocab_size: int, tokens: int) -> CausalLM:
    """A causal run of ours, frozen, for chunks of so many tokens.

    Raises:
        UsageError: it is another kind of model, of another vocabulary, or reads less.
    """
    model = load_model(path).requires_grad_(False)
    if (kind := model.config.read_shape().kind) != CausalShape.kind:
        raise UsageError(f"{path} is of the kind {kind}: a prior is a causal run (memlm train causal-transformer).")
    if model.config.vocab_size != vocab_size:
        raise UsageError(f"{path} knows {model.config.vocab_size} tokens, the data has {vocab_size}: name another run.")
    if tokens > model.chunk_tokens + 1:
        raise UsageError(f"{path} reads {model.chunk_tokens + 1} tokens and chunks have {tokens}: name a longer one.")
    return cast(CausalLM, model.eval())


class PriorProbe(TrainedProbe):
    """Vectors and ids [B, M + T] -> logits [B, T, V], on top of a floor's; without one it is to be one.

    No token is told from itself.
    """

    def __init__(
        self, prior: CausalLM, floor: "PriorProbe | None", decoder: DecoderConfig, read_NX: Array, known_TV: Tensor
    ):
        super().__init__(decoder, read_NX[:, : -len(known_TV)], known_TV)
        self._beside = prior, floor  # in a tuple: not parts of the probe, which would be trained and kept
        self.of_states = nn.Linear(prior.head.in_features, decoder.stack.width, bias=False)

    def beside(self, memory_BM: Tensor) -> Beside:
        """As of `TrainedProbe`, of vectors with ids behind them."""
        ids_BT = memory_BM[:, len(self.mean_M) :]
        prior, floor = self._beside
        with torch.no_grad():
            h_BTW = prior.states(ids_BT.long())
            known_BTV = prior.head(h_BTW)
            if floor is not None:
                nothing_BX = torch.cat([torch.zeros_like(memory_BM[:, :1]), ids_BT], 1)
                said_BTV = floor.head(floor.states(nothing_BX, Beside(known_BTV, read_BTW=h_BTW)))
                known_BTV = torch.addcmul(known_BTV, floor.trust_T[:, None], said_BTV)
        return Beside(known_BTV, read_BTW=h_BTW)

    def states(self, memory_BM: Tensor, beside: Beside) -> Tensor:
        """As of `TrainedProbe`; hidden states of the prior are read too."""
        vectors_BM = self.standardised(memory_BM[:, : len(self.mean_M)])
        return self.decoder(self.bridge(vectors_BM) + self.of_states(beside.read_BTW))


def given_before(name: str, prior: CausalLM, beside: Measurement) -> list[dict[str, Any]]:
    """Rows of all encoders that were measured, twins too: of the same chunks, at the largest budget."""
    made = _GivenBefore(name, prior, beside)
    for encoder in beside.measured:
        made.add(encoder)
    return made.rows


class _GivenBefore:
    """Rows of one chunk length; what is told without a vector is learnt once."""

    def __init__(self, name: str, prior: CausalLM, beside: Measurement):
        torch.nn.Module.to(prior, beside.device)
        self.name, self.prior, self.beside = name, prior, beside
        self.rows: list[dict[str, Any]] = []
        self.floor: list[PriorProbe] = self._fit(None, "no memory")  # by seed
        self.floors = self._scores(self.floor, None)
        self.alone = float(self._scores([self._alone], None)[0].nats_N.mean()) / beside.held_NT.shape[1]
        self._report({"model": "no memory", "training": "none", "memory_dim": 0}, self.floors)

    def add(self, encoder: Encoder) -> None:
        """Measure an encoder, and, as a control, the same probes on vectors of other chunks."""
        held_NM = embed(encoder, self.beside.held_NT, self.beside.cache)
        probes = self._fit(embed(encoder, self.beside.learnt.tokens, self.beside.cache), encoder.name)
        who = {"model": encoder.name, "training": encoder.training, "memory_dim": encoder.memory_dim}
        self._report(who, self._scores(probes, held_NM))
        if self.beside.config.controls and encoder.training != "untrained":
            shuffled = self._scores(probes, held_NM[self.beside.shuffled_N])
            self._report({**who, "training": "shuffled"}, shuffled)

    def _fit(self, learnt_NM: Array | None, name: str) -> list[Any]:
        """A probe for each seed, on top of that seed's floor; without vectors these floors."""
        beside = self.beside
        read_NX, lessons = _read(learnt_NM, beside.learnt.tokens), beside.lessons(beside.budgets[-1])
        floors = [None] * len(lessons) if learnt_NM is None else self.floor
        told = beside.device, DECODERS[FAMILY], beside.config.probe, f"{name}, after {self.name}"
        with exact(beside.device):
            return [
                fit_trained(read_NX, one, *told, partial(PriorProbe, self.prior, floor))
                for one, floor in zip(lessons, floors, strict=True)
            ]

    def _scores(self, probes: Sequence[Decode], held_NM: Array | None) -> list[ChunkScores]:
        beside = self.beside
        read_NX = _read(held_NM, beside.held_NT)
        with exact(beside.device):
            return [score_chunks(one, read_NX, beside.held_NT, beside.device) for one in probes]

    def _alone(self, read_BX: Tensor) -> Tensor:
        """The prior's own logits."""
        ids_BT = read_BX[:, -self.beside.held_NT.shape[1] :].long()
        return self.prior.head(self.prior.states(ids_BT))

    def _report(self, who: dict[str, Any], scores: list[ChunkScores]) -> None:
        beside = self.beside
        row = {
            **who,
            "decoder": "fresh",
            "prior": self.name,
            "family": FAMILY,
            "chunk_tokens": beside.held_NT.shape[1],
            **beside.figures(scores, self.floors, beside.held_NT, who["memory_dim"]),
            "prior_cross_entropy": self.alone,
            "train_chunks": beside.budgets[-1],
            "probe_seeds": len(scores),
            "chunks": len(beside.held_NT),
            **origin(beside.corpus, beside.config.part, beside.config.seed, beside.device),
        }
        self.rows.append(row)
        ui.say(f"{row['model']} ({row['training']}), after {self.name}: {row[USABLE]:.2f} usable bits a token")


def _read(memories_NM: Array | None, tokens_NT: Array) -> Array:
    """Vectors, or none (a number that is always 0), with ids behind them: fp32 [N, M + T], which holds ids exactly."""
    memories_NM = np.zeros((len(tokens_NT), 1), np.float32) if memories_NM is None else memories_NM
    return np.concatenate([memories_NM, tokens_NT], 1, dtype=np.float32, casting="unsafe")
