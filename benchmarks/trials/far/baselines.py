"""What a table of words and BM25 find of the same facts: `python baselines.py --chunk 16`. Rows go to results.jsonl.

Table: the places after the same last 3 words, else the same last 2, newest first; found: the fact's memory is among the first `top`; right: the
newest one's continuation. BM25 (k1 1.5, b 0.75; chunks are of one length): the words of the key, and of the value so far, against every chunk.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from trial import HERE, asked_facts, told_facts

from memlm.data.corpus import Corpus


def table(text_KT, queries, labels, memory, top):
    K, T = text_KT.shape
    flat, found, right = text_KT.reshape(-1), [], []
    index = {}
    for n in (3, 2):
        code = np.zeros(len(flat) - n, np.int64)
        for i in range(n):
            code = code * 4096 + flat[i : len(flat) - n + i]
        order = np.argsort(code, kind="stable")
        index[n] = code[order], order + n
    for q, label, m in zip(queries, labels, memory, strict=True):
        places = []
        for n in (3, 2):
            if len(q) >= n:
                c = 0
                for w in q[-n:]:
                    c = c * 4096 + int(w)
                codes, at = index[n]
                places += list(at[np.searchsorted(codes, c) : np.searchsorted(codes, c, "right")][::-1])
        found.append(m in [p // T for p in places][:top])
        right.append(bool(places) and flat[places[0]] == label)
    return [round(100 * float(np.mean(x)), 2) for x in (found, right)]


def bm25(text_KT, queries, memory, top):
    K, T = text_KT.shape
    found, cache = [], {}
    for q, m in zip(queries, memory, strict=True):
        s = np.zeros(K)
        for w in q:
            if w not in cache:
                tf = (text_KT == w).sum(1)
                df = (tf > 0).sum()
                cache[w] = np.log(1 + (K - df + 0.5) / (df + 0.5)) * tf * 2.5 / (tf + 1.5)
            s += cache[w]
        found.append(((s > s[m]).sum() + (s == s[m]).sum() / 2) < top)
    return round(100 * float(np.mean(found)), 2)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--chunk", type=int, default=16)
    ap.add_argument("--book", type=int, default=0)
    ap.add_argument("--contexts", type=int, nargs="*", default=[64, 1024, 4096])
    ap.add_argument("--asks", type=int, default=256)
    ap.add_argument("--top", type=int, default=12)
    a = ap.parse_args()
    corpus = Corpus.open(Path("data/gutenberg"))
    docs, T, V = corpus.valid.documents, a.chunk, corpus.vocab_size
    book = np.asarray(corpus.valid.tokens[docs[a.book] : docs[a.book + 1] - 1]).astype(np.int64)
    stream = np.asarray(corpus.train.tokens).astype(np.int64)
    rows = {}
    for length, changed in ((2, False), (3, False), (3, True)):
        for K in a.contexts:
            g = np.random.default_rng([7, length, changed, K, 0])
            filler = book if len(book) > K * T else stream
            st = int(g.integers(0, max(1, len(filler) - K * T)))
            text, f = told_facts(filler[st : st + K * T].reshape(K, T), length, V, g)
            asked = g.choice(K, min(a.asks, K), replace=False)
            q, pos, lab = asked_facts(f, asked, T, V, g, changed)
            flat = q.reshape(-1)
            queries = [flat[p - length - v : p] for pv in pos for v, p in enumerate(pv)]
            memory = np.repeat(asked, 2)
            rows[f"{length}{'~' if changed else ''}/{K}"] = [*table(text, queries, lab.reshape(-1), memory, a.top), bm25(text, queries, memory, a.top)]
    row = {"name": "table and BM25", "chunk": T, "book": corpus.valid.names[a.book], "top": a.top, "table found, right; BM25 found": rows}
    print(json.dumps(row))
    with open(HERE / "results.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
