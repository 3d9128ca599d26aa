"""memlm prepare SOURCE --out DATA: text becomes a tokenizer and packed tokens."""

import json
from dataclasses import dataclass, fields
from typing import Annotated

import tyro

from memlm.cli.parsing import parse
from memlm.data.corpora import CORPORA
from memlm.data.prepare import Prepare, prepare
from memlm.data.split import HELD


@dataclass(frozen=True, kw_only=True)
class Call(Prepare):
    """Turn text into a tokenizer and packed tokens, in three parts: one to train on, one to tune on, one to test on."""

    source: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="SOURCE",
            help="a file or folder (text, Markdown, JSONL, Parquet), a corpus known by name "
            f"({', '.join(CORPORA)}), or a Hugging Face data set (owner/name)",
        ),
    ]
    json: bool = False  # print data.json and the path as one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm prepare", config=(tyro.conf.FlagCreatePairsOff,))
    corpus = prepare(Prepare(**{field.name: getattr(call, field.name) for field in fields(Prepare)}))
    if call.json:
        print(json.dumps({"path": str(corpus.path), **corpus.meta}, ensure_ascii=False))
        return
    train = corpus.meta["train"]
    print(
        f"{corpus.path}: {train['tokens']:,} tokens of {train['documents']:,} documents to train on "
        f"({train['bytes'] / train['tokens']:.2f} bytes a token, vocabulary {corpus.vocab_size})"
    )
    for part in HELD:
        told = corpus.meta[part]
        names = ", ".join(told["names"][:5]) + (f" and {len(told['names']) - 5} more" if len(told["names"]) > 5 else "")
        print(f"to {part}: {told['tokens']:,} tokens of {told['documents']:,} documents ({names}; {told['how']})")
