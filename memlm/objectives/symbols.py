"""Symbols: the tokens that keys and values are drawn from, in training and, others, where access is measured.

A hash of its id deals every ordinary token of a vocabulary out, whatever the run and its seed:

- `unseen`, a quarter: no objective ever draws one as a key or a value;
- the rest, which objectives draw from; of these a quarter of the vocabulary, `trained`, is measured beside the unseen.

Models know all of them from text. That one stands for another is what they were never trained on with unseen ones:
access to these is access to anything, access to trained ones may be what was learnt by heart.
"""

from functools import cache
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor

from memlm.nn.vocabulary import END

Symbols = Literal["unseen", "trained", "all"]
_HASHES = {"unseen": range(64), "trained": range(64, 128), "all": range(256), None: range(64, 256)}


@cache
def symbols(vocab_size: int, which: Symbols | None = None) -> Tensor:
    """The token ids [S] below `vocab_size` that are measured as unseen or trained; None: that training draws from.

    `all` are all: keys of two among thousands of facts, which a quarter of a small vocabulary has too few of.
    """
    tokens, hashes = range(END + 1, vocab_size), _HASHES[which]
    drawn = [token for token in tokens if blake2b(token.to_bytes(4, "little"), digest_size=1).digest()[0] in hashes]
    return torch.tensor(drawn, dtype=torch.long)
