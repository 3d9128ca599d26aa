"""memlm export RUN --out OUT: a folder to ship, with a model card, that the hub's tools and every command take."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from memlm.cli.parsing import parse

# As the hub calls them; what is under another one is `other`.
License = Literal["mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "other"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """Copy a model's weights, config and tokenizer into a folder of their own, with a model card and their SHA-256.

    Two exports of one run are equal to the byte; the hash that is printed is of all files together. To publish it:
    huggingface-cli upload OWNER/NAME OUT.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]  # a run, a curriculum, a saved folder
    out: Path  # the folder
    measured: tuple[Path, ...] = ()  # folders of memlm measure, whose figures of this model the card shows
    license: License | None = None  # of the weights; mit if not given, of a model that is over none of others
    language: str | None = None  # of the text, by its ISO 639 code
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm export")
    from memlm.export import export

    told = export(call.run, call.out, call.measured, license=call.license, language=call.language)
    print(json.dumps(told) if call.json else f"{told['out']}: {told['bytes']:,} bytes, SHA-256 {told['sha256']}")
