"""memlm claims: from nothing to a page of the paper's claims, each judged by its rule."""

import json
import time
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from memlm.claims.config import Claims
from memlm.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Call:
    """Judge the paper's claims C1 to C7 by the rules of the protocol: prepare, train, measure, decide.

    Meant for about an hour on two cores; a quick one for ten minutes: it says so, and decides less.
    """

    json: bool = False  # print what claims.json holds
    config: Annotated[Claims, tyro.conf.arg(name="")] = field(default_factory=Claims)


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm claims")
    from memlm.claims.command import make_claims
    from memlm.locks import held

    started = time.perf_counter()
    with held(call.config.out):
        told = make_claims(call.config)
    if call.json:
        print(json.dumps(told))
    else:
        for one in told["claims"]:
            print(f"{one['claim']}: {one['verdict']}: {one['title']}")
        print(f"\npage: {told['page']} ({(time.perf_counter() - started) / 60:.1f} minutes in all)")
