"""A source becomes a folder DATA: tokenizer, packed tokens in three parts, and data.json that tells it all.

Two passes over the text, neither of which holds it: the first counts, splits and gathers a sample for the tokenizer;
the second tokenises and writes. The same source, settings and seed give the same bytes.
"""

from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlm import __version__
from memlm.data.corpus import FORMAT, Corpus
from memlm.data.packing import TokenWriter
from memlm.data.sources import Source, open_source
from memlm.data.split import HELD, PARTS, Ends, Part, divide, draw, split
from memlm.errors import UsageError
from memlm.files import atomic_folder, read_json, sha256_file, sha256_json, write_json
from memlm.leftovers import entries
from memlm.locks import held
from memlm.ranges import Checked, Count, Natural, ShareWithin
from memlm.tokens.pieces import Document
from memlm.tokens.tokenizer import (
    Exact,
    Sample,
    end_id,
    pad_id,
    token_bytes,
    token_dtype,
    tokenise_pieces,
    train_tokenizer,
)
from memlm.ui import progress, say

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Prepare(Checked):
    """Turn text into a tokenizer and packed tokens."""

    source: str  # a file or folder (text, Markdown, JSONL, Parquet), a named corpus, or a Hugging Face data set
    out: Path  # the folder to make
    vocab_size: Count = 1024  # tokens of the byte-level BPE that is trained
    tokenizer: Path | None = None  # train none: a tokenizer.json, a folder with one, or a causal LM's own, by name
    tune: tuple[str, ...] = ()  # documents that settings are chosen on, by name; else the corpus' own, else a draw
    test: tuple[str, ...] = ()  # documents that reported figures alone read, the same way
    tune_fraction: ShareWithin = 0.05  # of the text, by the draw; a long document is cut
    test_fraction: ShareWithin = 0.05  # of the text, by the draw; a long document is cut
    column: str = "text"  # the column or key that holds the text (JSONL, Parquet, Hugging Face)
    split: str = "train"  # which split of a Hugging Face data set
    subset: str | None = None  # which configuration of a Hugging Face data set
    max_documents: Count | None = None  # read no more than these
    seed: Natural = 0  # of the draw
    sample_bytes: Count = 32 << 20  # of text that the tokenizer learns from, spread over the documents that train
    overwrite: bool = False  # replace a data set that is already there

    def __post_init__(self) -> None:
        super().__post_init__()
        if both := sorted(set(self.tune) & set(self.test)):
            raise UsageError(f"{both[0]} cannot both tune and test: name it once.")
        if self.tune_fraction + self.test_fraction >= 1:
            raise UsageError("tune_fraction and test_fraction must leave text to train on: make them smaller.")


def prepare(config: Prepare) -> Corpus:
    """Prepare a data set, unless it is there already, and open it.

    Raises:
        UsageError: the source, the tokenizer or a setting cannot be used, `out` holds something else, or another
            process writes it.
        WorkError: a download failed, the disk is full, or `out` cannot be written.
    """
    tokenizer = _check(config)
    with held(config.out):
        return _prepare(config, tokenizer)


def _prepare(config: Prepare, tokenizer: "Tokenizer | None") -> Corpus:
    source = open_source(config.source, column=config.column, split=config.split, subset=config.subset)
    fingerprint = source.fingerprint()
    # One hash for everything that decides the result: content and settings, no paths.
    decides = {"source": fingerprint, "tokenizer": tokenizer and tokenizer.to_str()}
    request = sha256_json([FORMAT, source.held, _settings(config) | decides])
    if _taken(config.out) and not config.overwrite:
        if read_json(config.out / "data.json")["request"] != request:
            raise UsageError(
                f"{config.out} holds a data set made from other text or settings: name another place, "
                "or add --overwrite to replace it."
            )
        say(f"{config.out} is prepared already: nothing to do")
        return Corpus.open(config.out)
    with atomic_folder(config.out, replace=True) as folder:
        meta = _build(config, source, folder, tokenizer)
        write_json(folder / "data.json", {**meta, "request": request, "source_sha256": fingerprint})
    return Corpus.open(config.out)


def _check(config: Prepare) -> "Tokenizer | None":
    """Refuse what can be refused before any work; returns the tokenizer that was named, if one was."""
    _taken(config.out)
    if config.tokenizer is not None:
        from memlm.pretrained.transplant import tokenizer_for

        return tokenizer_for(str(config.tokenizer))
    if config.vocab_size < 258:
        train_tokenizer([], config.vocab_size)  # says so
    return None


def _taken(out: Path) -> bool:
    """Whether `out` holds a data set; anything else of the user's is never replaced, whatever was asked."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"{out} is a file: name another place.")
    if not entries(out):
        return False
    told = read_json(out / "data.json") if (out / "data.json").is_file() else None
    if not isinstance(told, dict) or "request" not in told:
        raise UsageError(
            f"{out} holds files that are no data set (not even --overwrite replaces them): name another place."
        )
    return True


def _settings(config: Prepare) -> dict[str, Any]:
    """The settings that data.json tells: all but where it is written."""
    told = {key: value for key, value in asdict(config).items() if key not in ("out", "overwrite")}
    named = {part: list(getattr(config, part)) for part in HELD}
    return {**told, "tokenizer": config.tokenizer and str(config.tokenizer), **named}


def _build(config: Prepare, source: Source, folder: Path, tokenizer: "Tokenizer | None") -> dict[str, Any]:
    """Both passes, into `folder`; returns what data.json shall tell."""
    sample = Sample(config.sample_bytes)
    survey = _survey(config, source, sample if tokenizer is None else None)
    if tokenizer is None:
        texts = sample.texts(without=survey.held())
        say(f"training a tokenizer of {config.vocab_size} tokens on {sum(map(len, texts)) / 1e6:.1f}M characters")
        tokenizer = train_tokenizer(texts, config.vocab_size)
    parts = split(islice(source, config.max_documents), survey.ends, survey.characters)
    tokenizer.save(str(folder / "tokenizer.json"))
    exact = None if config.tokenizer is None else Exact(tokenizer, str(config.tokenizer))  # one of ours is
    told = _pack(tokenizer, parts, folder, sum(survey.characters), exact)
    for part in HELD:
        told[part]["how"] = (
            "named" if getattr(config, part)
            else "the corpus' own choice" if PARTS.index(part) in survey.named
            else f"a draw of {getattr(config, f'{part}_fraction'):g} of the text, seed {config.seed}"
        )  # fmt: skip
    names = ["tokenizer.json", *(f"{part}.{kind}" for part in PARTS for kind in ("bin", "docs.npy"))]
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in names}
    vocab_size = len(token_bytes(tokenizer))
    return {
        "format": FORMAT,
        "memlm": __version__,
        "hash": sha256_json({name: file["sha256"] for name, file in files.items()}),
        "config": _settings(config),
        "vocab_size": vocab_size,
        "dtype": token_dtype(vocab_size).name,
        "end_id": end_id(tokenizer),
        "pad_id": pad_id(tokenizer),
        **told,
        "files": files,
    }


@dataclass
class _Survey:
    """What the first pass counts of every document, which part it is named for, and so where its parts end."""

    characters: "array[int]"
    named: "array[int]"  # numbers in PARTS, 0 where it is not named
    ends: Ends

    def held(self) -> list[tuple[int, int]]:
        """Spans of the characters of all documents, one after the other, that do not train."""
        spans, begin = [], 0
        for number, size in enumerate(self.characters):
            train, begin = begin + self.ends.cut(number, size)[0], begin + size
            if train < begin:
                spans.append((train, begin))
        return spans


def _survey(config: Prepare, source: Source, sample: Sample | None) -> _Survey:
    """The first pass: count the text, sample it, and settle which part each document is of."""
    asked: dict[Part, tuple[str, ...]] = {part: getattr(config, part) for part in HELD}
    # The corpus' own choice holds where it is not contradicted: a document that the user names elsewhere is there.
    part_of = {name: part for part in HELD if not asked[part] for name in source.held.get(part, ())}
    part_of |= {name: part for part in HELD for name in asked[part]}
    unknown, first_names = dict.fromkeys(name for part in HELD for name in asked[part]), []
    characters, sizes, named, draws = array("q"), array("q"), array("b"), array("d")
    with progress(unit="characters", total_known=False) as bar:
        task = bar.add_task("reading", total=None)
        for number, document in enumerate(islice(source, config.max_documents)):
            unknown.pop(document.name, None)
            if number < 20:
                first_names.append(document.name)
            length = size = 0
            for piece in document.pieces:
                length, size = length + len(piece), size + _bytes(piece)
                bar.update(task, advance=len(piece))
                if sample is not None:
                    sample.offer(piece)
            characters.append(length)
            sizes.append(size)
            named.append(PARTS.index(part_of.get(document.name, "train")))
            draws.append(draw(config.seed, number, document.name))
    count = len(sizes)
    if unknown:
        some = ", ".join(first_names) + (f" and {count - 20} more" if count > 20 else "")
        raise UsageError(f"{config.source} has no document {', '.join(unknown)} to hold out; there are {some}.")
    if all(named):
        raise UsageError(f"{config.source}: every document is held out and none is left to train on.")
    fractions: dict[Part, float] = {part: getattr(config, f"{part}_fraction") for part in HELD}
    survey = _Survey(characters, named, divide(named, draws, sizes, fractions))
    if any(0 < end < 1 and characters[number] < len(PARTS) for number, end in enumerate(survey.ends.train_D)):
        raise UsageError(f"{config.source} holds hardly a character: too little to train on and to hold out.")
    return survey


def _bytes(piece: str) -> int:
    return len(piece) if piece.isascii() else len(piece.encode())


def _pack(
    tokenizer: "Tokenizer",
    parts: Iterable[tuple[Document, Part]],
    folder: Path,
    characters: int,
    exact: Exact | None,
) -> dict[str, dict[str, Any]]:
    """The second pass: tokenise and write; returns the counts of every part."""
    labelled, ahead = tee((document, part, piece) for document, part in parts for piece in document.pieces)
    dtype, end = token_dtype(len(token_bytes(tokenizer))), end_id(tokenizer)
    assert end is not None  # load_tokenizer refuses others
    counted = ("documents", "tokens", "characters", "bytes")
    told: dict[str, dict[str, Any]] = {part: dict.fromkeys(counted, 0) for part in PARTS}
    told |= {part: {**told[part], "names": []} for part in HELD}
    with ExitStack() as stack:
        writers = {part: stack.enter_context(TokenWriter(folder, part, dtype, end)) for part in PARTS}
        bar = stack.enter_context(progress(unit="characters"))
        task = bar.add_task("tokenising", total=characters)
        current, writer = None, writers["train"]
        arrays = tokenise_pieces(tokenizer, (piece for _, _, piece in ahead))
        for (document, part, piece), ids in zip(labelled, arrays, strict=True):
            if document is not current:
                if current is not None:
                    writer.end_document()
                current, writer = document, writers[part]
                if part in HELD:
                    told[part]["names"].append(document.name)
            if exact is not None:
                exact.check(piece, ids, document.name)
            writer.append(ids)
            told[part]["characters"] += len(piece)
            told[part]["bytes"] += _bytes(piece)
            bar.update(task, advance=len(piece))
        writer.end_document()
        for part, of in writers.items():
            told[part] |= {"documents": of.documents, "tokens": of.tokens}
    return told
