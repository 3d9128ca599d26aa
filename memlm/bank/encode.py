"""Documents -> a bank: tokenised, cut into chunks, encoded in batches and written as they come, in bounded memory."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import numpy as np
import torch

from memlm import __version__, ui
from memlm.bank.bank import FILES, FORMAT, INDEX, Bank, Entry, Meta, chunk_rows
from memlm.bank.chunks import DocumentText, Fill, batches, read_chunks
from memlm.bank.digest import sha256_rows, tokenizer_sha256
from memlm.bank.memories import Memories, Origin
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, sha256_file, write_json
from memlm.leftovers import entries
from memlm.locks import one_writer
from memlm.models.model import TextMemory
from memlm.provenance import commit
from memlm.records import to_dict
from memlm.tokens.pieces import Document, cut_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Stored = Literal["float32", "float16"]


@one_writer
def encode_documents(
    model: TextMemory,
    tokenizer: "Tokenizer",
    documents: Iterable[Document | tuple[str, str]],
    out: Path | str,
    *,
    dtype: Stored | None = None,
    fill: Fill | None = None,
    append: bool = False,
    model_path: Path | str | None = None,
    batch: int = 256,
) -> Bank:
    """Encode documents into a new bank, or into one that is there.

    The bank appears, or changes, when all documents are encoded; if anything fails it is as it was before.

    Args:
        model: one whose encoder makes a memory of each chunk by itself.
        tokenizer: the model's own.
        documents: documents, or pairs of a name and a text; each name once.
        out: the bank's folder.
        dtype: of the memories on disk; float32, or the bank's own, if not given.
        fill: what a document's last chunk holds after the document: its own tokens again, or padding; `repeat`, or the
            bank's own way, if not given.
        append: add to the bank at `out`, which has to be there.
        model_path: where the model is, for `Bank.made_by`; kept as seen from the bank, or as a name alone.
        batch: chunks encoded at once.

    Returns:
        The bank, opened.

    Raises:
        UsageError: the model forms no such memories, `out` is there already, or (to append) is no bank or another
            encoder's; another process writes it; a document is named twice or cannot be read.
        WorkError: `out` cannot be written, the disk is full, or the bank was changed meanwhile.
    """
    out = Path(out)
    origin = origin_of(model, tokenizer)
    old = Bank.open(out) if append else None
    if old is None and (out.is_file() or entries(out)):
        raise UsageError(f"{out} exists already: name another place, or add to a bank with --append.")
    if old is not None:
        old.check_encoder(model, tokenizer)
        if dtype not in (None, old.meta.dtype) or fill not in (None, old.meta.fill):
            raise UsageError(
                f"{out} was made with dtype {old.meta.dtype} and fill {old.meta.fill}: leave --dtype and --fill out."
            )
        if others := sorted(entries(out) - FILES - {INDEX}):
            raise UsageError(f"{out} holds {others[0]}, which is not the bank's: move it elsewhere first.")
    before = sha256_file(out / "meta.json") if old is not None else None
    kept = old.meta.model if old is not None else None
    meta = Meta(
        format=FORMAT,
        memlm=__version__,
        commit=commit(),
        model=kept if model_path is None else _seen_from(out, model_path),
        encoder=origin.encoder,
        tokenizer=origin.tokenizer,
        chunk_tokens=origin.chunk_tokens,
        memory_dim=origin.memory_dim,
        dtype=old.meta.dtype if old is not None else dtype or "float32",
        fill=old.meta.fill if old is not None else fill or "repeat",
        documents=old.documents if old is not None else (),
    )
    with atomic_folder(out, replace=append) as folder:
        texts: list[DocumentText] = []
        with _NpyWriter(folder / "memories.npy", np.dtype(meta.dtype), meta.memory_dim) as memories:
            if old is not None:
                memories.take_over(out / "memories.npy", len(old))
            taken = {entry.name for entry in meta.documents}
            chunks = _read(tokenizer, _named(documents, taken, out), meta.chunk_tokens, cast(Fill, meta.fill), texts)
            for ids_BT in batches(chunks, batch):
                memories.write(_encode(model, ids_BT, memories.dtype))
        meta = replace(meta, documents=(*meta.documents, *_entries(folder, meta, texts)))
        with _NpyWriter(folder / "chunks.npy", np.dtype(np.int32), 3) as rows:
            for number, entry in enumerate(meta.documents):
                rows.write(chunk_rows(number, entry.tokens, meta.chunk_tokens))
        write_json(folder / "meta.json", to_dict(meta))
        if old is not None and sha256_file(out / "meta.json") != before:
            raise WorkError(f"{out} was changed while documents were added to it: add them again.")
    return Bank.open(out)


def encode_texts(model: TextMemory, tokenizer: "Tokenizer", texts: Sequence[str], batch: int = 256) -> Memories:
    """Encode texts of any length, chunks of all of them together in batches; as `encode_documents` encodes, unwritten.

    Raises:
        UsageError: the model forms no memories of single chunks, or a text is no Unicode.
    """
    origin = origin_of(model, tokenizer)
    documents = (Document(str(number), list(cut_pieces([text]))) for number, text in enumerate(texts))
    counted: list[DocumentText] = []
    blocks = batches(_read(tokenizer, documents, origin.chunk_tokens, "repeat", counted), batch)
    vectors = [_encode(model, ids_BT, np.dtype(np.float32)) for ids_BT in blocks]
    rows = [chunk_rows(number, text.tokens, origin.chunk_tokens) for number, text in enumerate(counted)]
    return Memories(
        np.concatenate([np.empty((0, origin.memory_dim), np.float32), *vectors]),
        np.concatenate([np.empty((0, 3), np.int32), *rows]),
        tuple(texts),
        origin,
    )


def origin_of(model: TextMemory, tokenizer: "Tokenizer") -> Origin:
    """What the memories of a model and its tokenizer are known by.

    Raises:
        UsageError: it forms none of single chunks, or the tokenizer is not the model's.
    """
    if not model.forms_memories:
        raise UsageError("this model forms no memories: it is a baseline that reads text alone.")
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


def _named(documents: Iterable[Document | tuple[str, str]], taken: set[str], out: Path) -> Iterator[Document]:
    """All as documents; refuses a name that is taken already."""
    for document in documents:
        if isinstance(document, tuple):
            name, text = document
            document = Document(name, list(cut_pieces([text])))
        if document.name in taken:
            raise UsageError(f"there are two documents {document.name!r} for {out}: give one of them another name.")
        taken.add(document.name)
        yield document


def _read(
    tokenizer: "Tokenizer", documents: Iterable[Document], chunk_tokens: int, fill: Fill, texts: list[DocumentText]
) -> Iterator[np.ndarray]:
    """Chunks of all documents [n, T]; the documents' counts go to `texts`."""
    with ui.progress(unit="chunks", total_known=False) as bar:
        task = bar.add_task("encoding", total=None)
        for ids_nT, text in read_chunks(tokenizer, documents, chunk_tokens, fill):
            if text is not None:
                texts.append(text)
            yield ids_nT
            bar.advance(task, len(ids_nT))


@torch.inference_mode()
def _encode(model: TextMemory, ids_BT: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Chunks of token ids [B, T] -> memories [B, M] as they are stored."""
    memory_BM = model.encode(torch.from_numpy(ids_BT).to(model.device)).float().cpu()
    if memory_BM.abs().max() > np.finfo(dtype).max or not memory_BM.isfinite().all():
        raise UsageError(
            f"the model's memories hold numbers that {dtype} cannot: "
            + ("leave --dtype at float32." if dtype == np.float16 else "its weights are damaged, or it diverged.")
        )
    return memory_BM.numpy().astype(dtype)


def _entries(folder: Path, meta: Meta, texts: list[DocumentText]) -> Iterator[Entry]:
    """The new documents, with the SHA-256 of their memories as they lie on disk."""
    first = meta.chunks
    count = sum(-(-text.tokens // meta.chunk_tokens) for text in texts)
    memories = np.load(folder / "memories.npy", mmap_mode="r") if first + count else np.empty((0, meta.memory_dim))
    for text in texts:
        chunks = -(-text.tokens // meta.chunk_tokens)
        yield Entry(
            name=text.name,
            characters=text.characters,
            bytes=text.bytes,
            tokens=text.tokens,
            chunks=chunks,
            sha256=text.sha256(),
            memories_sha256=sha256_rows(memories[first : first + chunks]),
        )
        first += chunks


def _seen_from(bank: Path, model: Path | str) -> str:
    """The model's place as seen from the bank's folder; its name alone where the two share nothing but the root."""
    bank, model = Path(bank).resolve(), Path(model).resolve()
    try:
        shared = Path(os.path.commonpath([bank, model]))
    except ValueError:  # two drives
        return model.name
    return model.name if shared == Path(shared.anchor) else Path(os.path.relpath(model, bank)).as_posix()


class _NpyWriter:
    """An .npy file [n, width] written as its rows come; use it as a context manager."""

    def __init__(self, path: Path, dtype: np.dtype, width: int):
        self.dtype = dtype
        self._width, self._rows = width, 0
        self._file: BinaryIO = open(path, "wb", buffering=1 << 20)  # noqa: SIM115, closed on exit
        self._header()

    def write(self, rows: np.ndarray) -> None:
        """Add rows [n, width]."""
        self._file.write(rows.tobytes())
        self._rows += len(rows)

    def take_over(self, path: Path, rows: int) -> None:
        """Add all rows of another such file."""
        if rows:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            for i in range(0, rows, 4096):
                self.write(array[i : i + 4096])

    def __enter__(self) -> "_NpyWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._header()

    def _header(self) -> None:
        """The header of an .npy file keeps room for the count to grow, so it can be written over at the end."""
        told = {"shape": (self._rows, self._width), "fortran_order": False, "descr": self.dtype.newbyteorder("<").str}
        np.lib.format.write_array_header_1_0(self._file, told)
