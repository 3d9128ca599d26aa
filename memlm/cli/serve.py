"""memlm serve MODEL [--bank BANK]: models behind HTTP, for clients of the OpenAI interface, and a page to play with."""

from memlm.cli.parsing import parse
from memlm.serve.config import Serving as Call


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm serve")
    from memlm.serve.run import run

    run(call)
