"""A prepared data set, opened: everything memory-mapped, nothing loaded before it is used."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from memlm.arrays import read_npy
from memlm.data.split import PARTS, Part
from memlm.errors import UsageError
from memlm.files import check_format, read_json, sha256_file
from memlm.locks import mend
from memlm.tokens.tokenizer import load_tokenizer, token_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SAMPLED = 2**20  # chunks that a sample is drawn of, evenly spread
FORMAT = 2  # of DATA; a change of it makes prepared folders ask to be made anew


@dataclass(frozen=True)
class TokenStream:
    """The documents of one part, one after the other."""

    tokens: np.ndarray  # uint16 or uint32 [n], memory-mapped; one end token after every document
    documents: np.ndarray  # int64 [documents + 1]; document i is tokens[documents[i] : documents[i + 1]]
    names: tuple[str, ...] = ()  # of the documents; empty where they are not kept (those that train)

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.tokens)


class Windows(NamedTuple):
    """Windows of a stream and where they come from: tokens int64 [n, T], document int64 [n]."""

    tokens: np.ndarray
    document: np.ndarray


class Corpus:
    """What `prepare` made in a folder, whose data.json is `meta`. Open it with `Corpus.open`."""

    def __init__(self, path: Path, meta: dict[str, Any]):
        self.path, self.meta = path, meta
        self.hash: str = meta["hash"]  # two data sets with the same one have the same tokenizer, tokens and boundaries
        self.vocab_size: int = meta["vocab_size"]  # how many token ids there are
        self.end_id: int = meta["end_id"]  # the token after every document, which also begins a text
        self.pad_id: int = meta["pad_id"]  # the token of padding
        self.train, self.tune, self.test = (self._stream(part) for part in PARTS)  # what each is for: data/split.py

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False) -> Self:
        """Open a prepared data set; `verify` compares every file's SHA-256, not its size alone.

        UsageError where the folder is no prepared data set, or a file of it is damaged.
        """
        path = Path(path)
        mend(path)
        if not (path / "data.json").is_file():
            raise UsageError(f"{path} is not a prepared data set (it has no data.json): make one with memlm prepare.")
        meta = read_json(path / "data.json")
        try:
            check_format(meta, FORMAT, f"the data set {path}")
            for name, told in meta["files"].items():
                file = path / name
                if not file.is_file() or file.stat().st_size != told["bytes"]:
                    raise UsageError(f"{file} is missing or has lost a part: prepare {path} again with --overwrite.")
                if verify and sha256_file(file) != told["sha256"]:
                    raise UsageError(f"{file} is damaged (SHA-256): prepare {path} again with --overwrite.")
            return cls(path, meta)
        except (KeyError, TypeError, AttributeError, ValueError, OSError):
            raise UsageError(f"{path / 'data.json'} is not of a prepared data set: prepare it again.") from None

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer, loaded on first use; UsageError where it is not the one that the tokens were made by."""
        file = self.path / "tokenizer.json"
        if file.is_file() and sha256_file(file) != self.meta["files"][file.name]["sha256"]:
            raise UsageError(f"{file} is damaged, or {self.path} was prepared anew meanwhile (SHA-256): open it again.")
        return load_tokenizer(file)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text of every token id, 0 for special tokens: int32 [vocab]."""
        return token_bytes(self.tokenizer)

    def chunks(self, part: Part, length: int, limit: int | None = None) -> Windows:
        """Whole chunks of a part's text, cut from every document's start on; its rest and end token are left out.

        With `limit` no more than these, evenly spread over all there are; always the same ones. UsageError where no
        document has `length` tokens.
        """
        stream = self.part(part)
        first = np.zeros(len(stream.documents), np.int64)  # the number of each document's first chunk
        np.cumsum((np.diff(stream.documents) - 1) // length, out=first[1:])
        total = int(first[-1])
        if not total:
            raise UsageError(f"no document is as long as a chunk of {length} tokens: take shorter chunks.")
        count = total if limit is None else min(limit, total)
        chosen = np.arange(count, dtype=np.int64) * total // max(count, 1)
        document = np.searchsorted(first, chosen, side="right") - 1
        starts = stream.documents[document] + (chosen - first[document]) * length
        return Windows(stream.tokens[starts[:, None] + np.arange(length)].astype(np.int64), document)

    def windows(self, part: Part, length: int, limit: int) -> np.ndarray:
        """As `chunks`, tokens alone; where no document is that long, of all of them in a row, as training reads them.

        UsageError where all of them together are shorter.
        """
        stream = self.part(part)
        if np.diff(stream.documents).max(initial=0) > length:
            return self.chunks(part, length, limit).tokens
        total = len(stream) // length
        if not total:
            raise UsageError(
                f"{self.path} has {len(stream):,} tokens to choose by (its part {part}), fewer than the {length:,} of "
                "an example: ask for fewer chunks or a shorter context, or prepare more text."
            )
        starts = np.arange(min(limit, total)) * total // min(limit, total) * length
        return np.asarray(stream.tokens)[starts[:, None] + np.arange(length)].astype(np.int64)

    def sample(self, part: Part, length: int, limit: int) -> Windows:
        """Chunks of a part in an order that is drawn once: fewer are the first of more, whatever the limit.

        UsageError where no document has `length` tokens.
        """
        windows = self.chunks(part, length, limit=_SAMPLED)
        order = np.random.default_rng(0).permutation(len(windows.tokens))[:limit]
        return Windows(windows.tokens[order], windows.document[order])

    def part(self, name: Part) -> TokenStream:
        """The documents of a part, by its name."""
        return {"train": self.train, "tune": self.tune, "test": self.test}[name]

    def _stream(self, name: Part) -> TokenStream:
        names = tuple(self.meta[name].get("names", ()))
        tokens = np.memmap(self.path / f"{name}.bin", dtype=self.meta["dtype"], mode="r")
        documents = read_npy(self.path / f"{name}.docs.npy", mapped=True)
        whole = documents.dtype == np.int64 and documents.ndim == 1 and len(documents) > 1 and documents[0] == 0
        if not whole or documents[-1] != len(tokens) or not (np.diff(documents) > 0).all():
            raise UsageError(f"{self.path / name}.docs.npy is damaged: prepare {self.path} again with --overwrite.")
        return TokenStream(tokens, documents, names)
