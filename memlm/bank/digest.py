"""What makes two sets of memories, or two tokenizers, the same."""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from memlm.files import sha256_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def sha256_rows(rows: np.ndarray) -> str:
    """SHA-256 of the bytes of a C-contiguous array, read in pieces: it may be a file larger than memory."""
    digest = hashlib.sha256()
    for i in range(0, len(rows), 4096):
        digest.update(rows[i : i + 4096].tobytes())
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: "Tokenizer") -> str:
    """SHA-256 over what decides the ids of a text.

    Saved beside a model, a tokenizer gains a post-processor that adds nothing; that, truncation and padding are left
    out, so that a data set's and its model's are the same.
    """
    told = json.loads(tokenizer.to_str())
    return sha256_json({key: value for key, value in told.items() if key not in _NOT_OF_IDS})


_NOT_OF_IDS = ("post_processor", "truncation", "padding", "version")
