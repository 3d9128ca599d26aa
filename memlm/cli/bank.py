"""memlm bank ACTION BANK: what a bank holds, what is near to a text, what is taken out of it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from memlm.cli.parsing import parse
from memlm.errors import UsageError
from memlm.ranges import Checked, Count, NotNegative
from memlm.ui import aligned

if TYPE_CHECKING:
    from memlm.bank.bank import Bank
    from memlm.bank.search import Hit

Place = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BANK")]


@dataclass(frozen=True, kw_only=True)
class Info(Checked):
    """Tell what a bank is: how many documents and memories, of which encoder, its versions, its size."""

    bank: Place
    version: Count | None = None  # an earlier one; the newest if not given
    json: bool = False  # print one JSON object


@dataclass(frozen=True, kw_only=True)
class List(Checked):
    """List the documents of a bank, in the order of their memories."""

    bank: Place
    version: Count | None = None  # an earlier one; the newest if not given
    json: bool = False  # print one JSON object


@dataclass(frozen=True, kw_only=True)
class Search(Checked):
    """Find the memories nearest to a text, and tell what they hold where the model has a decoder of memories.

    By `vector` the text is encoded as the documents were. By `keys` those are found that hold the words before its
    end, as a memory model with a reader that finds would open them (preset memory).
    """

    bank: Place
    text: str  # of several chunks the nearest counts
    top: Count = 5  # memories
    by: Literal["vector", "keys"] = "vector"
    metric: Literal["cosine", "dot"] = "cosine"  # of --by vector
    exact: bool = False  # read every memory, although there are more than a million and an index of them
    version: Count | None = None  # an earlier one; the newest if not given
    model: Path | None = None  # a run or saved folder with the bank's encoder; the one that made the bank if not given
    device: Literal["auto", "cpu", "cuda"] = "auto"
    json: bool = False  # print one JSON object


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Take documents out of a bank. Earlier versions still hold them; memlm bank compact frees their room."""

    bank: Place
    documents: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DOCUMENT...")]  # by name
    json: bool = False  # print one JSON object


@dataclass(frozen=True, kw_only=True)
class Compact(Checked):
    """Join the small files of a bank, free the room of removed documents and of earlier versions.

    Of more than a million memories an index by their angles is made, which memlm bank search then asks.
    """

    bank: Place
    keep_days: NotNegative = 0.0  # versions that are younger stay
    json: bool = False  # print one JSON object


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write a bank of memlm 0.2 or earlier as one of today, with the same memories; the old one stays as it is."""

    bank: Place
    out: Path  # the new bank's folder
    dtype: Literal["fp32", "fp16", "int8"] | None = None  # of the numbers on disk; the old bank's if not given
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    if not argv or argv[0] in ("-h", "--help"):
        rows = "\n".join(f"  {name:<9}{(call.__doc__ or '').splitlines()[0]}" for name, (call, _) in ACTIONS.items())
        print(f"usage: memlm bank ACTION BANK [OPTIONS]\n\n{rows}\n\nmemlm bank ACTION --help tells the options.")
        return
    if argv[0] not in ACTIONS:
        raise UsageError(f"there is no memlm bank {argv[0]!r}; there are {', '.join(ACTIONS)}.")
    kind, run = ACTIONS[argv[0]]
    call = parse(kind, argv[1:], f"memlm bank {argv[0]}")
    told, said = run(call)
    print(json.dumps({"bank": str(call.bank), **told}, ensure_ascii=False) if call.json else said)


def _info(call: Info) -> tuple[dict[str, Any], str]:
    from memlm.bank.bank import Bank

    return _described(Bank.open(call.bank, call.version))


def _described(bank: "Bank") -> tuple[dict[str, Any], str]:
    """A bank in figures; how many bytes its files have is of all versions together."""
    meta = bank.meta
    disk = sum(one.stat().st_size for one in bank.path.rglob("*") if one.is_file())
    versions = [{"version": one.number, "written": one.written.isoformat(" ", "seconds")} for one in bank.versions()]
    told = {"documents": len(bank.documents), "chunks": len(bank), "tokens": bank.tokens}
    told |= {"memory_bytes": bank.memory_bytes, "disk_bytes": disk, "indexed": bank.table.indexed}
    told |= {**asdict(meta), "version": bank.version, "versions": versions}
    said = (
        f"{bank.path}: {len(bank.documents):,} documents, {bank.tokens:,} tokens in {len(bank):,} memories of up to "
        f"{meta.chunk_tokens} tokens in {meta.memory_dim} numbers ({meta.dtype})\n"
        f"encoder {meta.encoder[:12]} (SHA-256), made by {meta.model or 'a model whose place is not told'}; "
        f"{bank.memory_bytes:,} bytes of memories, {disk:,} on disk{', with an index' if bank.table.indexed else ''}\n"
        f"version {bank.version}; there are " + ", ".join(f"{v['version']} ({v['written']})" for v in versions)
    )
    return told, said


def _list(call: List) -> tuple[dict[str, Any], str]:
    from memlm.bank.bank import Bank

    bank = Bank.open(call.bank, call.version)
    rows = [[entry.name, f"{entry.tokens:,}", f"{entry.chunks:,}", entry.sha256[:12]] for entry in bank.documents]
    told = {"version": bank.version, "documents": [asdict(entry) for entry in bank.documents]}
    return told, aligned([("document", "tokens", "memories", "SHA-256"), *rows], words=1)


def _search(call: Search) -> tuple[dict[str, Any], str]:
    from memlm.api.own import OwnModel
    from memlm.bank.bank import Bank
    from memlm.bank.opening import open_maker

    bank = Bank.open(call.bank, call.version)
    if not call.text.strip():
        raise UsageError("there is no text to search by: give --text a word at least.")
    model = OwnModel(str(call.model or bank.meta.model), *open_maker(bank, call.model, call.device))
    hits = model.search(call.text, bank, call.top, by=call.by, metric=call.metric, exact=call.exact or None)
    passages = _passages(model, bank, hits)
    rows = [
        {"document": hit.document, "chunk": hit.chunk, "score": hit.score, "tokens": hit.tokens, "holds": passage}
        for hit, passage in zip(hits, passages, strict=True)
    ]
    shown = [
        [f"{row['score']:.3f}", row["document"], str(row["chunk"]), " ".join((row["holds"] or "").split())]
        for row in rows
    ]
    told = {"version": bank.version, "text": call.text, "by": call.by, "metric": call.metric, "found": rows}
    return told, aligned([("score", "document", "chunk", "what it holds"), *shown], words=3)


def _passages(model: Any, bank: "Bank", hits: "list[Hit]") -> list[str | None]:
    """What memories hold; None where the model decodes none, and of a blank copy, which is good of many alone."""
    from memlm.bank.decoder import own_decoder
    from memlm.bank.search import as_texts

    try:
        known = own_decoder(model.model).together == 1
    except UsageError:
        known = False
    return model.decode(as_texts(bank, hits)) if known else [None] * len(hits)


def _remove(call: Remove) -> tuple[dict[str, Any], str]:
    from memlm.bank.writing import remove_documents

    if not call.documents:
        raise UsageError("name at least one document to remove; memlm bank list tells their names.")
    told, said = _described(remove_documents(call.bank, call.documents))
    return {"removed": call.documents, **told}, said


def _compact(call: Compact) -> tuple[dict[str, Any], str]:
    from memlm.bank.writing import compact_bank

    return _described(compact_bank(call.bank, call.keep_days))


def _convert(call: Convert) -> tuple[dict[str, Any], str]:
    from memlm.bank.convert import convert_bank

    told, said = _described(convert_bank(call.bank, call.out, call.dtype))
    return {"out": str(call.out), **told}, said


ACTIONS: dict[str, tuple[type[Any], Callable[[Any], tuple[dict[str, Any], str]]]] = {
    "info": (Info, _info),
    "list": (List, _list),
    "search": (Search, _search),
    "remove": (Remove, _remove),
    "compact": (Compact, _compact),
    "convert": (Convert, _convert),
}
