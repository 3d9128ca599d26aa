"""Tokenising a stream of text into arrays of ids against the tokenizers library's own batch calls on the same text, all
of it at hand in a list. Asked: at least 0.8 of the library's best.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from memlm.bench.form import Options, Report
from memlm.bench.timing import for_seconds, pair_ratio
from memlm.data.corpus import Corpus
from memlm.tokens.pieces import cut_pieces
from memlm.tokens.tokenizer import tokenise_pieces

TOKENS = 1 << 19  # of text at most, over a megabyte
OURS = "tokenise_pieces"


def run(options: Options, *, limit: int = TOKENS) -> Report:
    """Tokenise the corpus' text, given as pieces and as lines, in turn."""
    corpus = options.corpus()
    tokenizer, documents = corpus.tokenizer, list(texts(corpus, limit))
    parts = {
        "pieces": [piece for text in documents for piece in cut_pieces([text])],
        "lines": [line for text in documents for line in text.splitlines(keepends=True)],
    }
    pieces, size = parts["pieces"], sum(len(text.encode()) for text in documents)
    sides: dict[str, Callable[[], Any]] = {OURS: lambda: deque(tokenise_pieces(tokenizer, pieces), maxlen=0)}
    for call, cut in product(("encode_batch", "encode_batch_fast"), parts):
        sides[f"{call}, {cut}"] = partial(getattr(tokenizer, call), parts[cut], add_special_tokens=False)
    ours = np.concatenate(list(tokenise_pieces(tokenizer, pieces)))
    same = np.array_equal(ours, [i for e in sides["encode_batch_fast, pieces"]() for i in e.ids])
    times = for_seconds(sides, options.seconds or 10.0)
    best = min((name for name in sides if name != OURS), key=lambda name: median(times[name]))
    return Report(
        name="tokenise",
        columns=("call", "MB/s (median)", "ours is so many times as fast (median of pairs)"),
        rows=[(name, size / 1e6 / median(t), pair_ratio(t, times[OURS])) for name, t in times.items()],
        ratios={f"MB/s, ours / {best}, the library's best (asked, at least 0.8)": pair_ratio(times[best], times[OURS])},
        setting=(
            f"{size / 1e6:.1f} MB of {len(documents)} documents, vocabulary {corpus.vocab_size}, data "
            f"{corpus.hash[:12]}, as {len(pieces)} pieces and as {len(parts['lines'])} lines, {len(times[OURS])} "
            "rounds in turn"
        ),
        notes=[
            f"The same ids from both, on the pieces: {'yes' if same else 'NO'}. Cut into lines the text tokenises "
            "differently where white space spans them.",
            "Ours gives arrays and starts each time with an empty table; the library's calls are timed without reading "
            "the ids out of what they give, and keep their cache of words from call to call.",
        ],
        raw={"seconds": times, "bytes": size, "tokens": len(ours), "same_ids": same},
    )


def texts(corpus: Corpus, limit: int) -> Iterator[str]:
    """The text of the documents, exactly (a byte-level BPE loses nothing), until `limit` tokens are spent."""
    for stream in (corpus.train, corpus.tune, corpus.test):
        for start, end in zip(stream.documents[:-1], stream.documents[1:] - 1, strict=True):  # without its end token
            ids = stream.tokens[start : min(end, start + limit)]
            if len(ids):
                yield corpus.tokenizer.decode(ids.tolist(), skip_special_tokens=False)
            limit -= len(ids)
            if limit <= 0:
                return
