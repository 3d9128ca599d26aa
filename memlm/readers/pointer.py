"""Ours for long contexts: finds memories by the words before a place, and copies the words that followed.

    read   the decoder reads the words of the newest memories before the tokens of a chunk, as if they were its text
    words  w_p = what a memory recalls at its place p; the words before p go on into the memory before it
    key    k_p = norm(A [e(w_p-1) ... e(w_p-4)])
    query  q   = norm(B [e(w_1) ... e(w_4)]), w_i the i-th word before the prediction: of words alone
    find   memory m scores max_p s q.k_p + 5 [w_p-2 = w_2] over its places p with w_p-1 = w_1; opened are the newest
           `LAST`, the best by this query, `near` of these among the newest 256, and some of the best by the queries of
           one and two words ago, one and two places on (one changed word hides its own look alone); s is a learned
           scale
    share  of what is open, and of nothing: readers/shares.py
    order  a marked chunk (models/chunk_model.py) asks for the text from its beginning: open is also the place as far
           from there as the prediction is from the mark
    mix    p = (share of nothing) p_LM + the shares of places, summed by word: one softmax over nothing and the heads

Nothing of the language model is touched, so that it can be trained alone and stay frozen. What each part is worth, and
what was left out: LOG.md. Kin: pointer sentinels (arXiv 1609.07843), continuous caches (1612.04426), kNN-LM
(1911.00172).

Suffixes beside those of reader.py: P = K T places, n words before one (the nearest first), d numbers of a key, k opened
memories, J = k T opened places, H heads.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.readers.asked import mix_asked
from memlm.readers.config import PointerReader
from memlm.readers.filed import PlaceIndex, Tail, looked, open_indexed
from memlm.readers.finding import FAR, LOOKS, open_all, places, taken
from memlm.readers.reader import Kept, Mixed, Queries, Sizes
from memlm.readers.scores import EXACT, GRADED, Scores, sample, with_sample
from memlm.readers.shares import MATCH, WORDS, Opened, Shares

INDEXED = 2**14  # places of a sequence from which on they are put into lists
SCORES = 2**25  # of places at a time while evaluating: what bounds memory

WordsAt = Callable[[Tensor], Tensor]  # places [B, ...] -> the words that stand there


class Pointer(Shares):
    """keep: words and keys of every place. mix: what is opened, copied. See the file's head."""

    recent = max(MATCH, WORDS + LOOKS - 1)
    told_logp = files = True

    def __init__(self, config: PointerReader, sizes: Sizes):
        super().__init__(config, sizes)
        words = cast(nn.Embedding, sizes.words)
        V, W, D = words.num_embeddings, sizes.width, config.word_dim
        self.top, self.near, self.window = config.top, config.near, config.window
        self.vectors = sizes.chunk_tokens if config.window else 0
        self._words = (words,)  # in a tuple: not a part of the reader, which would be saved twice
        self.text = self._recalled_by(sizes, V)
        self.embed = nn.Embedding(V, D)
        self.key = nn.Linear(WORDS * D, config.key_dim, bias=False)
        self.query = nn.Linear(WORDS * D, config.key_dim, bias=False)
        self.make_shares(config, W, V)
        self.lesson_gate = nn.Linear(W + 2, 1)
        self._begin()
        self.make_surprise(config, V)

    def _recalled_by(self, sizes: Sizes, vocab_size: int) -> ChunkDecoder:
        """What tells the words of memories."""
        config = cast(PointerReader, self.config)
        return ChunkDecoder(sizes.chunk_tokens, sizes.memory_dim, config.bridge, config.unroll, vocab_size)

    @property
    def recalling(self) -> ChunkDecoder:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The autoencoder's decoder."""
        return self.text

    @torch.no_grad()
    def _begin(self) -> None:
        """Queries as keys, and nearer words count more."""
        D = self.embed.embedding_dim
        nn.init.normal_(self.embed.weight)
        for i in range(WORDS):
            self.key.weight[:, i * D : (i + 1) * D] *= 0.7**i
        self.query.weight.copy_(self.key.weight)
        nn.init.zeros_(self.lesson_gate.weight)
        nn.init.constant_(self.lesson_gate.bias, -3.0)

    def entries(self, memory_BKM: Tensor) -> Tensor:
        """The decoder's own vectors for the words of the newest memories [B, K, T, W]."""
        if not self.window:
            return super().entries(memory_BKM)
        return self._words[0](self.words(memory_BKM))

    @torch.no_grad()
    def words(self, memory_BKM: Tensor) -> Tensor:
        """What memories recall [B, K, T], checked where the encoder is known; words, if they are given, stay."""
        if not memory_BKM.is_floating_point():
            return memory_BKM  # words already
        parts = memory_BKM.flatten(0, 1).split(1024)
        return torch.cat([self.text.words(part) for part in parts]).unflatten(0, memory_BKM.shape[:2])

    def keep(self, memory_BKM: Tensor, before: Kept = ()) -> Kept:
        """Words [B, K, T], and, but for long texts in training, the key of every place [B, K, T, d]."""
        return self.keep_words(self.words(memory_BKM), before)

    def keep_words(self, words_BKT: Tensor, before: Kept = ()) -> Kept:
        """The same of memories whose words are known."""
        flat_BP = words_BKT.flatten(1)
        earlier_Bn = before[0].flatten(1)[:, -WORDS:] if before else flat_BP[:, :0]
        flat_BP = torch.cat([flat_BP.new_zeros(len(flat_BP), WORDS - earlier_Bn.shape[1]), earlier_Bn, flat_BP], 1)
        before_BPn = flat_BP.unfold(1, WORDS, 1)[:, :-1].flip(-1)
        if before_BPn.shape[1] > EXACT and self.training and torch.is_grad_enabled():
            return (words_BKT,)  # the keys of a row are made when it is looked at (`_keys`): those of all fit no cache
        with torch.set_grad_enabled(torch.is_grad_enabled() and before_BPn.shape[1] <= EXACT):
            return words_BKT, self._unit(before_BPn, self.key).unflatten(1, words_BKT.shape[1:])

    def _keys(self, words_BKT: Tensor) -> Iterator[Tensor]:
        """The key of every place [P, d], row by row."""
        table_nVd = self._table(self.key)
        for words_P in words_BKT.flatten(1):
            before_Pn = F.pad(words_P, (WORDS, 0)).unfold(0, WORDS, 1)[:-1].flip(-1)
            yield _looked_up(before_Pn, table_nVd)

    def index(self, kept: Kept, newest_BwM: Tensor) -> PlaceIndex | None:
        """The places of one sequence's memories in lists, where there are many."""
        if len(kept[0]) != 1 or kept[0].numel() < INDEXED:
            return None
        return self.index_words(kept[0][0], newest_BwM[0])

    @torch.no_grad()
    def index_words(self, words_KT: Tensor, newest_kM: Tensor, folder: Path | None = None) -> PlaceIndex:
        """The same of words, in memory or in a folder."""
        words_KT, device = words_KT.cpu(), self.embed.weight.device  # lists are read by the CPU
        flat_1P, ago_n = words_KT.reshape(1, -1), torch.arange(1, WORDS + 1)

        def key_of(place_n: Tensor) -> Tensor:
            return self._unit(taken(flat_1P, place_n[None, :, None] - ago_n).to(device), self.key)[0].cpu()

        return PlaceIndex.build(words_KT, key_of, self.embed.num_embeddings, newest_kM.cpu(), folder)

    @torch.no_grad()
    def find(self, index: PlaceIndex, ids_N: Tensor, most: int) -> list[tuple[int, float]]:
        """The memories with the best places after the last words of a text, and their scores, the best first."""
        recent_n = F.pad(ids_N.flip(0)[: self.recent], (0, max(0, self.recent - len(ids_N))))
        words_KT, query_Ld = index.words_KT, self._queries(recent_n.to(self.embed.weight.device)).cpu()
        tail = Tail(words_KT[:0], query_Ld[:0])
        looks = min(LOOKS, len(ids_N))
        score, earlier = looked(index, tail, query_Ld, recent_n, WORDS, most * words_KT.shape[1], looks)
        for number, one in earlier.items():
            score[number] = max(one, score.get(number, -math.inf))
        return sorted(score.items(), key=lambda pair: -pair[1])[:most]

    def mix(
        self, logits_BQV: Tensor, h_BQW: Tensor, kept: Kept, queries: Queries, index: PlaceIndex | None = None
    ) -> Mixed:
        """Log-probabilities of the mixture; the model's own logits, to the bit, where no memory is seen."""
        Q, P = logits_BQV.shape[1], kept[0][0].numel()
        if index is None and not P:
            return Mixed(logits_BQV)
        if queries.asked is not None and not queries.asked.all():
            return self._and_expected(mix_asked(self._mix, logits_BQV, h_BQW, kept, queries, queries.asked), kept)
        at_once = 1 if index is not None else max(1, SCORES // P)
        if self.training or at_once >= Q:
            return self._and_expected(self._mix(logits_BQV, h_BQW, kept, queries, index), kept)
        some = [slice(i, i + at_once) for i in range(0, Q, at_once)]
        parts = [self._mix(logits_BQV[:, q], h_BQW[:, q], kept, queries.part(q), index) for q in some]
        logits_BQV, opened_BQk, share_BQk = (torch.cat(x, 1) for x in zip(*(part[:3] for part in parts), strict=True))
        return Mixed(logits_BQV, opened_BQk, share_BQk)

    def _mix(
        self, logits_BQV: Tensor, h_BQW: Tensor, kept: Kept, queries: Queries, index: PlaceIndex | None = None
    ) -> Mixed:
        logp_BQV, T = logits_BQV.log_softmax(-1), kept[0].shape[2]
        kept = self._without_hidden(kept, queries)
        words_at = words_of(kept, index)
        recent_BQn = self._recent(words_at, T, queries)
        opened, scores = self._opened(recent_BQn, words_at, kept, queries, index)
        nothing_BQ, share_BQHJ = self._shares(h_BQW, recent_BQn, opened, logp_BQV, queries)
        p_BQV = (nothing_BQ[..., None] + logp_BQV).exp()
        share_BQJ = share_BQHJ.exp().sum(2).to(p_BQV)
        p_BQV = p_BQV.scatter_add(-1, opened.words_BQJ, share_BQJ)
        mixed_BQV = p_BQV.clamp_min(torch.finfo(p_BQV.dtype).tiny).log()
        mixed_BQV = mixed_BQV.where(opened.seen_BQJ.any(-1, keepdim=True), logits_BQV)
        lesson = None
        if scores is not None:
            lesson = partial(scores.lesson, self.lesson_gate, self.sharpness(), logp_BQV, h_BQW)
        return Mixed(mixed_BQV, opened.number_BQk, share_BQJ.unflatten(-1, (-1, T)).sum(-1), lesson)

    def _and_expected(self, mixed: Mixed, kept: Kept) -> Mixed:
        """With what is taught of words, once, beside what is of keys."""
        if (keys := mixed.lesson) is None:
            return mixed
        return mixed._replace(lesson=lambda labels_BQ: keys(labels_BQ) + self._expected(kept))

    def _expected(self, kept: Kept) -> Tensor | float:
        """The lesson of which words are expected where they stand."""
        return 0.0 if self.surprise is None else self.surprise.lesson(kept[0].flatten(1))

    def recall(self, memory_BM: Tensor) -> Tensor:
        """[B, M] -> [B, T, V]."""
        return self.text(memory_BM)

    def _without_hidden(self, kept: Kept, queries: Queries) -> Kept:
        """What is kept without a memory that is hidden, whose words are part of the keys after it."""
        if queries.hidden is None:
            return kept
        number_K = torch.arange(kept[0].shape[1], device=kept[0].device)
        return self.keep_words(kept[0].masked_fill((number_K == queries.hidden)[:, None], 0))

    def _recent(self, words_at: WordsAt, T: int, queries: Queries) -> Tensor:
        """The words before each prediction [B, Q, n]: of its own chunk, then of the memories before it.

        Before the first of marked chunks there are none: what it asks for does not go on from there.
        """
        ago_n = torch.arange(1, self.recent + 1, device=queries.recent.device)
        at_RQn = queries.before[..., None] * T + queries.place[..., None] - ago_n
        own_RQn = ago_n <= queries.place[..., None]
        at_BQn = at_RQn.masked_fill(own_RQn, -1).expand(len(queries.recent), -1, -1)
        if (order_BQ := queries.order) is not None:
            at_BQn = at_BQn.masked_fill(((order_BQ >= 0) & (order_BQ < T))[..., None], -1)
        earlier_BQn = words_at(at_BQn)
        return torch.where(own_RQn, queries.recent, earlier_BQn)

    def _opened(
        self, recent_BQn: Tensor, words_at: WordsAt, kept: Kept, queries: Queries, index: PlaceIndex | None
    ) -> tuple[Opened, Scores | None]:
        """What is open for each query, and while keys are taught the scores of places that stand for all."""
        T, device = kept[0].shape[2], recent_BQn.device
        if index is None:
            words_BKT, *keys = kept
            key_BPd = keys[0].flatten(1, 2) if keys else self._keys(words_BKT)
            found = open_all(self._query_of, recent_BQn, words_BKT, key_BPd, queries, WORDS, self.top, self.near)
            number_BQk, near_BQJ = found
        else:
            query_1Ld = self._queries(recent_BQn[0, 0])[None]
            tail = Tail(kept[0][0].cpu(), kept[1][0].flatten(0, 1).cpu())
            query_Ld, recent_n = query_1Ld[0].cpu(), recent_BQn[0, 0].cpu()
            found_k = open_indexed(index, tail, query_Ld, recent_n, WORDS, self.top, self.near)
            number_BQk = found_k[None, None].to(device)
            before_1Jn = words_at(places(number_BQk, T)[0, ..., None] - torch.arange(1, WORDS + 1, device=device))
            near_BQJ = (self._unit(before_1Jn, self.key) @ query_1Ld[0, 0])[None]
        words_BQkM, agree_BQJ, unseen_BQJ = self._look(number_BQk, recent_BQn, words_at, T, queries)
        near_BQJ, scores = near_BQJ.masked_fill(unseen_BQJ, FAR), None
        if index is None and torch.is_grad_enabled() and self.key.weight.requires_grad:
            place_BQJ = places(number_BQk, T)
            near_BQJ, scores = self._taught(near_BQJ, place_BQJ, unseen_BQJ, recent_BQn, words_at, kept, queries)
        opened = Opened(number_BQk, words_BQkM, agree_BQJ, near_BQJ)
        if queries.order is None:
            return opened, scores
        return self._and_in_order(opened, queries.order, recent_BQn, words_at, T, queries), scores

    def _look(
        self, number_BQk: Tensor, recent_BQn: Tensor, words_at: WordsAt, T: int, queries: Queries
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of memories: their words, after the `MATCH` before; which before a place agree; what is not to be seen."""
        words_BQkM = words_at(number_BQk[..., None] * T + torch.arange(-MATCH, T, device=number_BQk.device))
        words_BQkT, recent_BQ11m = words_BQkM[..., MATCH:], recent_BQn[..., None, None, :]
        agree_BQkT = torch.zeros_like(words_BQkT, dtype=torch.uint8)
        for i in range(MATCH):
            same = (words_BQkM[..., MATCH - 1 - i :][..., :T] == recent_BQ11m[..., i]) & (recent_BQ11m[..., i] > 0)
            agree_BQkT |= same.to(torch.uint8) << i
        seen_BQk = number_BQk < queries.before[..., None]
        if queries.hidden is not None:
            seen_BQk = seen_BQk & (number_BQk != queries.hidden)
        unseen_BQJ = (~seen_BQk[..., None] | (words_BQkT == 0)).flatten(2)
        return words_BQkM, agree_BQkT.flatten(2).long(), unseen_BQJ

    def _and_in_order(
        self, opened: Opened, order_BQ: Tensor, recent_BQn: Tensor, words_at: WordsAt, T: int, queries: Queries
    ) -> Opened:
        """With the memory of the place that a marked chunk has in order, of which that place alone is to be seen."""
        before_BQ = queries.before.expand_as(order_BQ)
        number_BQ1 = torch.where(order_BQ < 0, before_BQ, order_BQ // T)[..., None]  # before: not to be seen
        words_BQ1M, agree_BQT, unseen_BQT = self._look(number_BQ1, recent_BQn, words_at, T, queries)
        at_BQT = (torch.arange(T, device=order_BQ.device) == order_BQ[..., None] % T) & ~unseen_BQT
        ago_n = torch.arange(1, WORDS + 1, device=order_BQ.device)
        key_BQd = self._unit(words_at(order_BQ.clamp(min=0)[..., None] - ago_n).flatten(0, 1)[None], self.key)[0]
        near_BQ = (key_BQd.view(*order_BQ.shape, -1) * self._query_of(recent_BQn)).sum(-1)
        return Opened(
            torch.cat([opened.number_BQk, number_BQ1], -1),
            torch.cat([opened.words_BQkM, words_BQ1M], -2),
            torch.cat([opened.agree_BQJ, agree_BQT], -1),
            torch.cat([opened.near_BQJ, near_BQ[..., None].masked_fill(~at_BQT, FAR)], -1),
            torch.cat([torch.zeros_like(opened.seen_BQJ), at_BQT], -1),
        )

    def _taught(
        self,
        near_BQJ: Tensor,
        place_BQJ: Tensor,
        unseen_BQJ: Tensor,
        recent_BQn: Tensor,
        words_at: WordsAt,
        kept: Kept,
        queries: Queries,
    ) -> tuple[Tensor, Scores]:
        """s q.k of opened places with a gradient, of the best alone where places are many; and what stands for all."""
        query_BQd, words_BP, ago_n = self._query_of(recent_BQn), kept[0].flatten(1), torch.arange(1, WORDS + 1)
        if words_BP.shape[1] <= EXACT:
            seen_BQP = queries.sees(kept[0].shape[1]).repeat_interleave(kept[0].shape[2], -1) & (words_BP > 0)[:, None]
            score_BQP = (query_BQd @ kept[1].flatten(1, 2).mT).masked_fill(~seen_BQP, FAR)
            return score_BQP.gather(2, place_BQJ), Scores(score_BQP, words_BP[:, None])
        best_BQg = near_BQJ.topk(min(GRADED, near_BQJ.shape[-1]), -1)[1]
        place_BQg, place_Bn = place_BQJ.gather(2, best_BQg), sample(kept[0])
        place_BX = torch.cat([place_BQg.flatten(1), place_Bn], 1)
        key_BXd = self._unit(words_at(place_BX[..., None] - ago_n.to(place_BX.device)), self.key)
        key_BQgd = key_BXd[:, : -place_Bn.shape[1]].unflatten(1, best_BQg.shape[1:])
        near_BQg = (key_BQgd @ query_BQd[..., None])[..., 0].masked_fill(unseen_BQJ.gather(2, best_BQg), FAR)
        score_BQn = query_BQd @ key_BXd[:, -place_Bn.shape[1] :].mT
        scores = with_sample(near_BQg, place_BQg, score_BQn, place_Bn, kept[0], queries)
        return near_BQJ.scatter(2, best_BQg, near_BQg), scores

    def _queries(self, recent_n: Tensor) -> Tensor:
        """What places are looked for by, of no, one and two words ago [L, d], times s."""
        recent_1Ln = torch.stack([recent_n[ago : ago + WORDS] for ago in range(LOOKS)])[None]
        return self._unit(recent_1Ln, self.query)[0] * self.sharpness()

    def _query_of(self, recent_BQn: Tensor) -> Tensor:
        """What places are looked for by before words [..., n], times s [..., d]."""
        recent_BNn = recent_BQn.flatten(0, -3) if recent_BQn.ndim > 2 else recent_BQn[None]
        return self._unit(recent_BNn, self.query).view(*recent_BQn.shape[:-1], -1) * self.sharpness()

    def _unit(self, before_BNn: Tensor, layer: nn.Linear) -> Tensor:
        """norm(A [e(w_1) ... e(w_n)]) [B, N, d]."""
        before_BNn, V = before_BNn[..., :WORDS], self.embed.num_embeddings
        if before_BNn[..., 0].numel() < V:
            return F.normalize(layer(self.embed(before_BNn).flatten(-2)), dim=-1)
        return _looked_up(before_BNn.flatten(0, 1), self._table(layer)).unflatten(0, before_BNn.shape[:2])

    def _table(self, layer: nn.Linear) -> Tensor:
        """What each word adds to A [e(w_1) ... e(w_n)] at each of n places before [n, V, d]."""
        return torch.einsum("ve,dne->nvd", self.embed.weight, layer.weight.unflatten(1, (WORDS, -1)))


def _looked_up(before_Nn: Tensor, table_nVd: Tensor) -> Tensor:
    """`Pointer._unit` of many words, as a sum of what each adds [N, d]."""
    ids_Nn = before_Nn + table_nVd.shape[1] * torch.arange(WORDS, device=before_Nn.device)
    summed_Nd = F.embedding_bag(ids_Nn, table_nVd.flatten(0, 1), mode="sum")
    if torch.is_grad_enabled():
        return F.normalize(summed_Nd, dim=-1)
    return summed_Nd.div_(summed_Nd.norm(dim=-1, keepdim=True).clamp_(min=1e-12))


def words_of(kept: Kept, index: PlaceIndex | None = None) -> WordsAt:
    """What words stand at places, 0 at those before the first: of what is kept, or of an index and what came after."""
    flat_BP = kept[0].flatten(1)
    if index is None:
        return lambda place: taken(flat_BP, place)
    base_1P = index.words_KT.view(1, -1)
    P = base_1P.shape[1]

    def at(place: Tensor) -> Tensor:
        words = taken(base_1P, place.cpu()).to(place.device)
        return torch.where(place < P, words, taken(flat_BP, place - P)) if flat_BP.shape[1] else words

    return at
