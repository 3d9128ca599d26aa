"""Documents -> a bank: tokenised, cut into chunks, encoded in batches and written as they come, in bounded memory."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memlm import __version__, ui
from memlm.bank.bank import FORMAT, INDEX, META, TABLE, Bank, Meta, chunk_rows
from memlm.bank.chunks import DocumentText, Fill, batches, read_chunks
from memlm.bank.digest import tokenizer_sha256
from memlm.bank.keep import check_kept, keep
from memlm.bank.kept import ANY, FIRST, Keeping, rounded
from memlm.bank.memories import Kept, Memories, Origin
from memlm.bank.rows import Label, as_unicode
from memlm.bank.writing import BankWriter, adding, making
from memlm.errors import UsageError
from memlm.leftovers import entries
from memlm.locks import one_writer
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.nn.vocabulary import PAD
from memlm.provenance import commit
from memlm.tokens.pieces import Document, cut_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@one_writer
def encode_documents(
    model: TextMemory,
    tokenizer: "Tokenizer",
    documents: Iterable[Document | tuple[str, str]],
    out: Path | str,
    *,
    keeping: Keeping = ANY,
    append: bool = False,
    model_path: Path | str | None = None,
    batch: int = 256,
) -> Bank:
    """Encode documents into a new bank, or into one that is there, of which nothing is written again.

    The bank appears, or has its next version, when all documents are encoded; if anything fails it is as it was before.

    Args:
        model: one whose encoder makes a memory of each chunk by itself.
        tokenizer: the model's own.
        documents: documents, or pairs of a name and a text; each name once.
        out: the bank's folder.
        keeping: the type and number of the memories' numbers, what makes them exact, how a last chunk is filled.
        append: add to the bank at `out`, which has to be there.
        model_path: where the model is, for `Bank.made_by`; kept as seen from a new bank, or as a name alone.
        batch: chunks encoded at once.

    Returns:
        The bank, opened.

    Raises:
        UsageError: the model forms no such memories, `out` is there already, or (to append) is no bank or another
            encoder's; another process writes it; a document is named twice or cannot be read.
        WorkError: `out` cannot be written, the disk is full, or the bank was changed meanwhile.
    """
    out = Path(out)
    meta, old = asked_bank(model, tokenizer, out, keeping, append, model_path)
    with making(out, meta) if old is None else adding(old) as writer:
        encode_into(writer, model, tokenizer, documents, batch)
    return Bank.open(out)


def encode_into(
    writer: BankWriter,
    model: TextMemory,
    tokenizer: "Tokenizer",
    documents: Iterable[Document | tuple[str, str]],
    batch: int = 256,
) -> None:
    """Encode documents, chunks of all of them together in batches, and write them as rows."""
    meta, labels, encoding = writer.meta, deque[Label](), Encoding(model)
    for ids_BT in batches(_labelled(tokenizer, documents, meta, labels), batch):
        own = [labels.popleft() for _ in ids_BT]
        held_B = np.array([label.tokens for label in own])
        memory_BM, numbers_B, wrong = keep(model, meta.keeping, encoding.memories(ids_BT), ids_BT, held_B)
        writer.add(memory_BM, own, numbers_B, wrong)


def asked_bank(
    model: TextMemory,
    tokenizer: "Tokenizer",
    out: Path,
    keeping: Keeping,
    append: bool,
    model_path: Path | str | None,
) -> tuple[Meta, Bank | None]:
    """What a bank shall tell, and the bank that is there, if it is added to."""
    origin = origin_of(model, tokenizer)
    if append:
        old = Bank.open(out)
        old.check_encoder(model, tokenizer)
        if other := [name for name, value in keeping.given.items() if value != getattr(old.meta, name)]:
            raise UsageError(f"{out} was made with {other[0]} {getattr(old.meta, other[0])}: leave --{other[0]} out.")
        check_kept(model, old.meta.keeping)
        if others := sorted(entries(out) - {META, TABLE, INDEX}):
            raise UsageError(f"{out} holds {others[0]}, which is not the bank's: move it elsewhere first.")
        return old.meta, old
    if out.is_file() or entries(out):
        raise UsageError(f"{out} exists already: name another place, or add to a bank with --append.")
    keeping = replace(FIRST, **keeping.given)
    check_kept(model, keeping)
    where = None if model_path is None else seen_from(out, model_path)
    made = {"format": FORMAT, "memlm": __version__, "commit": commit(), "model": where}
    return Meta(**made, **vars(origin), **vars(keeping)), None


def encode_texts(
    model: TextMemory,
    tokenizer: "Tokenizer",
    texts: Sequence[str],
    batch: int = 256,
    origin: Origin | None = None,
    keeping: Keeping = ANY,
) -> Memories:
    """Encode texts of any length, chunks of all of them together in batches; as `encode_documents` encodes, unwritten.

    `origin` is the model's, where it is known already.

    Raises:
        UsageError: the model forms no memories of single chunks, or none as they shall be kept; a text is no Unicode.
    """
    origin = origin or origin_of(model, tokenizer)
    keeping = replace(FIRST, **keeping.given)
    check_kept(model, keeping)
    documents = (Document(str(number), list(cut_pieces([text]))) for number, text in enumerate(texts))
    counted: list[int] = []

    def chunks() -> Iterator[np.ndarray]:
        for ids_nT, text, last in _read(tokenizer, documents, origin.chunk_tokens, keeping.fill or "repeat"):
            counted.extend([text.tokens] if last else [])
            yield ids_nT

    encoding = Encoding(model)
    empty_0M, empty_0T = np.empty((0, origin.memory_dim), np.float32), np.empty((0, origin.chunk_tokens), np.int64)
    made = [(encoding.memories(ids_BT), ids_BT) for ids_BT in batches(chunks(), batch)]
    vectors_KM, ids_KT = (np.concatenate(parts) for parts in zip((empty_0M, empty_0T), *made, strict=True))
    rows = [chunk_rows(number, tokens, origin.chunk_tokens) for number, tokens in enumerate(counted)]
    chunks_K3 = np.concatenate([np.empty((0, 3), np.int32), *rows])
    vectors_KM, numbers_K, wrong = keep(model, keeping, vectors_KM, ids_KT, chunks_K3[:, 2])
    vectors_KM, step_KG = rounded(vectors_KM, keeping.dtype or "fp32")
    kept = Kept(
        keeping.dtype or "fp32",
        keeping.fill or "repeat",
        numbers_K,
        step_KG,
        tuple(wrong) if keeping.lossless else None,
    )
    return Memories(vectors_KM, chunks_K3, tuple(texts), origin, kept)


def origin_of(model: TextMemory, tokenizer: "Tokenizer") -> Origin:
    """What the memories of a model and its tokenizer are known by.

    Raises:
        UsageError: it forms none of single chunks, or the tokenizer is not the model's.
    """
    if not model.forms_memories:
        raise UsageError("this model forms no memories: name one that does, an autoencoder or a memory model.")
    if not model.of_one_chunk:
        raise UsageError(
            "a recurrent model's memory is of all chunks before it, not of one: encode with an autoencoder, a memory "
            "model or a causal language model."
        )
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.get_vocab_size()} tokens and the model knows {model.config.vocab_size}: "
            "take the model's own."
        )
    encoder, tokens = model.encoder.fingerprint(), tokenizer_sha256(tokenizer)
    return Origin(encoder, tokens, model.chunk_tokens, model.memory_dim)


def _labelled(
    tokenizer: "Tokenizer", documents: Iterable[Document | tuple[str, str]], meta: Meta, labels: deque[Label]
) -> Iterator[np.ndarray]:
    """Chunks of all documents [n, T], one of padding where a document is empty; what their rows say goes to `labels`.

    A document's facts are known when it has been read, and stand in its last row: the last chunk so far is held back.
    """
    T, number, held = meta.chunk_tokens, 0, np.empty((0, meta.chunk_tokens), np.int64)
    for ids_nT, text, last in _read(tokenizer, map(_document, documents), T, meta.fill):
        held = np.concatenate([held, ids_nT])
        if last and not number + len(held):
            held = np.full((1, T), PAD)
        ready = len(held) - (not last and len(held) > 0)
        name = as_unicode(text.name)
        labels.extend(Label(name, number + i, T) for i in range(ready))
        number += ready
        if last:
            rest = text.tokens - (number - 1) * T
            labels[-1] = Label(name, number - 1, rest, text.characters, text.bytes, text.sha256())
            number = 0
        yield held[:ready]
        held = held[ready:]


def _document(document: Document | tuple[str, str]) -> Document:
    if isinstance(document, Document):
        return document
    name, text = document
    return Document(name, list(cut_pieces([text])))


def _read(
    tokenizer: "Tokenizer", documents: Iterable[Document], chunk_tokens: int, fill: Fill
) -> Iterator[tuple[np.ndarray, DocumentText, bool]]:
    """As `read_chunks`, with a bar."""
    with ui.progress(unit="chunks", total_known=False) as bar:
        task = bar.add_task("encoding", total=None)
        for ids_nT, text, last in read_chunks(tokenizer, documents, chunk_tokens, fill):
            yield ids_nT, text, last
            bar.advance(task, len(ids_nT))


def seen_from(bank: Path, model: Path | str) -> str:
    """The model's place as seen from the bank's folder; its name alone where the two share nothing but the root."""
    bank, model = Path(bank).resolve(), Path(model).resolve()
    try:
        shared = Path(os.path.commonpath([bank, model]))
    except ValueError:  # two drives
        return model.name
    return model.name if shared == Path(shared.anchor) else Path(os.path.relpath(model, bank)).as_posix()
