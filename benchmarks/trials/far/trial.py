"""Train one copy head beside a frozen language model and measure it: next tokens, facts, quotations.

    python -m memlm prepare gutenberg --out data/gutenberg
    python -m memlm train memory-none --data data/gutenberg --out runs/lm16-0 --seed 0     (lm64-0: --model.encoder.chunk-tokens 64)
    python benchmarks/trials/far/trial.py NAME --chunk 16 --seed 0 --steps 800 --reader.top 8
One line of results.jsonl a run. Memories stand for the words they recall; --ae AUTOENCODER measures with true ones.
"""

import argparse
import json
import math
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from variants import CopyReader, Kept, ReaderConfig, before, told

from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus
from memlm.loading import load_model
from memlm.train.optim import learning_rate

HERE = Path(__file__).parent
FAST = ("pattern", "length", "rare", "head_scale", "scale", "lm", "ago")  # numbers of their own: learnt faster
EARLIER = 16  # words kept before a row


class Language:
    """A frozen language model over chunks: hidden states and log-probabilities."""

    def __init__(self, path: str):
        self.model = load_model(path).eval().requires_grad_(False)
        self.T = self.model.chunk_tokens
        self.width, self.vocab = self.model.embed.weight.shape[1], self.model.embed.weight.shape[0]

    @torch.no_grad()
    def __call__(self, ids_BT):
        h = self.model.decoder(self.model.embed_chunks(ids_BT[:, None])[:, 0])
        return h, self.model.head(h).log_softmax(-1)


# -- examples: memories' words, the words before them, questions, labels, which are asked


def text_rows(stream, B, K, T, g):
    """Windows of K memories and the chunk after them: rows [B, K + 1, T] and the words before them [B, EARLIER]."""
    n = (K + 1) * T
    st = g.integers(EARLIER, len(stream) - n, B)
    rows = torch.from_numpy(np.stack([stream[i - EARLIER : i + n] for i in st]).astype(np.int64))
    return rows[:, EARLIER:].reshape(B, K + 1, T), rows[:, :EARLIER].flip(-1)


def told_facts(text_KT, length, vocab, g, collide=0.0):
    """Write `length` key and 2 value tokens at a random place of every chunk; all keys differ. Facts [K, length + 2].

    A share `collide` of the keys ends with two words that follow each other in the text (in training alone).
    """
    K, T = text_KT.shape
    text_KT = text_KT.copy()
    room = vocab - 2
    keys = np.unique(g.integers(0, room**length, 2 * K + 8))
    keys = g.permutation(keys)[:K]
    parts = [keys // room**i % room + 2 for i in range(length)]
    f = np.stack([*parts, g.integers(2, vocab, K), g.integers(2, vocab, K)], 1)
    if collide:
        pick = g.random(K) < collide
        place = g.integers(0, K * T - 1, pick.sum())
        f[pick, length - 2 : length] = text_KT.reshape(-1)[place[:, None] + np.arange(2)]
    at = g.integers(0, T - length - 1, K)
    text_KT[np.arange(K)[:, None], at[:, None] + np.arange(length + 2)] = f
    return text_KT, f


def asked_facts(f_KF, asked, T, vocab, g, changed=False):
    """Question chunks [Q, T] of the facts `asked`; where their values stand [A, 2] in the flat questions, and the labels."""
    A, F = len(asked), f_KF.shape[1]
    each = T // F
    Q = -(-A // each)
    q = f_KF[asked].copy()
    if changed:
        column = g.integers(0, F - 2, A)
        q[np.arange(A), column] = (q[np.arange(A), column] - 2 + g.integers(1, vocab - 2, A)) % (vocab - 2) + 2
    chunks = np.zeros((Q, T), np.int64)
    for a in range(A):
        chunks[a // each, a % each * F : (a % each + 1) * F] = q[a]
    base = np.arange(A) // each * T + np.arange(A) % each * F + F - 2
    return chunks, np.stack([base, base + 1], 1), f_KF[asked][:, F - 2 :]


def recents(chunks_QT, earlier_n, n):
    """The n words before every place of question chunks, all of which follow the same text: [Q, T, n]."""
    earlier = torch.as_tensor(earlier_n)[:n].flip(0).expand(len(chunks_QT), n)
    return before(torch.as_tensor(chunks_QT), n, earlier)


def fact_batch(stream, lm, B, K, length, changed, g, n, asks, collide):
    T = lm.T
    words, h, lp, bef, lab, where = [], [], [], [], [], []
    st = g.integers(0, len(stream) - K * T, B)
    q_all, pos_all = [], []
    for b in range(B):
        text, f = told_facts(np.asarray(stream[st[b] : st[b] + K * T], dtype=np.int64).reshape(K, T), length, lm.vocab, g, collide)
        asked = g.choice(K, min(asks, K), replace=False) if asks <= K else g.choice(K, asks)
        q, pos, labels = asked_facts(f, asked, T, lm.vocab, g, changed)
        q_all.append(q), pos_all.append(pos.reshape(-1)), words.append(text), lab.append(labels.reshape(-1))
        where.append(np.repeat(asked, 2))
        bef.append(recents(q, text.reshape(-1)[::-1][:n].copy(), n).flatten(0, 1)[pos.reshape(-1)])
    q_all = torch.from_numpy(np.stack(q_all))
    Q = q_all.shape[1]
    h_all, lp_all = lm(q_all.flatten(0, 1))
    told_all = told(lp_all, q_all.flatten(0, 1))
    idx = torch.from_numpy(np.stack(pos_all))
    h = torch.stack([h_all.reshape(B, Q * T, -1)[b, idx[b]] for b in range(B)])
    lp = torch.stack([lp_all.reshape(B, Q * T, -1)[b, idx[b]] for b in range(B)])
    tl = torch.stack([told_all.reshape(B, Q * T, -1)[b, idx[b]] for b in range(B)])
    words, lab, where = (torch.from_numpy(np.stack(x)).long() for x in (words, lab, where))
    return words, h, lp, torch.stack(bef), tl, lab, where


def quote_batch(words_KT, lm, asks, g, n, given=8, wanted=16):
    """Passages of memories: `given` words are told, `wanted` asked. Labels [A, wanted] and what a reader needs of each."""
    K, T = words_KT.shape
    flat = words_KT.reshape(-1)
    at = g.integers(0, K * T - given - wanted, asks)
    q = flat[at[:, None] + np.arange(given + wanted)]
    Q = -(-(given + wanted) // T)
    chunks = np.zeros((asks, Q * T), np.int64)
    chunks[:, : given + wanted] = q
    bef = recents(chunks, flat[::-1][:n].copy(), n)[:, given : given + wanted]
    ids = torch.from_numpy(chunks.reshape(asks * Q, T))
    h, lp = lm(ids)
    h, lp, tl = (x.reshape(asks, Q * T, -1)[:, given : given + wanted] for x in (h, lp, told(lp, ids)))
    where = (at[:, None] + given + np.arange(wanted)) // T
    return h, lp, bef, tl, torch.from_numpy(q[:, given:]), torch.from_numpy(where)


# -- training


def train(reader, lm, stream, a):
    g = np.random.default_rng(a.seed)
    T, n = lm.T, max(reader.config.match, reader.config.words)
    fast = [p for name, p in reader.named_parameters() if name in FAST]
    rest = [p for name, p in reader.named_parameters() if name not in FAST]
    groups = [{"params": rest, "times": 1.0}, {"params": fast, "times": a.fast}]
    opt = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    class Course:
        warmup, decay_from, final = 20, 0.3, 0.02

    def count(most):
        return int(round(math.exp(g.uniform(math.log(a.least), math.log(most + 0.49)))))

    log = {"next": [], "index": [], "facts": [], "quotes": []}
    t0 = time.time()
    for step in range(a.steps):
        for group in opt.param_groups:
            group["lr"] = a.lr * group["times"] * learning_rate(Course, step, a.steps)
        K, C = count(a.most), a.asked_chunks
        x, earlier = text_rows(stream, a.batch // C, K + C - 1, T, g)
        h, lp = lm(x[:, -C:].reshape(-1, T))
        h, lp, tl = (y.unflatten(0, (-1, C)).flatten(1, 2) for y in (h, lp, told(lp, x[:, -C:].reshape(-1, T))))
        kept = reader.keep(x[:, :-1], earlier[:, :n].flip(-1))
        bef = before(x.flatten(1), n, earlier[:, :n].flip(-1))[:, -C * T :]
        seen = torch.arange(K, K + C).repeat_interleave(T)
        score, labels = reader.find(reader.queries(bef, h), kept, seen), x[:, -C:].flatten(1)
        index = reader.index_nll(h, kept, lp, labels, score).mean()
        loss, alone = a.index * index, -lp.gather(-1, labels[..., None]).mean().item()
        if not a.reader_index_alone:
            next_ = reader.nll(h, bef, tl, kept, lp, labels, score, seen).mean()
            loss = loss + next_
            log["next"].append(next_.item() - alone)
        log["index"].append(index.item() - alone)
        if a.facts:
            kind = g.choice(3, p=a.kinds)
            K = count(a.facts_most)
            words, h, lp, bef, tl, lab, where = fact_batch(stream, lm, a.fact_batch, max(4, K), 2 if kind == 0 else 3, kind == 2, g, n, a.asks, a.collide)
            kept = reader.keep(words)
            score = reader.find(reader.queries(bef, h), kept)
            f = reader.index_nll(h, kept, lp, lab, score).mean()
            if a.key_loss:
                f = f + a.key_loss * torch.nn.functional.cross_entropy(score.logsumexp(-1).flatten(0, 1), where.flatten())
            if not a.reader_index_alone:
                f = f + reader.nll(h, bef, tl, kept, lp, lab, score).mean()
            loss = loss + a.facts * f
            log["facts"].append(f.item())
        if a.quotes:
            K = max(4, 32 // T + 1, count(a.most))
            st = int(g.integers(0, len(stream) - K * T))
            words = np.asarray(stream[st : st + K * T], dtype=np.int64).reshape(K, T)
            kept = reader.keep(torch.from_numpy(words)[None])
            h, lp, bef, tl, lab, where = (y.flatten(0, 1)[None] for y in quote_batch(words, lm, 8, g, n))
            f = reader.nll(h, bef, tl, kept, lp, lab).mean()
            loss = loss + a.quotes * f
            log["quotes"].append(f.item())
        loss.backward()
        opt.step()
        opt.zero_grad()
        if a.verbose and step % 100 == 99:
            print(step + 1, f"{time.time() - t0:.0f}s", {k: round(float(np.mean(v[-100:])), 3) for k, v in log.items() if v}, flush=True)
    return time.time() - t0


# -- measuring


@torch.no_grad()
def eval_next(reader, lm, book, contexts, chunks, n, by_kind=False, recall=lambda x: x):
    """Mean nats a token over `chunks` chunks spread over the book, by number of memories; 0: the language model alone."""
    T = lm.T
    most = max(contexts)
    N = len(book) // T
    starts = np.linspace(most, N - 1, min(chunks, N - most)).astype(int)
    ids = torch.from_numpy(book[: N * T].astype(np.int64)).reshape(1, N, T)
    kept = reader.keep(recall(ids[0])[None])
    true = before(ids.flatten(1), n).unflatten(1, (N, T))
    sums = {K: [] for K in [0, *contexts]}
    seen_all = []
    for i in range(0, len(starts), 64):
        s = starts[i : i + 64]
        h, lp = lm(ids[0, s])
        tl = told(lp, ids[0, s])
        base = -lp.gather(-1, ids[0, s][..., None])[..., 0]
        sums[0].append(base)
        for j, c in enumerate(s):
            bef = true[:, c]
            part = Kept(kept.words_BKT[:, c - most : c], kept.before_BKTn[:, c - most : c], kept.key_BPd[:, (c - most) * T : c * T])
            q = reader.queries(bef, h[j : j + 1])
            score = reader.find(q, part) if not reader.config.ssmax else None
            lab = ids[:, c]
            if by_kind:
                w = part.words_BKT.flatten()
                p = part.before_BKTn[0, ..., :2].flatten(0, 1)
                seen_all.append([bool(((w == lab[0, t]) & (p == bef[0, t, :2]).all(-1)).any()) for t in range(T)])
            for K in contexts:
                sub = part.last(K)
                sums[K].append(reader.nll(h[j : j + 1], bef, tl[j : j + 1], sub, lp[j : j + 1], lab, None if score is None else score[:, :, -K:]))
    out = {K: torch.cat([x.reshape(-1, T) for x in v]).flatten().numpy() for K, v in sums.items()}
    res = {str(K): round(float(v.mean()), 4) for K, v in out.items()}
    if by_kind:
        seen = np.array(seen_all).reshape(-1)
        res["seen"] = {"share": round(float(seen.mean()), 3), **{str(K): [round(float(v[seen].mean()), 3), round(float(v[~seen].mean()), 3)] for K, v in out.items()}}
    return res


@torch.no_grad()
def eval_facts(reader, lm, fillers, contexts, asks, seed, n, kinds=((2, False), (3, False), (3, True)), draws=1, recall=lambda x: x):
    """Found, right (value tokens), exact (both values) in percent by kind and number of memories."""
    T, rows = lm.T, {}
    for length, changed in kinds:
        for K in contexts:
            found, right, exact = [], [], []
            for d in range(draws if K < 16384 else 1):
                g = np.random.default_rng([seed, length, changed, K, d])
                filler = next(f for f in fillers if len(f) >= K * T)  # the book, all held-out books, else books trained on
                st = int(g.integers(0, max(1, len(filler) - K * T)))
                text = np.resize(filler[st : st + K * T], K * T).astype(np.int64).reshape(K, T)
                text, f = told_facts(text, length, lm.vocab, g)
                asked = g.choice(K, min(asks if K * T < 1e6 else asks // 2, K), replace=False)
                q, pos, lab = asked_facts(f, asked, T, lm.vocab, g, changed)
                kept_words = recall(torch.from_numpy(text))[None]
                kept = reader.keep(kept_words)
                bef = recents(q, kept_words.flatten()[-n:].flip(0).numpy(), n).flatten(0, 1)[pos.reshape(-1)]
                h, lp = lm(torch.from_numpy(q))
                h, lp, tl = (x.flatten(0, 1)[pos.reshape(-1)] for x in (h, lp, told(lp, torch.from_numpy(q))))
                ok, op = [], []
                for i in range(0, len(h), step := max(2, 2**24 // (K * T))):
                    m, o = reader.mix(h[None, i : i + step], bef[None, i : i + step], tl[None, i : i + step], kept, lp[None, i : i + step])
                    ok.append(m.argmax(-1)[0]), op.append(o[0])
                ok, op = torch.cat(ok).reshape(-1, 2).numpy() == lab, torch.cat(op)
                op = (op == torch.from_numpy(np.repeat(asked, 2))[:, None]).any(-1).numpy()
                found.append(op), right.append(ok.reshape(-1)), exact.append(ok.all(-1))
            rows[f"{length}{'~' if changed else ''}/{K}"] = [round(100 * float(np.concatenate(x).mean()), 2) for x in (found, right, exact)]
    return rows


@torch.no_grad()
def eval_quotes(reader, lm, book, contexts, asks, seed, n, recall=lambda x: x):
    """Quotations continued: found, right (true words before), in percent; free: the reader's own words before."""
    T, rows = lm.T, {}
    for K in contexts:
        g = np.random.default_rng([seed, K])
        right, found, free = [], [], []
        for d in range(4):
            st = int(g.integers(0, len(book) - K * T))
            words = book[st : st + K * T].astype(np.int64).reshape(K, T)
            kept = reader.keep(recall(torch.from_numpy(words))[None])
            h, lp, bef, tl, lab, where = quote_batch(words, lm, asks, g, n)
            for i in range(0, asks, step := max(1, 2**20 // (K * T))):
                m, o = reader.mix(h[i : i + step].flatten(0, 1)[None], bef[i : i + step].flatten(0, 1)[None], tl[i : i + step].flatten(0, 1)[None], kept, lp[i : i + step].flatten(0, 1)[None])
                right.append((m.argmax(-1).reshape(-1, 16) == lab[i : i + step]).numpy())
                found.append((o[0] == where[i : i + step].flatten()[:, None]).any(-1).numpy())
        rows[str(K)] = [round(100 * float(np.concatenate(x).mean()), 2) for x in (found, right)] + [round(100 * float(np.concatenate(right).all(-1).mean()), 2)]
    return rows


def recalling(path):
    """What an autoencoder's memories of chunks [K, T] say, as a function, or the chunks themselves without one."""
    if not path:
        return lambda words_KT: words_KT
    model = load_model(path).eval()

    @torch.no_grad()
    def recall(words_KT):
        parts = torch.as_tensor(words_KT).split(1024)
        return torch.cat([model.decode(model.encode(part)).argmax(-1) for part in parts])

    return recall


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("name")
    ap.add_argument("--chunk", type=int, default=16)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--data", default="data/gutenberg")
    ap.add_argument("--lm", default="")
    ap.add_argument("--steps", type=int, default=800)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--asked-chunks", type=int, default=8)
    ap.add_argument("--quotes", type=float, default=0.1)
    ap.add_argument("--collide", type=float, default=0.0)
    ap.add_argument("--fact-batch", type=int, default=4)
    ap.add_argument("--asks", type=int, default=32)
    ap.add_argument("--least", type=int, default=1)
    ap.add_argument("--most", type=int, default=256)
    ap.add_argument("--facts-most", type=int, default=256)
    ap.add_argument("--facts", type=float, default=0.2)
    ap.add_argument("--index", type=float, default=1.0)
    ap.add_argument("--key-loss", type=float, default=0.0)
    ap.add_argument("--kinds", type=float, nargs=3, default=[0.5, 0.25, 0.25])
    ap.add_argument("--lr", type=float, default=1e-2)
    ap.add_argument("--fast", type=float, default=3.0)
    ap.add_argument("--reader-index-alone", action="store_true")
    ap.add_argument("--contexts", type=int, nargs="*", default=[1, 4, 16, 64, 256, 1024, 4096])
    ap.add_argument("--facts-contexts", type=int, nargs="*", default=[64, 1024, 4096])
    ap.add_argument("--chunks", type=int, default=256)
    ap.add_argument("--eval-asks", type=int, default=256)
    ap.add_argument("--books", nargs="*", type=int, default=[0])
    ap.add_argument("--save", default="")
    ap.add_argument("--load", default="")
    ap.add_argument("--verbose", type=int, default=1)
    ap.add_argument("--ae", default="", help="an autoencoder, whose memories' words are measured with in the place of the true ones")
    ap.add_argument("--full", action="store_true")
    for f in fields(ReaderConfig):
        if f.name not in ("vocab_size", "chunk_tokens", "width"):
            ap.add_argument(f"--reader.{f.name}", type=(lambda x: x == "True") if f.type in (bool, "bool") else int, default=f.default)
    a = ap.parse_args()
    tune_cpu(), torch.manual_seed(a.seed)
    lm = Language(a.lm or f"runs/lm{a.chunk}-{a.seed}")
    corpus = Corpus.open(Path(a.data))
    options = {k.split(".")[1]: v for k, v in vars(a).items() if k.startswith("reader.")}
    reader = CopyReader(ReaderConfig(vocab_size=lm.vocab, chunk_tokens=lm.T, width=lm.width, **options))
    stream = np.asarray(corpus.train.tokens)
    if a.load:
        reader.load_state_dict(torch.load(a.load, weights_only=True))
        seconds = 0.0
    else:
        seconds = train(reader, lm, stream, a)
    if a.save:
        torch.save(reader.state_dict(), a.save)
    reader.eval()
    n = max(reader.config.match, reader.config.words)
    row = {"name": a.name, "seed": a.seed, "chunk": lm.T, "data": a.data, "train_s": round(seconds), "parameters": sum(p.numel() for p in reader.parameters())}
    default = vars(ap.parse_args([a.name]))
    row["changed"] = {k: v for k, v in vars(a).items() if v != default[k] and k not in ("name", "seed", "chunk", "data", "save", "verbose")}
    held = np.asarray(corpus.valid.tokens)
    docs, recall = corpus.valid.documents, recalling(a.ae)
    for b in a.books:
        book = np.asarray(corpus.valid.tokens[docs[b] : docs[b + 1] - 1] if b >= 0 else corpus.valid.tokens)
        contexts = [K for K in a.contexts if len(book) * 0.9 > K * lm.T]
        t = time.time()
        part = {"book": corpus.valid.names[b] if b >= 0 else "all held out", "next": eval_next(reader, lm, book, contexts, a.chunks, n, a.full, recall)}
        part["facts"] = eval_facts(reader, lm, (book, held, stream), [K for K in a.facts_contexts if b == a.books[-1]], a.eval_asks, 7, n, draws=2 if a.full else 1, recall=recall)
        part["quotes"] = eval_quotes(reader, lm, book, [64, 1024], 32, 5, n, recall)
        part["eval_s"] = round(time.time() - t)
        row.setdefault("measured", []).append(part)
        print(json.dumps(part))
    with open(HERE / "results.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    print({k: [round(float(x), 2) for x in v.detach().flatten()] for k, v in reader.named_parameters() if k in ("scale", "growth", "head_scale", "length", "lm", "ago", "pattern")})


if __name__ == "__main__":
    main()
