"""A reader that finds, opens and copies: p = share of nothing * p_LM + shares of opened words, over any memories.

    key    k_p = norm(A [e(w_1) ... e(w_n)]) of every place p of a memory, w_i the i-th word before it (across memories)
    query  q   = norm(B [e(w_1) ... e(w_n)]) of the place that is predicted: of words alone, so that looks can be kept
    find   memory m scores max_p s q.k_p + 5 [w_2 agrees] over its places after the very word that the query is after
           (index.py files places by word, in the order of the second: a look reads one list); opened are the last
           `last`, the best `top - earlier`, and the best `earlier` of those that the queries of one and two words ago
           find, one and two places on (a changed word hides one look alone)
    score  of an opened place p, in head i: c_i exp(x_i) s q.k_p + P_i[which of 4 words agree] + L_i[how many agree in a
           row, to 8] + sum of R_i[j, w_j] over those of 4 that agree + (b_i + y_i) log p_LM(w_p) - (a_i + z_i) log(1 +
           age), where x, y, z are linear in the hidden state, age in memories, and s a learned scale
    mix    softmax over (nothing, head 1 ... H) of G(features) + (0, lse of head 1, ...), G linear plus a small network:
           one softmax with an entry for nothing; features tell the hidden state, each head's best place, the count

Kin: pointer sentinels (1609.07843), continuous caches (1612.04426), kNN-LM (1911.00172), infini-gram (2401.17377).
Shape suffixes: B sequences, K memories, T words of one, P = K T places, N queries, n words before (nearest first), m of
them compared, d numbers of a key, k opened memories, J = k T opened places, H heads, W width, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AGREE = 4  # words whose agreement is told one by one
STEP = 3.0  # numbers of their own are kept in this unit: they learn as many times faster than a matrix at one rate
PAIR = 5.0  # added to a place's score, for opening alone, where the two nearest words agree
FAR = -1e4  # the score of what is not seen: no share, and gradients stay numbers


@dataclass(frozen=True, kw_only=True)
class CopyShape:
    """A copy head.

    Args:
        vocab_size: V.
        width: W, numbers of the language model's hidden state.
        word_dim: numbers of a word before it becomes part of a key.
        key_dim: d.
        words: n, of a key.
        match: how many words before a place are compared with those before the prediction.
        top: memories opened by finding.
        earlier: of them, how many are left to the looks of earlier words.
        looks: queries, each a word earlier than the one before it.
        last: newest memories, always opened.
        heads: H, ways of sharing among opened places.
        gate: width of the mixing network.
    """

    vocab_size: int
    width: int
    word_dim: int = 64
    key_dim: int = 64
    words: int = 4
    match: int = 8
    top: int = 16
    earlier: int = 4
    looks: int = 3
    last: int = 2
    heads: int = 2
    gate: int = 64

    @property
    def reach(self) -> int:
        """How many words before a place the reader wants to know."""
        return max(self.match, self.words + self.looks - 1)


@dataclass(frozen=True)
class Copied:
    """What is kept of K memories: their words, the words before each, and keys.

    Words are what the memories recall; they may as well be recalled when a memory is opened.
    """

    words_BKT: Tensor
    before_BKTn: Tensor
    key_BPd: Tensor


@dataclass(frozen=True)
class Opened:
    """Memories that are open for each query: their numbers, their places' words, the words before each, and s q.k."""

    number_BNk: Tensor
    words_BNJ: Tensor
    before_BNJn: Tensor
    near_BNJ: Tensor


@dataclass(frozen=True)
class Recent:
    """What came before each prediction: words [B, N, n], nearest first, 0 for none; and how probable the last 4 were.

    `logp` is the language model's own log-probability of each [B, N, 4], 0 for those before its chunk.
    """

    words_BNn: Tensor
    logp_BN4: Tensor


def words_before(words_BN: Tensor, n: int, earlier_Bn: Tensor | None = None) -> Tensor:
    """The n words before each place [B, N, n], nearest first; `earlier`: those before the first, in reading order."""
    earlier_Bn = words_BN.new_zeros(len(words_BN), n) if earlier_Bn is None else earlier_Bn
    return torch.cat([earlier_Bn, words_BN], 1).unfold(1, n, 1)[:, :-1].flip(-1)


def recent(words_BN: Tensor, n: int, logp_BNV: Tensor, chunk: int, earlier_Bn: Tensor | None = None) -> Recent:
    """What comes before each word of whole chunks [B, N], which the language model gave these log-probabilities."""
    own_BN = logp_BNV.gather(-1, words_BN[..., None])[..., 0]
    own_XT = F.pad(own_BN.unflatten(1, (-1, chunk)).flatten(0, 1), (AGREE, 0))
    logp_XT4 = own_XT.unfold(1, AGREE, 1)[:, :-1].flip(-1)
    return Recent(words_before(words_BN, n, earlier_Bn), logp_XT4.reshape(*words_BN.shape, AGREE))


class CopyReader(nn.Module):
    """Finds memories by the words before a place and copies the words that followed; see the file's head."""

    def __init__(self, shape: CopyShape):
        super().__init__()
        s = self.shape = shape
        H, E = s.heads, s.words * s.word_dim
        self.embed = nn.Embedding(s.vocab_size, s.word_dim)  # word 0: none
        self.key = nn.Linear(E, s.key_dim, bias=False)
        self.query = nn.Linear(E, s.key_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(math.log(12.0) / STEP))
        self.head_scale = nn.Parameter(torch.linspace(1.0, 0.3, H) / STEP)
        self.pattern = nn.Parameter(torch.zeros(H, 2**AGREE))
        self.length = nn.Parameter(torch.zeros(H, s.match + 1))
        self.rare = nn.Parameter(torch.zeros(H, AGREE, s.vocab_size))
        self.lm = nn.Parameter(torch.zeros(H))
        self.age = nn.Parameter(torch.zeros(H))
        self.by_hidden = nn.Linear(s.width, 3 * H, bias=False)
        features = s.width + 12 * H + 3 + AGREE
        self.gate = nn.Linear(features, H + 1)
        self.gate_in, self.gate_out = nn.Linear(features, s.gate), nn.Linear(s.gate, H + 1)
        self.index_gate = nn.Linear(s.width + 2, 1)
        with torch.no_grad():
            nn.init.normal_(self.embed.weight)
            self.embed.weight[0] = 0
            for i in range(s.words):  # nearer words count more
                self.key.weight[:, i * s.word_dim : (i + 1) * s.word_dim] *= 0.7**i
            self.query.weight.copy_(self.key.weight)
            for layer in (self.by_hidden, self.gate, self.gate_out, self.index_gate):
                nn.init.zeros_(layer.weight)
            for layer in (self.gate, self.gate_out):
                nn.init.zeros_(layer.bias)
            self.length[0] = torch.arange(s.match + 1).clamp(max=3) / STEP  # it begins with the longest match
            self.gate.bias[0] = 12.0  # nothing, until scores are worth more
            nn.init.constant_(self.index_gate.bias, -3.0)

    def keep(self, words_BKT: Tensor, earlier_Bn: Tensor | None = None) -> Copied:
        """Memories' words -> what is kept; `earlier`: the last words before them, in reading order."""
        before_BPn = words_before(words_BKT.flatten(1), self.shape.reach, earlier_Bn)
        key_BPd = self.unit(before_BPn, self.table(self.key))
        return Copied(words_BKT, before_BPn.unflatten(1, words_BKT.shape[1:]), key_BPd)

    def append(self, kept: Copied, words_BKT: Tensor) -> Copied:
        """More memories after those that are kept."""
        n = self.shape.reach
        earlier_Bn = torch.cat([kept.before_BKTn[:, -1, -1].flip(-1), kept.words_BKT[:, -1, -1:]], 1)[:, -n:]
        more = self.keep(words_BKT, earlier_Bn)
        pairs = zip(vars(kept).values(), vars(more).values(), strict=True)
        return Copied(*(torch.cat(pair, 1) for pair in pairs))

    def forward(
        self, hidden_BNW: Tensor, recent: Recent, kept: Copied, logp_BNV: Tensor, seen_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The language model's log-probabilities -> the mixture's [B, N, V], and which memories were opened [B, N, k].

        Args:
            hidden_BNW: the hidden state that the log-probabilities were made of.
            recent: the words before.
            kept: the memories.
            logp_BNV: the language model's.
            seen_N: how many of the memories each query sees; all of them by default.
        """
        opened, _ = self._opened(recent, kept, seen_N)
        return self.mix(hidden_BNW, recent, opened, logp_BNV, self._seen(kept, opened, seen_N)), opened.number_BNk

    def mix(self, hidden_BNW: Tensor, recent: Recent, opened: Opened, logp_BNV: Tensor, seen_N: Tensor) -> Tensor:
        """Log-probabilities of the mixture [B, N, V] from memories that are open, however they were found."""
        nothing_BN, share_BNHJ = self.shares(hidden_BNW, recent, opened, logp_BNV, seen_N)
        p_BNV = (nothing_BN[..., None] + logp_BNV).exp()
        return p_BNV.scatter_add(-1, opened.words_BNJ, share_BNHJ.exp().sum(2)).log()

    def losses(
        self,
        hidden_BNW: Tensor,
        recent: Recent,
        kept: Copied,
        logp_BNV: Tensor,
        labels_BN: Tensor,
        seen_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """-log p of labels [B, N], by the mixture, and by scores over all places alone with a gate of their own.

        The second teaches keys where to look, in plain text too; what is opened is no function that has a gradient.
        """
        opened, score_BNP = self._opened(recent, kept, seen_N)
        seen = self._seen(kept, opened, seen_N)
        nothing_BN, share_BNHJ = self.shares(hidden_BNW, recent, opened, logp_BNV, seen)
        own_BN = logp_BNV.gather(-1, labels_BN[..., None])[..., 0]
        copied_BN = _of_label(share_BNHJ, opened.words_BNJ[:, :, None], labels_BN[..., None, None])
        mixed_BN = torch.logaddexp(nothing_BN + own_BN, copied_BN)
        lse_BN1 = score_BNP.logsumexp(-1, keepdim=True)
        best_BN1 = score_BNP.amax(-1, keepdim=True) / self.sharpness()
        gate_BN = self.index_gate(torch.cat([hidden_BNW, 4 * best_BN1, lse_BN1 / 8], -1))[..., 0]
        copied_BN = _of_label(score_BNP - lse_BN1, kept.words_BKT.flatten(1)[:, None], labels_BN[..., None])
        return -mixed_BN, -torch.logaddexp(F.logsigmoid(-gate_BN) + own_BN, F.logsigmoid(gate_BN) + copied_BN)

    def scores(self, recent: Recent, kept: Copied, seen_N: Tensor | None = None, ago: int = 0) -> Tensor:
        """How well each place fits the words before each prediction, without the nearest `ago` of them [B, N, P]."""
        query_BNd = self.unit(recent.words_BNn[..., ago:], self.table(self.query))
        score_BNP = query_BNd @ kept.key_BPd.mT * self.sharpness()
        if seen_N is None:
            return score_BNP
        K, T = kept.words_BKT.shape[1:]
        unseen_NP = (torch.arange(K, device=seen_N.device) >= seen_N[:, None]).repeat_interleave(T, -1)
        return score_BNP.masked_fill(unseen_NP, FAR)

    @torch.no_grad()
    def open(self, score_BNP: Tensor, recent: Recent, kept: Copied, seen_N: Tensor | None = None) -> Tensor:
        """Which memories are opened [B, N, k]."""
        s, K = self.shape, kept.words_BKT.shape[1]
        number_K = torch.arange(K, device=score_BNP.device)
        if s.top + s.last >= K:
            return number_K.expand(*score_BNP.shape[:2], K)
        age_NK = (K if seen_N is None else seen_N[:, None]) - 1 - number_K
        newest_NK = (FAR - age_NK).double()  # what fills places that no memory is found for
        best_BNK = torch.maximum(self._best(score_BNP, recent, kept), newest_NK).masked_fill(age_NK < s.last, math.inf)
        best_BNK = best_BNK.masked_fill(age_NK < 0, -math.inf)
        own_BNk = best_BNK.topk(s.top + s.last - s.earlier, -1)[1]
        best_BNK = newest_NK.expand_as(best_BNK)
        for ago in range(1, s.looks):
            earlier_BNK = self._best(self.scores(recent, kept, seen_N, ago), recent, kept, ago)
            best_BNK = torch.maximum(best_BNK, earlier_BNK - ago)
        best_BNK = best_BNK.masked_fill(age_NK < 0, -math.inf)  # a look of words ago sees one place beyond what is seen
        return best_BNK.scatter(-1, own_BNk, math.inf).topk(s.top + s.last, -1)[1]

    @staticmethod
    def _best(score_BNP: Tensor, recent: Recent, kept: Copied, ago: int = 0) -> Tensor:
        """The best place of each memory [B, N, K] that is after the same word, `ago` places on."""
        same_BNP2 = recent.words_BNn[:, :, None, ago : ago + 2] == kept.before_BKTn[..., :2].flatten(1, 2)[:, None]
        score_BNP = (score_BNP + PAIR * same_BNP2[..., 1]).masked_fill(~same_BNP2[..., 0], -math.inf)
        score_BNP = F.pad(score_BNP, (ago, 0), value=-math.inf)[..., : score_BNP.shape[-1]]
        best_BNK = score_BNP.unflatten(-1, kept.words_BKT.shape[1:]).amax(-1)
        return ranked(best_BNK, torch.arange(best_BNK.shape[-1], device=best_BNK.device))

    def shares(
        self, hidden_BNW: Tensor, recent: Recent, opened: Opened, logp_BNV: Tensor, seen_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log share of nothing [B, N], and of each opened place in each head [B, N, H, J]."""
        s, words_BNJ, near_BNJ = self.shape, opened.words_BNJ, opened.near_BNJ
        recent_BNm = recent.words_BNn[..., : s.match]
        agree_BNJm = opened.before_BNJn[..., : s.match] == recent_BNm[:, :, None]
        agree_BNJm = agree_BNJm & (recent_BNm[:, :, None] > 0)
        agree_BNJ4 = agree_BNJm[..., :AGREE]
        pattern_BNJ = (agree_BNJ4 * 2 ** torch.arange(AGREE, device=words_BNJ.device)).sum(-1)
        length_BNJ = agree_BNJm.int().cumprod(-1).sum(-1)
        rare_HBN4 = STEP * torch.stack([self.rare[:, i, recent_BNm[..., i]] for i in range(AGREE)], -1)
        scale_BNH1, lm_BNH1, age_BNH1 = self.by_hidden(hidden_BNW).unflatten(-1, (-1, 3, 1)).unbind(-2)
        age_BNk = (seen_N[:, None] - 1 - opened.number_BNk).clamp(min=0).float().log1p()
        T = words_BNJ.shape[-1] // age_BNk.shape[-1]

        score_BNHJ = near_BNJ[:, :, None] * (STEP * self.head_scale)[:, None] * scale_BNH1.exp()
        table_HBNJ = self.pattern[:, pattern_BNJ] + self.length[:, length_BNJ]
        score_BNHJ = score_BNHJ + STEP * table_HBNJ.permute(1, 2, 0, 3)
        score_BNHJ = score_BNHJ + torch.einsum("hbni,bnji->bnhj", rare_HBN4, agree_BNJ4.to(logp_BNV.dtype))
        score_BNHJ = score_BNHJ + (STEP * self.lm[:, None] + lm_BNH1) * logp_BNV.gather(-1, words_BNJ)[:, :, None]
        score_BNHJ = score_BNHJ - (STEP * self.age[:, None] + age_BNH1) * age_BNk.repeat_interleave(T, -1)[:, :, None]

        lse_BNH, (best_BNH, at_BNH) = score_BNHJ.logsumexp(-1), score_BNHJ.max(-1)
        said_BNH = words_BNJ.gather(-1, at_BNH)
        same_BNHJ = score_BNHJ.masked_fill(words_BNJ[:, :, None] != said_BNH[..., None], FAR)
        agree_BNH4 = agree_BNJ4.gather(2, at_BNH[..., None].expand(-1, -1, -1, AGREE)).to(logp_BNV.dtype)
        entropy_BN1 = -(logp_BNV.exp() * logp_BNV).sum(-1, keepdim=True)
        features = [
            hidden_BNW,
            best_BNH / 8,
            lse_BNH / 8,
            logp_BNV.gather(-1, said_BNH) / 4,
            entropy_BN1 / 4,
            logp_BNV.amax(-1, keepdim=True),
            (seen_N.float().log() / 4)[:, None].expand_as(entropy_BN1),
            agree_BNH4.flatten(2),
            near_BNJ.gather(2, at_BNH) / self.sharpness(),
            same_BNHJ.logsumexp(-1) - lse_BNH,
            (rare_HBN4.permute(1, 2, 0, 3) * agree_BNH4).sum(-1),
            length_BNJ.gather(2, at_BNH) / 8,
            age_BNk.gather(2, at_BNH // T) / 4,
            recent.logp_BN4 / 4,
        ]
        x = torch.cat(features, -1)
        mix_BNX = self.gate(x) + self.gate_out(F.gelu(self.gate_in(x))) + F.pad(lse_BNH, (1, 0))
        log_BNX = mix_BNX.log_softmax(-1)
        return log_BNX[..., 0], log_BNX[..., 1:, None] + score_BNHJ - lse_BNH[..., None]

    def _opened(self, recent: Recent, kept: Copied, seen_N: Tensor | None) -> tuple[Opened, Tensor]:
        """What is open, and the scores of all places [B, N, P]."""
        B, K, T = kept.words_BKT.shape
        score_BNP = self.scores(recent, kept, seen_N)
        number_BNk = self.open(score_BNP, recent, kept, seen_N)
        rows_B11 = torch.arange(B, device=number_BNk.device)[:, None, None]
        near_BNkT = score_BNP.unflatten(-1, (K, T)).gather(2, number_BNk[..., None].expand(-1, -1, -1, T))
        words_BNkT, before_BNkTn = kept.words_BKT[rows_B11, number_BNk], kept.before_BKTn[rows_B11, number_BNk]
        return Opened(number_BNk, words_BNkT.flatten(2), before_BNkTn.flatten(2, 3), near_BNkT.flatten(2)), score_BNP

    @staticmethod
    def _seen(kept: Copied, opened: Opened, seen_N: Tensor | None) -> Tensor:
        """How many memories each query sees [N]."""
        N, K = opened.number_BNk.shape[1], kept.words_BKT.shape[1]
        return torch.full((N,), K, device=opened.number_BNk.device) if seen_N is None else seen_N

    def sharpness(self) -> Tensor:
        """What a cosine is multiplied by."""
        return (STEP * self.scale).exp()

    def table(self, layer: nn.Linear) -> Tensor:
        """What each word adds to a key at each of n places before it [n V, d]: keys are sums of look-ups."""
        weight_dnE = layer.weight.unflatten(1, (self.shape.words, -1))
        return torch.einsum("ve,dne->nvd", self.embed.weight, weight_dnE).flatten(0, 1)

    def unit(self, before_XNn: Tensor, table: Tensor) -> Tensor:
        """norm(A [e(w_1) ... e(w_n)]) [X, N, d], of any number of places."""
        n, V = self.shape.words, self.shape.vocab_size
        ids = before_XNn[..., :n] + V * torch.arange(n, device=before_XNn.device)
        summed = F.embedding_bag(ids.flatten(0, -2), table, mode="sum")
        return F.normalize(summed, dim=-1).unflatten(0, before_XNn.shape[:-1])


def ranked(score: Tensor, number: Tensor) -> Tensor:
    """Scores to a 64th, and the newer memory of two that are equal: what is opened depends on no rounding."""
    return (64 * score).round().double() / 64 + number / 2**32


def _of_label(share: Tensor, words: Tensor, label: Tensor) -> Tensor:
    """Log of the shares [B, N, ...] of places that say the label, in all [B, N]; -60 or so where none does."""
    share = share.masked_fill(words != label, -math.inf).flatten(2)
    return F.pad(share, (0, 1), value=-60.0).logsumexp(-1)
