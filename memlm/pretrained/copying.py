"""A causal language model of others over remembered text: finds passages, reads the best few, copies what followed.

    open   a passage and the one after it score, over the last `segment` words of the text, the sum of
           log(places / places after the same word) * max(0, q.k) of their best place after that word, in the second
           one by half; the best `opened` stand before the text, as the base's own words. Needs no training
    copy   the head of readers/pointer.py over the same keys mixes what followed the last words into the prediction
    lora   where words are opened, and nowhere else, low-rank matrices in the upper layers may add to what these give,
           times tanh of a gate that is 0 before training: one of opened words, one of the text (train/opened.py)
    none   a place counts only if one of the `WORDS` words before it agrees: where no opened passage has one, what comes
           out are the language model's own logits, to the bit

The language model stays as it is. Its words in memory are those that any memories recall, tokenised again, so that one
bank serves every model; the control is the text's own tokens in their place (`memlm encode --lossless`, or `Passages`).
Kin: pointer sentinels (arXiv 1609.07843), kNN-LM (1911.00172), late interaction for scoring (ColBERT, 2004.12832).

Suffixes as in readers/pointer.py; ids are ours (pretrained/transplant.py).
"""

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.decoding.cached import Decoding, Prompt
from memlm.errors import UsageError
from memlm.models.model import Generative, Given, Predicted
from memlm.nn.vocabulary import PAD
from memlm.pretrained.adapter import Adapter
from memlm.pretrained.base import Tokens, logits
from memlm.pretrained.over import OverBase
from memlm.pretrained.shapes import CopyingShape
from memlm.pretrained.transplant import SHIFT
from memlm.readers.filed import PlaceIndex
from memlm.readers.finding import FAR
from memlm.readers.pointer import Pointer, WordsAt, words_of
from memlm.readers.reader import Kept, Queries, Sizes, logp_of, recent_tokens
from memlm.readers.scores import Scores
from memlm.readers.shares import WORDS, Opened

SMALL = 0.02  # standard deviation of the adapter's second matrices before training
RISE = 10.0  # at one rate gates learn as many times faster than matrices
NEXT = 0.5  # of a place in the passage after one: what follows the place shall be read as well


class CopyHead(Pointer):
    """The reader `pointer` of words alone, which counts no place without a word that agrees.

    Of the base it is told probabilities and no hidden state: by that it learnt in what text to copy, not when (LOG.md).
    """

    answers = False

    def _recalled_by(self, sizes: Sizes, vocab_size: int) -> Any:
        return None

    def _opened(
        self, recent_BQn: Tensor, words_at: WordsAt, kept: Kept, queries: Queries, index: PlaceIndex | None
    ) -> tuple[Opened, Scores | None]:
        opened, scores = super()._opened(recent_BQn, words_at, kept, queries, index)
        near_BQJ = opened.near_BQJ.masked_fill(opened.agree_BQJ % 2**WORDS == 0, FAR)
        return replace(opened, near_BQJ=near_BQJ), scores

    def _shares(
        self, h_BQW: Tensor, recent_BQn: Tensor, opened: Opened, logp_BQV: Tensor, queries: Queries
    ) -> tuple[Tensor, Tensor]:
        return super()._shares(_ones(h_BQW), recent_BQn, opened, logp_BQV, queries)

    def nats(self, logp_BQV: Tensor, h_BQW: Tensor, kept: Kept, queries: Queries, labels_BQ: Tensor) -> Tensor:
        """-log p of labels by the mixture, and in training the lesson of the keys: [B, Q]. No more is computed."""
        at = words_of(kept)
        recent_BQn = self._recent(at, kept[0].shape[2], queries)
        opened, scores = self._opened(recent_BQn, at, kept, queries, None)
        nothing_BQ, share_BQHJ = self._shares(h_BQW, recent_BQn, opened, logp_BQV, queries)
        copied_BQJ = share_BQHJ.logsumexp(2).masked_fill(opened.words_BQJ != labels_BQ[..., None], -math.inf)
        copied_BQ = F.pad(copied_BQJ, (0, 1), value=-60.0).logsumexp(-1)
        own_BQ = logp_BQV.gather(-1, labels_BQ[..., None])[..., 0]
        nats_BQ = -torch.logaddexp(nothing_BQ + own_BQ, copied_BQ)
        if scores is None:
            return nats_BQ
        keys_BQ = scores.lesson(self.lesson_gate, self.sharpness(), logp_BQV, _ones(h_BQW), labels_BQ)
        return nats_BQ + keys_BQ + self._expected(kept)

    @torch.no_grad()
    def passages(self, index: PlaceIndex, ids_N: Tensor, many: int, segment: int) -> list[int]:
        """The numbers of the passages that a text's last `segment` words point to; each stands for the next one too."""
        K, T = index.words_KT.shape
        recent_Nn = F.pad(ids_N.cpu(), (WORDS, 0)).unfold(0, WORDS, 1)[1:].flip(-1)[-segment:]
        query_Nd = self._query_of(recent_Nn[None].to(self.embed.weight.device))[0] / self.sharpness()
        score_K = torch.zeros(K)
        for word, query_d in zip(recent_Nn[:, 0].tolist(), query_Nd.cpu(), strict=True):
            place_n, near_n = index.after(word, query_d)
            if word != PAD and len(place_n):
                best_K = torch.zeros(K).scatter_reduce_(0, place_n.long() // T, near_n.clamp(min=0), "amax")
                rare = math.log(len(index.place_P) / len(place_n))
                score_K += rare * torch.maximum(best_K, NEXT * F.pad(best_K, (0, 1))[1:])
        return apart(score_K, many)


def _ones(h_BQW: Tensor) -> Tensor:
    """In the place of hidden states."""
    return torch.ones_like(h_BQW[..., :1])


def apart(score_K: Tensor, many: int) -> list[int]:
    """The numbers of the best passages, two of which never touch; of equal ones the later."""
    found: list[int] = []
    for number in reversed(score_K.argsort(stable=True).tolist()):
        if len(found) == many or score_K[number] <= 0:
            break
        if all(abs(number - one) > 1 for one in found):
            found.append(number)
    return found


class Copying(OverBase, Generative, shape=CopyingShape):  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """The language model, and what finds and copies beside it; untrained (`copies` is false) it only reads passages."""

    base_part = "lm"
    reads_chunks = reads_earlier = False
    reads_text = True
    reader_name = "passages"

    def build(self, shape: CopyingShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        super().build(shape, vocab_size)
        self.shape, self.lm = shape, self.base.lm
        if shape.lora_rank:
            self.adapter = Adapter(self.lm, shape.lora_rank, upper=shape.lora_layers)
            self.gate = nn.Parameter(torch.zeros(2))  # over RISE, of opened words and of the text
            for layer in self.lora():
                nn.init.normal_(layer.weight, std=SMALL)  # what a gate at 0 multiplies must not be 0 as well
        self.embed = Tokens(self.base).requires_grad_(False)
        self.reader = CopyHead(shape.reader, Sizes(shape.passage, 0, 1, 0, self.embed))

    @property
    def copies(self) -> bool:
        """Whether its head was trained."""
        return self.config.trained_chunks is not None

    @property
    def reads_given_memories(self) -> bool:
        """As of `TextMemory`: words [B, K, T] of passages."""
        return True

    def most_tokens(self, memories: int = 0) -> int | None:
        """As of `Generative`: what the base has positions for, less what is opened."""
        most = self.base.most_tokens
        return None if most is None else most - 1 - 2 * self.shape.opened * self.shape.passage

    def states(self, ids_BN: Tensor, past: Any = None, opened_B: Tensor | None = None) -> tuple[Tensor, Any]:
        """Hidden states [B, N, W] after each of these tokens, and the base's cache.

        So many words [B] after what begins a text are opened ones: of these tokens, or already in the cache.
        """
        gate = nullcontext() if self.adapter is None else self.adapter.gated(self._gate(ids_BN, past, opened_B))
        with gate:
            out = self.lm.base_model(input_ids=self.base.own(ids_BN), past_key_values=past, use_cache=True)
        return out.last_hidden_state, out.past_key_values

    def _gate(self, ids_BN: Tensor, past: Any, opened_B: Tensor | None) -> Tensor | float:
        """What the adapter counts at each of these tokens [B, N, 1]: nothing where nothing is opened."""
        if opened_B is None or not opened_B.any():
            return 0.0
        place_N = torch.arange(ids_BN.shape[1], device=ids_BN.device) + (0 if past is None else past.get_seq_length())
        opened_B1 = opened_B[:, None].to(ids_BN.device)
        words, text = self.gates()
        gate_BN = torch.where(place_N <= opened_B1, words, text)
        return gate_BN.masked_fill((place_N == 0) | (opened_B1 == 0), 0.0)[..., None]

    def gates(self) -> Tensor:
        """What the adapter counts at opened words, and at those after them [2]."""
        return (RISE * self.gate).tanh()

    def lora(self) -> list[nn.Linear]:
        """The second matrix of each layer's adapter."""
        return [m for name, m in self.lm.named_modules() if ".lora_B." in name and isinstance(m, nn.Linear)]

    def told(self, h_BQW: Tensor) -> Tensor:
        """The base's logits over our ids [B, Q, V]."""
        return self.base.ours(logits(self.base.lm, h_BQW))

    def begun(self, ids_BN: Tensor) -> Tensor:
        """What begins a text, before it."""
        return F.pad(ids_BN, (1, 0), value=self.base.begin + SHIFT)

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: the base, with what the head copies of words [B, K, T]; nothing is opened before."""
        ids_BN, words_BKT = given.ids_BN, given.memory_BKM
        h_BNW = self.states(self.begun(ids_BN)[:, :-1])[0]
        logits_BNV = self.told(h_BNW)
        if words_BKT is None or not given.read or not self.copies:
            return Predicted(logits_BNV)
        queries = queries_of(ids_BN, words_BKT.shape[1], logp_of(logits_BNV, ids_BN))
        mixed = self.reader.mix(logits_BNV, h_BNW, self.reader.keep_words(words_BKT), queries)
        return Predicted(mixed.logits, None, None, mixed.opened, mixed.shares)

    def decoding(self, prompt: Prompt) -> "CopyDecoding":
        """As of `Generative`."""
        return CopyDecoding(self, prompt)


def queries_of(ids_BN: Tensor, passages: int, logp_BN: Tensor) -> Queries:
    """Of every token of texts that stand after so many passages, whose log-probabilities the base told."""
    place_1N = torch.arange(ids_BN.shape[1], device=ids_BN.device)[None]
    recent_BNn, told_BNn = (recent_tokens(x[:, None], CopyHead.recent)[:, 0] for x in (ids_BN, logp_BN))
    return Queries(torch.full_like(place_1N, passages), place_1N, recent_BNn, logp=told_BNn)


class CopyDecoding(Decoding):
    """Texts that go on, each with the base's own cache; the passages before one are chosen anew for every segment."""

    @torch.inference_mode()
    def __init__(self, model: Copying, prompt: Prompt):
        if prompt.memories is not None and prompt.index is None:
            raise UsageError("this model reads a bank: give it one, not single memories.")
        self.rows = [_Row(model, ids[:n], prompt.index) for ids, n in zip(prompt.ids, prompt.lengths, strict=True)]
        self._gather()

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """As of `Decoding`."""
        for row, token in zip(self.rows, tokens_B, strict=True):
            row.step(token)
        self._gather()
        return self.logits

    def _gather(self) -> None:
        self.logits = torch.cat([row.logits_1V for row in self.rows])
        if all(row.opened is not None for row in self.rows):
            numbers, shares = zip(*(cast(Any, row.opened) for row in self.rows), strict=True)
            self.opened = torch.cat(numbers), torch.cat(shares)

    @property
    def nbytes(self) -> int:
        """As of `Decoding`; with the index."""
        return sum(row.nbytes for row in self.rows)


class _Row:
    """One text."""

    logits_1V: Tensor
    opened: tuple[Tensor, Tensor] | None = None

    def __init__(self, model: Copying, ids_N: Tensor, index: PlaceIndex | None):
        self.model, self.ids_N, self.index = model, ids_N, index
        self.logp_n = torch.zeros(0, device=ids_N.device)  # of the last words, the newest last
        if index is not None:
            none_10T, *last = (t.to(ids_N.device) for t in (index.words_KT[None, :0].long(), *index.last))
            self.kept = model.reader.keep_words(none_10T, tuple(last))
        self._read_all()

    def _read_all(self) -> None:
        """Choose passages, and read them and the text."""
        model, index, ids_N = self.model, self.index, self.ids_N
        before_P = ids_N[:0]
        if index is not None and model.shape.opened:
            numbers = model.reader.passages(index, ids_N, model.shape.opened, model.shape.segment)
            before_P = opened_words(index.words_KT, numbers).to(ids_N)
        self.since, self.opened_1 = 0, torch.tensor([len(before_P)])
        h_1NW, self.past = model.states(model.begun(torch.cat([before_P, ids_N])[None]), None, self.opened_1)
        told_nV = model.told(h_1NW[0, -WORDS - 1 :])
        last_n = ids_N[-WORDS:]
        if len(last_n):
            self.logp_n = logp_of(told_nV[-len(last_n) - 1 : -1], last_n)
        self._predict(h_1NW[:, -1:], told_nV[None, -1:])

    def step(self, token: Tensor) -> None:
        """Read one more token."""
        self.logp_n = torch.cat([self.logp_n, logp_of(self.alone_1V, token[None])])[-WORDS:]
        self.ids_N = torch.cat([self.ids_N, token[None]])
        self.since += 1
        if self.since == self.model.shape.segment and self.index is not None and self.model.shape.opened:
            self._read_all()
            return
        h_11W, self.past = self.model.states(token[None, None], self.past, self.opened_1)
        self._predict(h_11W, self.model.told(h_11W))

    def _predict(self, h_11W: Tensor, logits_11V: Tensor) -> None:
        self.alone_1V = self.logits_1V = logits_11V[:, 0]
        if self.index is None or not self.model.copies:
            return
        n, device = CopyHead.recent, h_11W.device
        recent_n, logp_n = (x.flip(0)[:n] for x in (self.ids_N, self.logp_n))
        recent_n, logp_n = (F.pad(x, (0, n - len(x)))[None, None] for x in (recent_n, logp_n))
        at = torch.tensor([[len(self.index)], [len(self.ids_N)]], device=device)
        mixed = self.model.reader.mix(
            logits_11V, h_11W, self.kept, Queries(at[:1], at[1:], recent_n, logp=logp_n), self.index
        )
        self.logits_1V = mixed.logits[:, 0]
        if mixed.opened is not None and mixed.shares is not None:
            self.opened = mixed.opened[:, 0], mixed.shares[:, 0]

    @property
    def nbytes(self) -> int:
        """Of the base's cache, and of the index."""
        layers = sum(layer.keys.nbytes + layer.values.nbytes for layer in self.past.layers)
        return layers + (0 if self.index is None else self.index.nbytes)


def opened_words(words_KT: Tensor, numbers: list[int]) -> Tensor:
    """The words of passages, each with the next one, in the order of the text."""
    both = sorted({n for number in numbers for n in (number, number + 1) if n < len(words_KT)})
    words_P = words_KT[both].flatten().long()
    return words_P[words_P != PAD]


def in_passages(ids_N: Tensor, passage: int) -> Tensor:
    """A text's tokens as passages [K, T], the last one padded."""
    return F.pad(ids_N, (0, -len(ids_N) % passage), value=PAD).view(-1, passage)
