"""How much of a prediction is copied from each place that is open, and how much is the language model's own.

    share  of an opened place p, in head i: c_i exp(x_i) s q.k_p + P_i[which of 4 words agree] + L_i[how many agree in a
           row, to 8] + sum of R_i[j, w_j] over those of the 4 that agree + (b_i + y_i) log p_LM(w_p) - (a_i + z_i)
           log(1 + age), where x, y, z are linear in the hidden state, and age counts memories; and, where the last word
           agrees, by how unexpected the words around it are (readers/surprise.py)
    order  d_i + v_i are added for the place that a marked chunk has in order, v linear in the hidden state
    gate   between nothing and the heads: of the hidden state, and of how good, how rare, how old, how probable what is
           found is; one softmax over both. P and the gate have a part of their own for marked chunks

Suffixes as in pointer.py, which says what is open; X ways to agree.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memlm.readers.config import PointerReader
from memlm.readers.finding import FAR
from memlm.readers.reader import Queries, Reader
from memlm.readers.surprise import Surprise

WORDS = 4  # n of a key
MATCH = 8  # words before a place that are compared with those before the prediction
STEP = 3.0  # tables and scales are kept in this unit: at one rate they learn as many times faster than matrices


@dataclass(frozen=True)
class Opened:
    """Memories that are open for each query: their numbers, their words after the `MATCH` before, which of these before
    each place agree (bit i: the i-th), and s q.k, `FAR` where nothing is to be seen."""

    number_BQk: Tensor
    words_BQkM: Tensor
    agree_BQJ: Tensor
    near_BQJ: Tensor
    order_BQJ: Tensor | None = None  # bool, the place that a marked chunk has in order

    @property
    def words_BQJ(self) -> Tensor:
        """The words of their places."""
        return self.words_BQkM[..., MATCH:].flatten(2)

    @property
    def seen_BQJ(self) -> Tensor:
        """Which places are to be seen."""
        return self.near_BQJ > FAR / 2


class Shares(Reader):
    """The weights of the mixture, and what it makes of what is open."""

    answers = True  # whether marked chunks are told apart

    def make_shares(self, config: PointerReader, W: int, V: int) -> None:
        """Make the weights; the longest match comes first, and nothing is copied."""
        H = config.heads
        self.scale = nn.Parameter(torch.tensor(math.log(12.0) / STEP))
        self.head_scale = nn.Parameter(torch.linspace(1.0, 0.3, H) / STEP)
        self.pattern = nn.Parameter(torch.zeros(H, 2**WORDS))
        self.length = nn.Parameter(torch.zeros(H, MATCH + 1))
        self.rare = nn.Parameter(torch.zeros(H, WORDS, V))
        self.likely = nn.Parameter(torch.zeros(H))
        self.age = nn.Parameter(torch.zeros(H))
        self.by_hidden = nn.Linear(W, 3 * H, bias=False)
        features = W + 12 * H + 3 + WORDS
        self.gate = nn.Linear(features, H + 1)
        self.gate_in, self.gate_out = nn.Linear(features, config.gate), nn.Linear(config.gate, H + 1)
        if self.answers:
            self.order, self.order_by_hidden = nn.Parameter(torch.zeros(H)), nn.Parameter(torch.zeros(H, W))
            self.marked, self.marked_in = nn.Parameter(torch.zeros(H + 1)), nn.Parameter(torch.zeros(config.gate))
            self.marked_pattern = nn.Parameter(torch.zeros(H, 2**WORDS))
        with torch.no_grad():
            for layer in (self.by_hidden, self.gate, self.gate_out):
                nn.init.zeros_(layer.weight)
            for layer in (self.gate, self.gate_out):
                nn.init.zeros_(layer.bias)
            self.length[0] = torch.arange(MATCH + 1).clamp(max=3) / STEP
            self.gate.bias[0] = 12.0

    def make_surprise(self, config: PointerReader, V: int) -> None:
        """Make what tells how unexpected words are; all else is drawn as without it."""
        with torch.random.fork_rng(devices=[]):
            self.surprise = Surprise(V, config.surprise, config.heads) if config.surprise else None

    def sharpness(self) -> Tensor:
        """s, what a cosine of query and key is multiplied by."""
        return (STEP * self.scale).exp()

    def _shares(
        self, h_BQW: Tensor, recent_BQn: Tensor, opened: Opened, logp_BQV: Tensor, queries: Queries
    ) -> tuple[Tensor, Tensor]:
        """Log share of nothing [B, Q], and of each opened place in each head [B, Q, H, J]."""
        words_BQJ, near_BQJ, agree_BQJ = opened.words_BQJ, opened.near_BQJ, opened.agree_BQJ
        T = words_BQJ.shape[-1] // opened.number_BQk.shape[-1]
        assert queries.logp is not None
        seen_BQJ = opened.seen_BQJ
        none_BQ1 = ~seen_BQJ.any(-1, keepdim=True)
        bit_Xm = _bits(words_BQJ.device)  # of every way to agree
        rare_HBQn = STEP * torch.stack([self.rare[:, i, recent_BQn[..., i]] for i in range(WORDS)], -1)
        scale_BQH1, likely_BQH1, older_BQH1 = self.by_hidden(h_BQW).unflatten(-1, (-1, 3, 1)).unbind(-2)
        age_BQk = (queries.before[..., None] - 1 - opened.number_BQk).clamp(min=0).float().log1p()

        score_BQHJ = near_BQJ[:, :, None] * (STEP * self.head_scale)[:, None] * scale_BQH1.exp()
        number_X, length_X = torch.arange(len(bit_Xm), device=bit_Xm.device), bit_Xm.int().cumprod(-1).sum(-1)
        table_HX = STEP * (self.pattern[:, number_X % 2**WORDS] + self.length[:, length_X])
        table_BQHX = table_HX + torch.einsum("hbqn,xn->bqhx", rare_HBQn, bit_Xm[:, :WORDS].to(rare_HBQn.dtype))
        marked_BQ1 = None if queries.order is None else (queries.order >= 0)[..., None]
        if marked_BQ1 is not None:
            table_BQHX = table_BQHX + STEP * self.marked_pattern[:, number_X % 2**WORDS] * marked_BQ1[..., None]
        agree_BQHJ = agree_BQJ[:, :, None].expand(-1, -1, len(table_HX), -1)
        score_BQHJ = score_BQHJ + table_BQHX.gather(-1, agree_BQHJ)
        likely_BQ1J = logp_BQV.gather(-1, words_BQJ)[:, :, None]
        score_BQHJ = score_BQHJ + (STEP * self.likely[:, None] + likely_BQH1) * likely_BQ1J
        aged_BQ1J = age_BQk.repeat_interleave(T, -1)[:, :, None]
        score_BQHJ = score_BQHJ - (STEP * self.age[:, None] + older_BQH1) * aged_BQ1J
        if self.surprise is not None:
            b_N, q_N, j_N = (seen_BQJ & (agree_BQJ % 2 > 0)).nonzero(as_tuple=True)
            at_NM = opened.words_BQkM[b_N, q_N, j_N // T]
            agree_N3 = 4 * bit_Xm[agree_BQJ[b_N, q_N, j_N], 1:WORDS].to(score_BQHJ)
            told_N4 = torch.cat([agree_N3, likely_BQ1J[b_N, q_N, 0, j_N][:, None].detach()], -1)
            bias_NH = self.surprise.bias(at_NM, MATCH + j_N % T, recent_BQn[b_N, q_N], told_N4).to(score_BQHJ)
            head_H = torch.arange(len(table_HX), device=j_N.device)
            at = b_N[:, None], q_N[:, None], head_H, j_N[:, None]
            score_BQHJ.index_put_(at, bias_NH, accumulate=True)
        if opened.order_BQJ is not None:
            order_BQH = STEP * self.order + h_BQW @ self.order_by_hidden.mT
            score_BQHJ = score_BQHJ + order_BQH[..., None] * opened.order_BQJ[:, :, None]
        score_BQHJ = score_BQHJ.masked_fill(~seen_BQJ[:, :, None], FAR)

        lse_BQH, (best_BQH, at_BQH) = score_BQHJ.logsumexp(-1), score_BQHJ.max(-1)
        said_BQH = words_BQJ.gather(-1, at_BQH)
        same_BQHJ = score_BQHJ.masked_fill(words_BQJ[:, :, None] != said_BQH[..., None], FAR)
        best_agree_BQH = agree_BQJ.gather(2, at_BQH)
        agree_BQHn = bit_Xm[best_agree_BQH, :WORDS].to(logp_BQV.dtype)
        entropy_BQ1 = -(logp_BQV.exp() * logp_BQV).sum(-1, keepdim=True)
        features = [
            h_BQW,
            best_BQH / 8,
            lse_BQH / 8,
            logp_BQV.gather(-1, said_BQH) / 4,
            entropy_BQ1 / 4,
            logp_BQV.amax(-1, keepdim=True),
            (queries.before.clamp(min=1).float().log() / 4)[..., None].expand_as(entropy_BQ1),
            agree_BQHn.flatten(2),
            near_BQJ.gather(2, at_BQH) / self.sharpness(),
            same_BQHJ.logsumexp(-1) - lse_BQH,
            (rare_HBQn.permute(1, 2, 0, 3) * agree_BQHn).sum(-1),
            length_X[best_agree_BQH] / 8,
            age_BQk.gather(2, at_BQH // T) / 4,
            queries.logp[..., :WORDS] / 4,
        ]
        x_BQX = torch.cat(features, -1).masked_fill(none_BQ1, 0)
        mix_BQX, in_BQg = self.gate(x_BQX) + F.pad(lse_BQH, (1, 0)), self.gate_in(x_BQX)
        if marked_BQ1 is not None:
            mix_BQX, in_BQg = mix_BQX + STEP * self.marked * marked_BQ1, in_BQg + STEP * self.marked_in * marked_BQ1
        mix_BQX = mix_BQX + self.gate_out(F.gelu(in_BQg))
        log_BQX = mix_BQX.log_softmax(-1)
        nothing_BQ = log_BQX[..., 0].masked_fill(none_BQ1[..., 0], 0)
        return nothing_BQ, log_BQX[..., 1:, None] + score_BQHJ - lse_BQH[..., None]


def _bits(device: torch.device) -> Tensor:
    """The bits of every number of `MATCH` bits, the lowest first: bool [2^m, m]."""
    number_X = torch.arange(2**MATCH, device=device)
    return (number_X[:, None] >> torch.arange(MATCH, device=device)) % 2 > 0
