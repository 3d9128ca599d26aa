"""`memlm.measure(encoder, ...)`: what the command measures, as a function."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from memlm.measure.config import MeasureConfig
from memlm.measure.run import Measurable
from memlm.measure.run import measure as run
from memlm.measure.table import Results
from memlm.precision import restored


def measure(
    *encoders: Measurable,
    data: Path | str | None = None,
    chunk_tokens: int | Sequence[int] | None = None,
    texts: Path | str | Sequence[str] | None = None,
    name: str | None = None,
    out: Path | str | None = None,
    cache: Path | str | None = None,
    prior: Path | str | None = None,
    config: MeasureConfig | None = None,
) -> Results:
    """Train a fresh decoder to regenerate held-out text from an encoder's vectors alone, and tell what comes back.

    Args:
        encoders: one, or several to compare: a run or folder of ours; a model of others by hub name, folder, `smollm2`
            or `minilm`; what `memlm.load` returns; any function from a list of texts to vectors (an array, a tensor or
            lists [texts, M]), or an object with such an `encode`; an .npy or .safetensors file, or an array, of vectors
            [K, M] of `texts`.
        data: a folder made by `memlm prepare`, whose held-out text is asked for. With `texts` it only says whose tokens
            are asked for, and may be left out.
        chunk_tokens: tokens of a chunk, one length or several; runs are measured at their own. 64 if not given.
        texts: what vectors are of: a list, a file with one text a line (.txt; .jsonl: strings or `{"text": ...}`), or a
            .json list. The first tokens of each are asked for; a fifth of the texts is held out.
        name: what a function or an array is called. The vectors of a named function are kept in `cache` under its name
            and what it says of two texts; give another name to one that changes.
        out: a folder for results.json and the embeddings; asked twice, it is done once.
        cache: another folder for the embeddings.
        prior: a causal run of ours on the same data: what vectors add to what it would guess is told, too.
        config: what is scored and the probe's budget; `chunk_tokens` goes before its own.

    Returns:
        The report as `results.json` has it, a dict whose `results` are rows; printed, it is a table.

    Raises:
        UsageError: nothing to measure, or something that cannot be; one sentence says what to do.
        WorkError: a function of yours raises, a model cannot be fetched, a disk is full.
    """
    config = config or MeasureConfig()
    if chunk_tokens is not None:
        lengths = (chunk_tokens,) if isinstance(chunk_tokens, int) else tuple(chunk_tokens)
        config = replace(config, chunk_tokens=lengths)
    with restored():
        return run(encoders, data, out, config, cache=cache, texts=texts, name=name, prior=prior)
