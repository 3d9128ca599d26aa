"""How places are found among a million keys: flat and in two levels, of 32, 8, 4 bits and one. Times are processor time of one thread.

    python benchmarks/trials/far/search.py runs/final16-0.pt --chunk 16

Lists by word: keys are filed under the word before their place; a look reads the list of its own word alone: no key that could be right is left out.
Two levels: keys are filed under the nearest of `lists` centroids (spherical k-means over a sample of the keys); a query reads the `probes` nearest
lists alone. Found: the fact's memory is among the `top` opened by the query's own look, facts as in trial.py.
"""

import argparse
import json
import time

import numpy as np
import torch
from torch.nn import functional as F
from trial import HERE, asked_facts, recents, told_facts
from variants import CopyReader, ReaderConfig, before, quantise

from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus


class TwoLevels:
    """Keys [N, d] of unit length, 8 bits a number, in lists that lie one after the other."""

    def __init__(self, key_Nd, lists, seed=0):
        g = torch.Generator().manual_seed(seed)
        sample = key_Nd[torch.randperm(len(key_Nd), generator=g)[: 16 * lists]]
        centre = sample[:lists].clone()
        for _ in range(3):
            near = self.nearest(sample, centre)
            centre = F.normalize(torch.zeros_like(centre).index_add_(0, near, sample) + 1e-4 * centre, dim=-1)
        near_N = self.nearest(key_Nd, centre)
        self.place_N = near_N.argsort(stable=True)
        self.key_Nd = (key_Nd[self.place_N] * 254).round().clamp(-127, 127).to(torch.int8)
        self.end = torch.bincount(near_N, minlength=lists).cumsum(0).tolist()
        self.centre = centre

    @staticmethod
    def nearest(x, centre):
        return torch.cat([(part @ centre.T).argmax(-1) for part in x.split(4096)])

    def find(self, q_d, probes, T, top):
        near = (self.centre @ q_d).topk(probes)[1].tolist()
        spans = [(self.end[i - 1] if i else 0, self.end[i]) for i in near]
        key = torch.cat([self.key_Nd[a:b] for a, b in spans])
        place = torch.cat([self.place_N[a:b] for a, b in spans])
        q8 = (q_d * 254).round().clamp(-127, 127).to(torch.int8)
        s = torch._int_mm(key, q8[:, None])[:, 0] if len(key) > 16 else (key.int() * q8.int()).sum(-1)
        best, at = s.topk(min(len(s), 8 * top))
        memory, seen = (place[at] // T).tolist(), {}
        for m in memory:
            seen.setdefault(m, None)
            if len(seen) == top:
                break
        return list(seen)


class Lists:
    """Keys [N, d], 8 bits a number, filed under the word before their place."""

    def __init__(self, key_Nd, word_N, vocab):
        self.place_N = word_N.argsort(stable=True)
        self.key_Nd = (key_Nd[self.place_N] * 254).round().clamp(-127, 127).to(torch.int8)
        self.end = [0, *torch.bincount(word_N, minlength=vocab).cumsum(0).tolist()]

    def find(self, q8_d, word, T, top):
        a, b = self.end[word], self.end[word + 1]
        if a == b:
            return []
        key = self.key_Nd[a:b]
        s = torch._int_mm(key, q8_d[:, None])[:, 0] if b - a > 16 else key.int() @ q8_d.int()
        at = s.topk(min(b - a, 8 * top))[1]
        return list(dict.fromkeys((self.place_N[a:b][at] // T).tolist()))[:top]


def flat(key_Nd, q_d, T, top):
    s = torch._int_mm(key_Nd, q_d[:, None])[:, 0] if key_Nd.dtype == torch.int8 else key_Nd @ q_d
    return s.view(-1, T).amax(-1).topk(top)[1].tolist()


def clock(f, items, least=3):
    f(items[0])
    times = []
    for x in items[: max(least, 40)]:
        t = time.process_time()
        f(x)
        times.append(time.process_time() - t)
    return 1e3 * float(np.median(times))


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("reader")
    ap.add_argument("--chunk", type=int, default=16)
    ap.add_argument("--places", type=int, nargs="*", default=[16384, 65536, 1048576])
    ap.add_argument("--asks", type=int, default=128)
    ap.add_argument("--top", type=int, default=8)
    ap.add_argument("--lists-alone", action="store_true")
    a = ap.parse_args()
    tune_cpu(), torch.set_num_threads(1)
    weights = torch.load(a.reader, weights_only=True)
    T, V, d = a.chunk, weights["embed.weight"].shape[0], weights["key.weight"].shape[0]
    reader = CopyReader(ReaderConfig(vocab_size=V, chunk_tokens=T, width=weights["hidden.weight"].shape[1], key_dim=d, heads=len(weights["lm"]), gate_hidden=weights["gate_in.weight"].shape[0]))
    reader.load_state_dict(weights)
    stream = np.asarray(Corpus.open("data/gutenberg").train.tokens)
    for N in a.places:
        K, rows = N // T, {}
        g = np.random.default_rng(1)
        text, f = told_facts(stream[100_000 : 100_000 + N].astype(np.int64).reshape(K, T), 2, V, g)
        asked = g.choice(K, a.asks, replace=False)
        q, pos, _ = asked_facts(f, asked, T, V, g)
        bef = recents(q, text.reshape(-1)[-8:][::-1].copy(), 8).flatten(0, 1)[pos.reshape(-1)]
        query = F.normalize(reader.summed(bef, reader.query.weight), dim=-1)
        key = reader.keys(before(torch.from_numpy(text).reshape(1, -1), 8))[0]
        memory = np.repeat(asked, 2)
        key8, query8 = ((x * 254).round().clamp(-127, 127).to(torch.int8) for x in (key, query))

        def found(f, items):
            return round(100 * float(np.mean([m in f(x) for x, m in zip(items, memory, strict=True)])), 2)

        for bits in (32, 8, 4, 2, 1):
            k = quantise(key, bits)
            rows[f"flat, {bits} bits"] = {"found": found(lambda x: flat(k, x, T, a.top), query), "bytes": d * bits / 8}
        rows["flat, 32 bits"]["ms"] = clock(lambda x: flat(key, x, T, a.top), query)
        rows["flat, 8 bits"]["ms"] = clock(lambda x: flat(key8, x, T, a.top), query8)
        t = time.process_time()
        filed = Lists(key, before(torch.from_numpy(text).reshape(1, -1), 8)[0, :, 0], V)
        items = list(zip(query8, bef[:, 0].tolist(), strict=True))
        rows["lists by word, 8 bits"] = {"found": found(lambda x: filed.find(*x, T, a.top), items), "ms": clock(lambda x: filed.find(*x, T, a.top), items), "build_s": time.process_time() - t}
        plain = stream[3_000_000 : 3_000_000 + 400].astype(np.int64)
        bef = before(torch.from_numpy(plain)[None], 8)[0, 8:]
        query = F.normalize(reader.summed(bef, reader.query.weight), dim=-1)
        items = list(zip((query * 254).round().clamp(-127, 127).to(torch.int8), bef[:, 0].tolist(), strict=True))
        times = [clock(lambda x: filed.find(*x, T, a.top), items[i : i + 2], least=2) for i in range(0, 390, 2)]
        rows["lists by word, 8 bits, plain text"] = {"ms": float(np.mean(times)), "ms at most": max(times)}
        if a.lists_alone:
            rows = {k: v for k, v in rows.items() if k.startswith(("flat", "lists"))}
        lists = 0 if a.lists_alone else 2 ** int(np.log2(N) / 2)
        t = time.process_time()
        two = TwoLevels(key, lists) if lists else None
        for probes in (4, 8, 16, 32) if lists else ():
            rows[f"two levels, {lists} lists, {probes} read"] = {"found": found(lambda x: two.find(x, probes, T, a.top), query), "ms": clock(lambda x: two.find(x, probes, T, a.top), query), "build_s": round(time.process_time() - t, 1)}
        row = {"name": "search", "reader": a.reader, "chunk": T, "key_dim": d, "places": N, "rows": {k: {i: round(j, 3) for i, j in v.items()} for k, v in rows.items()}}
        print(json.dumps(row), flush=True)
        with open(HERE / "results.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
