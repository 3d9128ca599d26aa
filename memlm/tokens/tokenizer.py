"""A byte-level BPE: trained on a sample, loaded, counted in bytes, and run over a stream of pieces.

Unusual here: GPT-2's pre-tokeniser never joins a word with the white space after it, and words repeat, so
`tokenise_pieces` looks words up in a table and asks the library only for new ones: the same ids, several times faster.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memlm.errors import UsageError, refusing
from memlm.tokens.detokenise import token_spellings
from memlm.tokens.pieces import cut_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END = "<|pad|>", "<|end|>"  # ids 0 and 1 of our own tokenizers; END separates documents and begins a text
_PADS = (PAD, "<|padding|>", "<pad>", "<|endoftext|>")
_ENDS = (END, "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "</s>")
_SMALLEST = 256 + 2  # every byte, and the two special tokens


class Sample:
    """At most `limit` bytes of text, spread evenly over everything offered, chosen while it streams by.

    Keeps every n-th slice; whenever the slices outgrow the limit, every other one goes and n doubles.
    """

    def __init__(self, limit: int, slice_size: int = 16 << 10):
        self.limit, self.slice_size = limit, slice_size
        self._kept: list[tuple[int, str]] = []  # (first character's place in all that was offered, text)
        self._every, self._seen, self._place, self._bytes = 1, 0, 0, 0

    def offer(self, piece: str) -> None:
        """Consider one more piece."""
        for text in cut_pieces([piece], self.slice_size):
            if self._seen % self._every == 0:
                self._kept.append((self._place, text))
                self._bytes += len(text.encode())
            self._seen += 1
            self._place += len(text)
            while self._bytes > self.limit and len(self._kept) > 1:
                self._kept = self._kept[::2]
                self._every *= 2
                self._bytes = sum(len(text.encode()) for _, text in self._kept)

    def texts(self, without: Iterable[tuple[int, int]] = ()) -> list[str]:
        """The sample, without what lies in spans of characters, [start, end) each, in order and apart."""
        spans = list(without)
        starts = [start for start, _ in spans]

        def kept(place: int, end: int) -> bool:
            before = bisect_left(starts, end) - 1  # the last span that begins before the slice ends
            return before < 0 or spans[before][1] <= place

        return [text for place, text in self._kept if kept(place, place + len(text))]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """Train a byte-level BPE that represents every text exactly; it has fewer tokens if there are no pairs to merge.

    UsageError where `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size < _SMALLEST:
        raise UsageError(f"a vocabulary of {vocab_size} is too small: {_SMALLEST} is the least (256 bytes and 2 more).")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()  # all 256, seen or not
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: Path) -> "Tokenizer":
    """Load a byte-level tokenizer from a tokenizer.json or a folder that holds one.

    Special tokens written out in a text are text to it: no document can fake a boundary. UsageError where there is
    none, it cannot be read, is not byte-level, or has no token that ends a document.
    """
    from tokenizers import Tokenizer

    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path} is not there: name a tokenizer.json or a folder that holds one.")
    with refusing(f"{path} is no tokenizer that can be read"):
        tokenizer = Tokenizer.from_file(str(path))
    check_byte_level(tokenizer, str(path))
    if end_id(tokenizer) is None:
        raise UsageError(f"{path} has no token that ends a document (one of {', '.join(_ENDS)}).")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def check_byte_level(tokenizer: "Tokenizer", name: str) -> None:
    """UsageError where a token of the tokenizer `name` is not written in the alphabet of 256 bytes."""
    told = json.dumps(json.loads(tokenizer.to_str())["decoder"])
    try:
        if '"ByteLevel"' not in told:
            raise KeyError
        token_spellings(tokenizer)
    except KeyError:
        raise UsageError(
            f"{name} is not a byte-level tokenizer: it could not give back every text, nor count bytes."
        ) from None


class Exact:
    """Whether texts come back from their ids byte for byte: a normaliser, or a space before a text, changes them."""

    def __init__(self, tokenizer: "Tokenizer", name: str):
        self._spelt, self._name = token_spellings(tokenizer), name

    def check(self, text: str, ids: np.ndarray, document: str) -> None:
        """UsageError: it does not; the sentence tells which share of the words is changed."""
        spelt = b"".join(self._spelt.get(i, b"") for i in ids.tolist())
        if spelt == text.encode():
            return
        words = list(zip_longest(text.split(), spelt.decode("utf-8", "replace").split(), fillvalue=""))
        changed = [pair for pair in words if pair[0] != pair[1]]
        some = ascii(changed[0][0]) + " as " + ascii(changed[0][1]) if changed else "white space"
        raise UsageError(
            f"{self._name} changes the text before it reads it: of {len(words):,} words of {document} "
            f"{len(changed) / max(1, len(words)):.1%} come back changed ({some}): normalise the text first, or take "
            "another tokenizer."
        )


def end_id(tokenizer: "Tokenizer") -> int | None:
    """The id of the token after every document: `<|end|>`, or what the tokenizer has in its place."""
    return next((i for i in map(tokenizer.token_to_id, _ENDS) if i is not None), None)


def pad_id(tokenizer: "Tokenizer") -> int | None:
    """The id of padding: `<|pad|>`, or what the tokenizer has in its place."""
    return next((i for i in map(tokenizer.token_to_id, _PADS) if i is not None), end_id(tokenizer))


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every id: uint16 up to 65536 tokens, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def token_bytes(tokenizer: "Tokenizer") -> np.ndarray:
    """How many bytes of text every token stands for; 0 for special tokens. Returns int32 [vocab].

    A byte-level token is written in an alphabet of 256 characters, one per byte; added tokens are written as they are.
    """
    added, vocab = tokenizer.get_added_tokens_decoder(), tokenizer.get_vocab()
    counts = np.zeros(max(vocab.values()) + 1, dtype=np.int32)  # ids may have gaps
    for token, i in vocab.items():
        if i not in added:
            counts[i] = len(token)
        elif not added[i].special:
            counts[i] = len(token.encode())
    return counts


def tokens_of(tokenizer: "Tokenizer", texts: Iterable[str]) -> np.ndarray:
    """Texts of any length -> their token ids, one after the other: int64 [N]."""
    parts = tokenise_pieces(tokenizer, cut_pieces(texts))
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)


def tokenise_pieces(tokenizer: "Tokenizer", pieces: Iterable[str]) -> Iterator[np.ndarray]:
    """Tokenise a stream of pieces, read at most 2 MiB ahead: one array of ids for every piece, of `token_dtype`."""
    dtype = token_dtype(len(token_bytes(tokenizer)))

    def encode(texts: list[str]) -> Iterator[np.ndarray]:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return (np.array(encoding.ids, dtype) for encoding in encodings)

    if not _parts_words(tokenizer):
        for batch in _batches(pieces, 2 << 20):
            yield from encode(batch)
        return
    table: dict[str, bytes] = {}  # word -> its ids
    held = 0  # bytes of the table, with its objects and rows
    for piece in pieces:
        words = _WORDS(piece)
        new = list(dict.fromkeys(word for word in words if word not in table))
        for word, ids in zip(new, encode(new), strict=True):
            table[word] = ids.tobytes()
            held += len(word) + ids.nbytes + 150
        yield np.frombuffer(b"".join(map(table.__getitem__, words)), dtype)
        if held > _TABLE_BYTES:
            table, held = {}, 0


# White space with the word after it. The separators \x1c-\x1f are space to Python and not to tokenizers.
_WORDS = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|[^\S\x1c-\x1f]+").findall
_TABLE_BYTES = 64 << 20


def _parts_words(tokenizer: "Tokenizer") -> bool:
    """Whether no token reaches beyond a word: the tokenizer cuts as GPT-2 does and changes no text before."""
    told = json.loads(tokenizer.to_str())
    cut = told["pre_tokenizer"] or {}
    return (
        told["normalizer"] is None
        and (cut.get("type"), cut.get("add_prefix_space"), cut.get("use_regex", True)) == ("ByteLevel", False, True)
        and all(token["special"] for token in told["added_tokens"])
    )


def _batches(pieces: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Lists of pieces that hold `characters` or a little more; many small ones go together to use every core."""
    batch, held = [], 0
    for piece in pieces:
        batch.append(piece)
        held += len(piece)
        if held >= characters:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
