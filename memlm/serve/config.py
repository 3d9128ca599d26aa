"""What a server is told: which models and bank, where it listens, and how much it takes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from memlm.ranges import Checked, Positive, Range

Port = Annotated[int, Range(0, 65535)]


@dataclass(frozen=True, kw_only=True)
class Serving(Checked):
    """Serve models over HTTP, in the shape of the OpenAI interface, with a page to play with at the root.

    The environment variable MEMLM_API_KEY, if it is set, is asked of every request but that for the page and /health.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]  # runs, folders, hub names
    bank: Path | None = None  # searched, recalled and read, by a model with the encoder that made it
    host: str = "127.0.0.1"  # 0.0.0.0: from other machines too
    port: Port = 8000  # 0: a free one, which is told
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: Annotated[int, Range(1, 2**16)] = 64  # requests of one kind that are computed together at most
    queue: Annotated[int, Range(1, 2**16)] = 1024  # requests that wait; more are told 429
    max_bytes: Annotated[int, Range(1, 2**30)] = 2**20  # of a request
    max_tokens: Annotated[int, Range(1, 2**20)] = 1024  # that are generated at once
    max_prompt: Annotated[int, Range(1, 2**20)] = 8192  # tokens of a prompt
    max_memories: Annotated[int, Range(1, 2**24)] = 8192  # of a request, or in its answer; a bank may hold more
    seconds: Annotated[float, Range(0, 86_400, open_low=True)] = 60.0  # from request to answer; then it is given up
    grace: Positive = 10.0  # seconds that running requests are given when the server is asked to end
