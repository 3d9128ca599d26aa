"""memlm recall BANK: memories become text again."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from memlm.cli.parsing import parse
from memlm.ranges import Checked, Count


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Recall documents from their memories alone, and print their text.

    The text goes to stdout as it is, figures to stderr; several documents are printed with their names above them.
    """

    bank: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BANK")]  # made by memlm encode
    model: Path | None = None  # a run or saved folder with the bank's encoder; the one that made the bank if not given
    document: str | None = None  # the document's name; all of them if not given
    against: str | None = None  # the original file or folder: how much of it came back
    column: str = "text"  # the column or key that holds the original text (JSONL, Parquet)
    numbers: Count | None = None  # read the first so many of each memory, of a model trained for it (slots-nested)
    check: bool = False  # encode again what was recalled, and try other tokens where that is not the memory
    device: Literal["auto", "cpu", "cuda"] = "auto"
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm recall")
    from memlm.bank.bank import Bank
    from memlm.bank.decoder import own_decoder
    from memlm.bank.keep import check_size
    from memlm.bank.opening import open_maker
    from memlm.bank.recall import Checked as Check
    from memlm.bank.recall import Recalled, find_originals, recall_text
    from memlm.data.sources import open_source
    from memlm.ui import say

    bank = Bank.open(call.bank)
    numbers = range(len(bank.documents)) if call.document is None else [bank.find(call.document)]
    entries = [bank.documents[number] for number in numbers]
    source = None if call.against is None else open_source(call.against, column=call.column)
    originals = None if source is None else find_originals(entries, source, source.name)
    model, tokenizer = open_maker(bank, call.model, call.device)
    by = own_decoder(model).by  # refused before anything is printed
    check_size(model, call.numbers)
    if by == "blank copy":
        say("a memory model recalls by blank copy: only as well as it was trained to (objective blank)")

    rows = []
    for number, entry in zip(numbers, entries, strict=True):
        original, score = (None, None) if originals is None else (originals[entry.sha256], Recalled())
        check, digest = Check() if call.check else None, sha256()
        text = _hashed(recall_text(bank, model, tokenizer, number, original, score, check, call.numbers), digest)
        row: dict[str, Any] = {"name": entry.name, "tokens": entry.tokens, "chunks": entry.chunks}
        if call.json:
            row["text"] = "".join(text)
        else:
            _print(text, entry.name if len(numbers) > 1 else None)
        row["exact"] = digest.hexdigest() == entry.sha256
        if check is not None:
            row |= {"checked": sum(check.agrees), "doubtful": _doubtful(check)}
            say(f"{entry.name}: {_said(check, row)}")
        if score is not None:
            row |= score.as_json()
            say(
                f"{entry.name}: {row['token_accuracy']:.2%} of {entry.tokens:,} tokens and "
                f"{row['exact_chunks']:.1%} of {entry.chunks:,} chunks right"
            )
        if bank.meta.lossless and call.numbers is None and not row["exact"]:
            say(
                f"{entry.name}: this is not the very text, although the bank is lossless: decode it on the machine and "
                "with the versions that encoded it"
            )
        rows.append(row)
    if call.json:
        where = str(call.model) if call.model else bank.meta.model
        told = {"bank": str(call.bank), "model": where, "encoder": bank.meta.encoder}
        told |= {"by": by, "documents": rows}
        print(json.dumps(told, ensure_ascii=False))


def _hashed(text: Iterator[str], digest: Any) -> Iterator[str]:
    for part in text:
        digest.update(part.encode("utf-8", "surrogatepass"))
        yield part


def _doubtful(check: Any) -> list[dict[str, Any]]:
    """The memories that are not what their tokens encode to, by their numbers, and how likely these are right."""
    right = check.right or [None] * len(check.agrees)
    rows = enumerate(zip(check.agrees, right, strict=True))
    return [{"chunk": number, "right": p and round(p, 4)} for number, (agrees, p) in rows if not agrees]


def _said(check: Any, row: dict[str, Any]) -> str:
    told = f"{row['checked']:,} of {len(check.agrees):,} memories are what their text encodes to"
    if row["exact"]:
        return f"{told}; the text is the very one (SHA-256)"
    if not row["doubtful"]:
        return told
    some = ", ".join(str(one["chunk"]) for one in row["doubtful"][:10])
    return f"{told}; in doubt: {some}{', ...' if len(row['doubtful']) > 10 else ''} (chunks, from 0)"


def _print(text: Iterator[str], name: str | None) -> None:
    """A document's text as it is, so that a file of it equals the original; among several, under its name."""
    if name is not None:
        print(f"==> {name} <==")
    for part in text:
        sys.stdout.write(part)
    if name is not None or sys.stdout.isatty():
        print()
