"""memlm encode MODEL FILE... --out BANK: documents become memories on disk."""

import codecs
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from memlm.cli.parsing import parse
from memlm.errors import UsageError
from memlm.ranges import Checked, Count, ShareAbove
from memlm.tokens.pieces import PIECE, Document, cut_pieces

if TYPE_CHECKING:
    from memlm.bank.bank import Bank


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Encode documents into a bank of memories, one for each chunk of a document."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]  # a run or a saved folder
    files: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="FILE...",
            help="files or folders as memlm prepare reads them, gutenberg:carroll-alice; - is the standard input",
        ),
    ]
    out: Path  # the bank's folder
    append: bool = False  # add to the bank that is there
    dtype: Literal["fp32", "bf16", "fp16", "int8", "int4"] | None = None  # of the numbers on disk; fp32, or the bank's
    numbers: Count | None = None  # keep the first so many of each memory, of a model trained for it (slots-nested)
    accuracy: ShareAbove | None = None  # keep as few numbers of each as tell this share of its tokens right
    lossless: bool = False  # keep what the decoder gets wrong, so that recall gives back the very text
    fill: Literal["pad", "repeat"] | None = None  # a last chunk after its document: itself again (default), or padding
    column: str = "text"  # the column or key that holds the text (JSONL, Parquet)
    batch: Count = 256  # chunks encoded at once
    engine: Literal["local", "ray"] = "local"  # this process, or a Ray cluster, whose workers take files
    workers: Count | None = None  # of --engine ray; as many as the cluster has cores (GPUs), if not given
    device: Literal["auto", "cpu", "cuda"] = "auto"
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm encode")
    if not call.files:
        raise UsageError("name at least one file or folder to encode, or - for the standard input.")
    if call.engine == "local" and call.workers is not None:
        raise UsageError("--workers counts only on a cluster: add --engine ray.")
    bank, before, seconds = (_by_workers if call.engine == "ray" else _here)(call)
    told = _told(bank, before, seconds)
    if call.json:
        print(json.dumps(told, ensure_ascii=False))
        return
    new, T, M = told["encoded"], told["chunk_tokens"], told["numbers"] or told["memory_dim"]
    more = f"; the bank now holds {told['documents']:,} documents, {told['chunks']:,} memories" if before else ""
    form = f"{told['dtype']}, lossless" if told["lossless"] else told["dtype"]
    print(
        f"{call.out}: {new['documents']:,} documents, {new['tokens']:,} tokens ({new['bytes']:,} bytes of text) in "
        f"{new['chunks']:,} memories of {T} tokens in {'up to ' if told['accuracy'] else ''}{M} numbers; "
        f"{new['tokens_per_second']:,.0f} tokens/s\n"
        f"{told['numbers_per_token']:.2f} numbers a token, {told['bytes_per_text_byte']:.2f} bytes ({form}) for a byte "
        f"of text{more}"
    )


def _here(call: Call) -> tuple["Bank", int, float]:
    """The bank, how many of its documents were there before or are another process', and the seconds it took."""
    documents = _documents(call)
    from memlm.api.own import OwnModel
    from memlm.bank.opening import open_model

    names = []
    model = OwnModel(call.model, *open_model(call.model, call.device))
    began = time.perf_counter()
    noted = (names.append(document.name) or document for document in documents)
    bank = model.encode_documents(noted, call.out, append=call.append, batch=call.batch, **_keeping(call))
    return bank, len(bank.documents) - len(names), time.perf_counter() - began


def _by_workers(call: Call) -> tuple["Bank", int, float]:
    """The same on a Ray cluster."""
    from memlm.bank.bank import Bank
    from memlm.bank.cluster import encode_on_cluster
    from memlm.bank.kept import Keeping
    from memlm.data.sources import open_source

    if "-" in call.files:
        raise UsageError("the standard input cannot be shared among workers: name files, or leave --engine ray out.")
    sources = [open_source(file, column=call.column) for file in call.files]
    before, began = len(Bank.open(call.out).documents) if call.append else 0, time.perf_counter()
    how = {name: getattr(call, name) for name in ("append", "batch", "column", "device", "workers")}
    bank = encode_on_cluster(call.model, sources, call.out, keeping=Keeping(**_keeping(call)), **how)
    return bank, before, time.perf_counter() - began


def _keeping(call: Call) -> dict[str, Any]:
    told = {name: getattr(call, name) for name in ("dtype", "numbers", "accuracy", "fill")}
    return told | {"lossless": call.lossless or None}


def _documents(call: Call) -> Iterator[Document]:
    """The documents of all sources; a source that is not there is refused before anything is loaded."""
    from memlm.data.sources import open_source

    names = [Path(file).stem for file in call.files if Path(file).is_file()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two files are called {twice!r}: name a folder that holds both, or rename one of them.")
    return chain.from_iterable(
        _stdin() if file == "-" else open_source(file, column=call.column) for file in call.files
    )


def _stdin() -> Iterator[Document]:
    """The standard input as one document called `stdin`."""

    def blocks() -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        try:
            while block := sys.stdin.buffer.read(PIECE):
                yield decoder.decode(block)
            yield decoder.decode(b"", True)
        except UnicodeDecodeError:
            raise UsageError("the standard input is not UTF-8 text: convert it first.") from None

    pieces = cut_pieces(blocks())
    before: list[str] = []
    for piece in pieces:
        before.append(piece)
        if piece.strip():
            yield Document("stdin", chain(before, pieces))
            return
    raise UsageError("the standard input holds no text.")


def _told(bank: Any, before: int, seconds: float) -> dict[str, Any]:
    """What was encoded, and what the whole bank costs."""
    new = bank.documents[before:]
    tokens = sum(entry.tokens for entry in new)
    return {
        "bank": str(bank.path),
        "model": bank.meta.model,
        "encoder": bank.meta.encoder,
        "memlm": bank.meta.memlm,
        "commit": bank.meta.commit,
        "documents": len(bank.documents),
        "chunks": len(bank),
        "tokens": bank.tokens,
        "chunk_tokens": bank.meta.chunk_tokens,
        "memory_dim": bank.meta.memory_dim,
        **vars(bank.meta.keeping),
        "memory_bytes": bank.memory_bytes,
        "numbers_per_token": bank.stored_numbers / max(1, bank.tokens),
        "bytes_per_text_byte": bank.memory_bytes / max(1, sum(entry.bytes for entry in bank.documents)),
        "encoded": {
            "names": [entry.name for entry in new],
            "documents": len(new),
            "chunks": sum(entry.chunks for entry in new),
            "tokens": tokens,
            "characters": sum(entry.characters for entry in new),
            "bytes": sum(entry.bytes for entry in new),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
        },
    }
