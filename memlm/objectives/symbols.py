"""Symbols: the tokens that keys and values are drawn from, in training and, others, where access is measured.

A hash of a token's id says whether it is `unseen`: a quarter of the ordinary tokens of every vocabulary, which no
objective ever draws as a key or a value, whatever the run and its seed. Models know them from text, as they know all
tokens; that one stands for another is what they were never trained on. Access to them is access to anything, access to
`trained` ones may be what was learnt by heart.
"""

from functools import cache
from hashlib import blake2b
from typing import Literal

import torch
from torch import Tensor

from memlm.nn.vocabulary import END

Symbols = Literal["unseen", "trained"]
_UNSEEN = 64  # of 256 values of the hash


@cache
def symbols(vocab_size: int, which: Symbols) -> Tensor:
    """The token ids [S] below `vocab_size` that are unseen, or trained; special tokens are neither."""
    hashes = (blake2b(token.to_bytes(4, "little"), digest_size=1).digest()[0] for token in range(END + 1, vocab_size))
    unseen = torch.tensor([value < _UNSEEN for value in hashes])
    return torch.nonzero(unseen == (which == "unseen")).flatten() + END + 1
