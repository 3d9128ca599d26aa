"""Texts that vectors are of, in the place of a corpus: of each, the first T tokens are what a probe is asked for."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from memlm.bank.digest import tokenizer_sha256
from memlm.data.corpus import Windows
from memlm.data.split import Part
from memlm.errors import UsageError
from memlm.files import sha256_json
from memlm.tokens.pieces import cut_pieces
from memlm.tokens.tokenizer import token_bytes, tokenise_pieces, train_tokenizer

HELD_OUT = 5  # one text of so many is held out
_VOCABULARY = 1024


class GivenTexts:
    """Texts with a tokenizer, split into those to learn from and held-out ones.

    A fifth is held out, by the hash of the chunk: whatever the order of the texts, and the same chunk never on both
    sides (equal chunks are taken once).

    Args:
        texts: what vectors are of, or what an encoder shall be asked for.
        tokenizer: whose tokens the probe is asked for; None: one of 1,024 tokens is trained on the texts.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer | None = None):
        self.texts = texts
        self.tokenizer = tokenizer or train_tokenizer(texts, _VOCABULARY)
        self.hash = sha256_json([tokenizer_sha256(self.tokenizer), list(texts)])
        self.vocab_size = self.tokenizer.get_vocab_size()
        self._first: dict[int, tuple[np.ndarray, dict[bytes, int]]] = {}

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text of every token id: int32 [vocab]."""
        return token_bytes(self.tokenizer)

    def chunks(self, part: Part, tokens: int, limit: int) -> Windows:
        """Chunks of a part, so many at most: fewer are the first of more. Each text is a document of its own.

        UsageError where too few texts have that many tokens, or another part is asked for than train and test.
        """
        chunks_NT, _ = self._chunks(tokens)
        if part == "tune":
            raise UsageError("texts that are given have two parts: train and test.")
        if len(chunks_NT) < 4:
            raise UsageError(
                f"{len(chunks_NT)} different texts of {len(self.texts)} have {tokens} tokens, too few to measure: give "
                "more texts, longer ones, or a shorter chunk length."
            )
        aside = max(2, len(chunks_NT) // HELD_OUT)
        found_NT = (chunks_NT[aside:] if part == "train" else chunks_NT[:aside])[:limit]
        return Windows(found_NT, np.arange(len(found_NT)))

    sample = chunks  # they are in the order of a hash

    def numbers(self, tokens_NT: np.ndarray) -> np.ndarray:
        """Of which text each chunk is [N]."""
        _, numbers = self._chunks(tokens_NT.shape[1])
        return np.array([numbers[row.tobytes()] for row in np.ascontiguousarray(tokens_NT, np.int64)])

    def told(self, tokens: int) -> dict[str, Any]:
        """How many texts there are, and how many are left out or go on after the chunk."""
        lengths = np.array([len(ids) for ids in self._ids])
        chunks, _ = self._chunks(tokens)
        short, longer = int((lengths < tokens).sum()), int((lengths > tokens).sum())
        repeated = len(lengths) - short - len(chunks)
        return {"texts": len(lengths), "texts_short": short, "texts_longer": longer, "texts_repeated": repeated}

    @cached_property
    def _ids(self) -> list[np.ndarray]:
        """Token ids of every text."""
        pieces = [(number, piece) for number, text in enumerate(self.texts) for piece in cut_pieces([text])]
        found: list[list[np.ndarray]] = [[np.empty(0, np.int64)] for _ in self.texts]
        for (number, _), ids in zip(pieces, tokenise_pieces(self.tokenizer, (p for _, p in pieces)), strict=True):
            found[number].append(ids.astype(np.int64))
        return [np.concatenate(parts) for parts in found]

    def _chunks(self, tokens: int) -> tuple[np.ndarray, dict[bytes, int]]:
        """Different first chunks [N, T] in the order of their hashes, and of which text each is."""
        if tokens not in self._first:
            numbers: dict[bytes, int] = {}
            for number, ids in enumerate(self._ids):
                if len(ids) >= tokens:
                    numbers.setdefault(ids[:tokens].tobytes(), number)
            rows = sorted(numbers, key=lambda row: hashlib.sha256(row).digest())
            self._first[tokens] = np.frombuffer(b"".join(rows), np.int64).reshape(-1, tokens).copy(), numbers
        return self._first[tokens]
