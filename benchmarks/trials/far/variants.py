"""A copy head with every alternative that was tried behind an option; memlm/readers/pointer.py is what was chosen.

    keys    k_p = norm(A [e(w_1) ... e(w_n)]), the n words before place p of a memory
    query   q   = norm(A [e(w_1) ... e(w_n)] + Q h), the n words before the place that is predicted, and its hidden state
    finding memory m scores max_p c q.k_p; the best `top` and the last `last` are opened
    score   of an opened place, in head i:  c_i q.k_p + P_i[which of 4 words agree] + L_i[how many agree from the last on]
            + b_i log p_LM(w_p) - a_i log(1 + chunks ago)
    mixing  softmax over (nothing, head 1, ..., head H) of f(h, evidence): p = g_0 p_LM + sum_i g_i sum of shares of w

Shape suffixes: B sequences, K memories, T words of one, N queries, n words before, d key, J opened places, H heads, W width, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    vocab_size: int
    chunk_tokens: int
    width: int
    word_dim: int = 64
    key_dim: int = 64
    words: int = 4  # of a key
    match: int = 8  # words that are compared in what is opened
    top: int = 16
    last: int = 2
    heads: int = 1
    length_start: int = 1
    by_hidden: bool = True  # scale, LM term and recency depend on the hidden state
    patterns: bool = True
    lengths: bool = True
    lm_term: bool = True
    rarity: bool = True  # each of 4 words that agrees adds a number of its own
    evidence: bool = True  # the gate knows the best place: what agrees there, how rare, how many places say the same word
    recency: bool = True
    log_count: bool = True  # the gate knows log K
    ssmax: bool = False  # scale * (1 + s log K)
    nothing: bool = True  # log-sum-exp of scores enters the mixing logits as it is (one softmax with an entry of nothing)
    hidden_query: bool = False
    cross: bool = True  # words before a memory's first one are those of the memory before
    mlp_key: int = 0
    gate_hidden: int = 32
    logit_mix: bool = False
    index_only: bool = False  # the trial's copy head: scores are the index's alone
    surprise: bool = True  # the gate knows how probable the last 4 words were
    bits: int = 32
    earlier: int = 4  # of the top, how many are opened by earlier looks
    listed: bool = True  # a look sees only places after the same word: lists by word are the first level of the index
    pair: int = 5  # added to a place's score, for opening alone, where the two nearest words agree
    looks: int = 3  # also what the query of so many words ago found, one place on: a changed word hides one look alone


def before(words_BN: Tensor, n: int, earlier_Bn: Tensor | None = None) -> Tensor:
    """The n words before each place [B, N, n], nearest first; 0 where there is none."""
    pad = words_BN.new_zeros(len(words_BN), n) if earlier_Bn is None else earlier_Bn
    return torch.cat([pad, words_BN], 1).unfold(1, n, 1)[:, :-1].flip(-1)


def told(logp_QTV: Tensor, ids_QT: Tensor, n: int = 4) -> Tensor:
    """How probable the n words before each place of a chunk were [Q, T, n], nearest first; 0 before the chunk."""
    lp_QT = logp_QTV.gather(-1, ids_QT[..., None])[..., 0]
    return F.pad(lp_QT, (n, 0)).unfold(1, n, 1)[:, :-1].flip(-1)


@dataclass
class Kept:
    """Words [B, K, T], the words before each of them [B, K, T, n], keys [B, K*T, d]."""

    words_BKT: Tensor
    before_BKTn: Tensor
    key_BPd: Tensor

    def last(self, K: int) -> "Kept":
        T = self.words_BKT.shape[2]
        return Kept(self.words_BKT[:, -K:], self.before_BKTn[:, -K:], self.key_BPd[:, -K * T :])


def quantise(x: Tensor, bits: int) -> Tensor:
    """Rounded to so many bits a number, straight through in the gradient."""
    if bits >= 32:
        return x
    if bits == 1:
        y = x.sign() / math.sqrt(x.shape[-1])
    else:
        top = 2 ** (bits - 1) - 1
        s = x.abs().amax(-1, keepdim=True).clamp(min=1e-6) / top
        y = (x / s).round() * s
    return x + (y - x).detach()


class CopyReader(nn.Module):
    def __init__(self, config: ReaderConfig):
        super().__init__()
        c = self.config = config
        n, d, H = c.words, c.key_dim, c.heads
        self.embed = nn.Embedding(c.vocab_size, c.word_dim, padding_idx=0)
        nn.init.normal_(self.embed.weight)
        with torch.no_grad():
            self.embed.weight[0] = 0
        self.key = nn.Linear(n * c.word_dim, d, bias=False)
        with torch.no_grad():  # nearer words count more
            for i in range(n):
                self.key.weight[:, i * c.word_dim : (i + 1) * c.word_dim] *= 0.7**i
        self.query = nn.Linear(n * c.word_dim, d, bias=False)
        with torch.no_grad():
            self.query.weight.copy_(self.key.weight)
        if c.mlp_key:
            self.mlp = nn.Sequential(nn.Linear(n * c.word_dim, c.mlp_key), nn.GELU(), nn.Linear(c.mlp_key, d, bias=False))
            nn.init.zeros_(self.mlp[2].weight)
        self.hidden = nn.Linear(c.width, d, bias=False)
        nn.init.zeros_(self.hidden.weight)
        self.scale = nn.Parameter(torch.tensor(math.log(12.0)))
        self.growth = nn.Parameter(torch.zeros(()))
        self.index_gate = nn.Linear(c.width + 2, 1)
        nn.init.zeros_(self.index_gate.weight)
        nn.init.constant_(self.index_gate.bias, -3.0)
        self.head_scale = nn.Parameter(torch.linspace(1.0, 0.3, H))
        self.pattern = nn.Parameter(torch.zeros(H, 16))
        self.length = nn.Parameter(torch.zeros(H, c.match + 1))
        if c.length_start:
            self.length.data[0] = c.length_start * torch.arange(c.match + 1).clamp(max=3)
        self.rare = nn.Parameter(torch.zeros(H, 4, c.vocab_size))
        self.lm = nn.Parameter(torch.zeros(H))
        self.ago = nn.Parameter(torch.zeros(H))
        self.by_hidden = nn.Linear(c.width, 3 * H, bias=False)
        nn.init.zeros_(self.by_hidden.weight)
        feats = c.width + 3 * H + 3 + c.evidence * H * 9 + c.surprise * 4
        self.gate_in = nn.Linear(feats, c.gate_hidden)
        self.gate_out = nn.Linear(c.gate_hidden, H + 1)
        self.gate_lin = nn.Linear(feats, H + 1)
        nn.init.zeros_(self.gate_out.weight), nn.init.zeros_(self.gate_lin.weight)
        nn.init.zeros_(self.gate_out.bias), nn.init.zeros_(self.gate_lin.bias)
        with torch.no_grad():
            self.gate_lin.bias[0] = 12.0 if c.nothing else 3.0

    # -- what is kept
    def summed(self, before_XN: Tensor, weight: Tensor) -> Tensor:
        """A [e(w_1) ... e(w_n)] as a sum of n rows of tables: what costs nothing but look-ups."""
        n, V = self.config.words, self.config.vocab_size
        table = torch.einsum("ve,dne->nvd", self.embed.weight, weight.unflatten(1, (n, -1))).flatten(0, 1)
        ids = before_XN[..., :n] + torch.arange(n) * V
        return F.embedding_bag(ids.flatten(0, -2), table, mode="sum").unflatten(0, before_XN.shape[:-1])

    def keys(self, before_XN: Tensor) -> Tensor:
        k = self.summed(before_XN, self.key.weight)
        if self.config.mlp_key:
            k = k + self.mlp(self.embed(before_XN[..., : self.config.words]).flatten(-2))
        return quantise(F.normalize(k, dim=-1), self.config.bits)

    def queries(self, before_BNn: Tensor, h_BNW: Tensor) -> Tensor:
        q = self.summed(before_BNn, self.query.weight)
        if self.config.mlp_key:
            q = q + self.mlp(self.embed(before_BNn[..., : self.config.words]).flatten(-2))
        if self.config.hidden_query:
            q = q + self.hidden(h_BNW)
        return F.normalize(q, dim=-1)

    def keep(self, words_BKT: Tensor, earlier_Bn: Tensor | None = None) -> Kept:
        B, K, T = words_BKT.shape
        n = max(self.config.match, self.config.words)
        if self.config.cross:
            b = before(words_BKT.flatten(1), n, earlier_Bn)
        else:
            b = before(words_BKT.flatten(0, 1), n).reshape(B, K * T, n)
        return Kept(words_BKT, b.unflatten(1, (K, T)), self.keys(b))

    # -- finding
    def find(self, q_BNd: Tensor, kept: Kept, seen_N: Tensor | None = None) -> Tensor:
        """Scores of all places [B, N, K, T]; -inf in memories that a query does not see: it sees the first `seen`."""
        K, T = kept.words_BKT.shape[1:]
        c = self.scale.exp()
        if self.config.ssmax:
            c = c * (1 + self.growth * math.log(K))
        score = (q_BNd @ kept.key_BPd.mT * c).unflatten(-1, (K, T))
        if seen_N is not None:
            score = score.masked_fill((torch.arange(K) >= seen_N[:, None])[..., None], -1e4)
        return score

    @torch.no_grad()
    def open(self, score_BNKT: Tensor, before_BNn: Tensor, kept: Kept, seen_N: Tensor | None = None) -> Tensor:
        """Which memories are opened [B, N, k]."""
        K, c = score_BNKT.shape[2], self.config
        if c.top + c.last >= K:
            return torch.arange(K, device=score_BNKT.device).expand(*score_BNKT.shape[:2], K)
        def listed(score_BNKT, ago):
            if not c.listed:
                return score_BNKT
            if c.pair:  # lists lie in the order of the second word: the part that shares it is looked through first
                score_BNKT = score_BNKT + c.pair * (kept.before_BKTn[:, None, ..., 1] == before_BNn[..., ago + 1, None, None])
            return score_BNKT.masked_fill(kept.before_BKTn[:, None, ..., 0] != before_BNn[..., ago, None, None], -math.inf)

        age_NK = (K if seen_N is None else seen_N[:, None]) - 1 - torch.arange(K)
        newest_NK = (-1e4 - age_NK).masked_fill(age_NK < 0, -math.inf)  # what fills places that no memory is found for
        best_BNK = torch.maximum(listed(score_BNKT, 0).amax(-1), newest_NK)
        best_BNK = best_BNK.masked_fill((age_NK >= 0) & (age_NK < c.last), math.inf).masked_fill(age_NK < 0, -math.inf)
        if c.looks == 1:
            return best_BNK.topk(c.top + c.last, -1)[1]
        own_BNk = best_BNK.topk(c.top + c.last - c.earlier, -1)[1]
        best_BNK = newest_NK.expand_as(best_BNK)
        for i in range(1, c.looks):
            q_BNd = F.normalize(self.summed(before_BNn[..., i:], self.query.weight), dim=-1)
            earlier_BNP = listed(self.find(q_BNd, kept, seen_N), i).flatten(2)
            earlier_BNP = F.pad(earlier_BNP, (i, 0), value=-math.inf)[..., :-i]
            best_BNK = torch.maximum(best_BNK, earlier_BNP.unflatten(-1, score_BNKT.shape[2:]).amax(-1) - i)
        best_BNK = best_BNK.masked_fill(age_NK < 0, -math.inf)
        return best_BNK.scatter(-1, own_BNk, math.inf).topk(c.top + c.last, -1)[1]

    # -- mixing
    def shares(self, h_BNW: Tensor, before_BNn: Tensor, told_BN4: Tensor, kept: Kept, logp_BNV: Tensor, score_BNKT: Tensor, opened_BNk: Tensor, seen_N: Tensor | None = None):
        """Log share of nothing [B, N], log share of each opened place in each head [B, N, H, J], and its words [B, N, J]."""
        c = self.config
        B, N, K, T = score_BNKT.shape
        k = opened_BNk.shape[-1]
        rows = torch.arange(B, device=h_BNW.device)[:, None, None]
        words_BNJ = kept.words_BKT[rows, opened_BNk].flatten(2)
        s_BNJ = score_BNKT.gather(2, opened_BNk[..., None].expand(-1, -1, -1, T)).flatten(2)
        seen_N = torch.full((N,), K) if seen_N is None else seen_N
        more_BNH3 = self.by_hidden(h_BNW).unflatten(-1, (-1, 3)) if c.by_hidden else h_BNW.new_zeros(B, N, c.heads, 3)
        s = s_BNJ[:, :, None] * (1.0 if c.index_only else self.head_scale[:, None] * more_BNH3[..., 0, None].exp())
        if not c.index_only:
            same_BNJm = kept.before_BKTn[rows, opened_BNk].flatten(2, 3)[..., : c.match] == before_BNn[:, :, None, : c.match]
            same_BNJm = same_BNJm & (before_BNn[:, :, None, : c.match] > 0)
            if c.patterns:
                pattern_BNJ = (same_BNJm[..., :4] * torch.tensor([1, 2, 4, 8])).sum(-1)
                s = s + self.pattern[:, pattern_BNJ].permute(1, 2, 0, 3)
            if c.lengths:
                length_BNJ = same_BNJm.int().cumprod(-1).sum(-1)
                s = s + self.length[:, length_BNJ].permute(1, 2, 0, 3)
            if c.rarity:  # [H, 4, V] at the query's words, where they agree
                rare_HBN4 = torch.stack([self.rare[:, i, before_BNn[..., i]] for i in range(4)], -1)
                s = s + torch.einsum("hbni,bnji->bnhj", rare_HBN4, same_BNJm[..., :4].to(s.dtype))
            if c.lm_term:
                s = s + (self.lm + more_BNH3[..., 1])[..., None] * logp_BNV.gather(-1, words_BNJ)[:, :, None]
            if c.recency:
                ago = (seen_N[:, None] - 1 - opened_BNk).clamp(min=0).float().log1p().repeat_interleave(T, -1)
                s = s - (self.ago + more_BNH3[..., 2])[..., None] * ago[:, :, None]
        lse_BNH, m_BNH = s.logsumexp(-1), s.amax(-1)
        p_BNV = logp_BNV.exp()
        entropy = -(p_BNV * logp_BNV).sum(-1, keepdim=True)
        count = (seen_N.float().log() / 4 * c.log_count)[:, None].expand_as(entropy)
        at_BNH1 = s.argmax(-1, keepdim=True)
        best_BNH = words_BNJ[:, :, None].expand(-1, -1, s.shape[2], -1).gather(-1, at_BNH1)[..., 0]
        lm_BNH = logp_BNV.gather(-1, best_BNH)
        feats = torch.cat([h_BNW, m_BNH / 8, lse_BNH / 8, lm_BNH / 4, entropy / 4, logp_BNV.amax(-1, keepdim=True), count], -1)
        if c.evidence:
            H = s.shape[2]
            same_BNHm = same_BNJm.gather(2, at_BNH1.expand(-1, -1, -1, c.match))
            near_BNH = s_BNJ.gather(2, at_BNH1[..., 0]) / self.scale.exp()
            says_BNHJ = s.masked_fill(words_BNJ[:, :, None] != best_BNH[..., None], -1e4)
            agree_BNH = says_BNHJ.logsumexp(-1) - lse_BNH
            rare_BNH = (rare_HBN4.permute(1, 2, 0, 3) * same_BNHm[..., :4]).sum(-1) if c.rarity else torch.zeros_like(m_BNH)
            long_BNH = same_BNHm.int().cumprod(-1).sum(-1) / 8
            old_BNH = (seen_N[:, None] - 1 - opened_BNk.gather(-1, at_BNH1[..., 0] // T)).clamp(min=0).float().log1p() / 4
            feats = torch.cat([feats, same_BNHm[..., :4].flatten(2), near_BNH, agree_BNH, rare_BNH, long_BNH, old_BNH], -1)
        if c.surprise:
            feats = torch.cat([feats, told_BN4 / 4], -1)
        g = self.gate_lin(feats) + self.gate_out(F.gelu(self.gate_in(feats)))
        if c.nothing:
            g = torch.cat([g[..., :1], g[..., 1:] + lse_BNH], -1)
        g = g.log_softmax(-1)
        return g[..., 0], g[..., 1:, None] + s - lse_BNH[..., None], words_BNJ

    def nll(self, h_BNW, before_BNn, told_BN4, kept, logp_BNV, labels_BN, score_BNKT=None, seen_N=None):
        """-log p of labels [B, N]."""
        if score_BNKT is None:
            score_BNKT = self.find(self.queries(before_BNn, h_BNW), kept)
        nothing, share, words = self.shares(h_BNW, before_BNn, told_BN4, kept, logp_BNV, score_BNKT, self.open(score_BNKT, before_BNn, kept, seen_N), seen_N)
        lp = logp_BNV.gather(-1, labels_BN[..., None])[..., 0]
        hit = share.masked_fill(words[:, :, None] != labels_BN[..., None, None], -math.inf).flatten(2)
        return -torch.logaddexp(nothing + lp, torch.cat([hit, torch.full_like(hit[..., :1], -60.0)], -1).logsumexp(-1))

    def mix(self, h_BNW, before_BNn, told_BN4, kept, logp_BNV, score_BNKT=None):
        """Log-probabilities [B, N, V] and the opened memories."""
        if score_BNKT is None:
            score_BNKT = self.find(self.queries(before_BNn, h_BNW), kept)
        nothing, share, words = self.shares(h_BNW, before_BNn, told_BN4, kept, logp_BNV, score_BNKT, o := self.open(score_BNKT, before_BNn, kept))
        p = (nothing[..., None] + logp_BNV).exp()
        return p.scatter_add(-1, words, share.exp().sum(2)).log(), o

    def index_nll(self, h_BNW, kept, logp_BNV, labels_BN, score_BNKT):
        """-log p by the index's scores alone, over all places, with a gate of its own: what teaches keys where to look."""
        s = score_BNKT.flatten(2)
        lse, m = s.logsumexp(-1, keepdim=True), s.amax(-1, keepdim=True)
        g = self.index_gate(torch.cat([h_BNW, m / self.scale.exp() * 4, lse / 8], -1))[..., 0]
        lp = logp_BNV.gather(-1, labels_BN[..., None])[..., 0]
        hit = (s - lse).masked_fill(kept.words_BKT.flatten(1)[:, None] != labels_BN[..., None], -math.inf)
        hit = torch.cat([hit, torch.full_like(hit[..., :1], -60.0)], -1).logsumexp(-1)
        return -torch.logaddexp(F.logsigmoid(-g) + lp, F.logsigmoid(g) + hit)
