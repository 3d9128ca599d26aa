"""Models, data and an output folder -> a finished measurement on disk."""

from pathlib import Path
from typing import Any

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import read_json, write_json
from memlm.measure.config import MeasureConfig
from memlm.measure.encoders import open_encoder
from memlm.measure.retention import Measurement
from memlm.provenance import environment
from memlm.records import to_dict


def measure(
    models: list[str], data: Path, out: Path, config: MeasureConfig, *, cache: Path | None = None
) -> dict[str, Any]:
    """Measure models of one chunk length and write `OUT/results.json`; asked twice, the work is done once.

    Args:
        models: runs or saved folders.
        data: a folder made by memlm prepare.
        out: the measurement's folder.
        config: what is scored and the probe's budget.
        cache: the folder for embeddings, `OUT/embeddings` if not given.

    Returns:
        `results` (a row for each encoder, decoder and control), `samples` (recalled passages), `config`,
        `environment`.

    Raises:
        UsageError: no models, a model or data that is not there, or `out` holds another measurement.
    """
    if not models:
        raise UsageError("name at least one model to measure: a run or a saved folder.")
    corpus = Corpus.open(data)
    encoders = [open_encoder(model) for model in models]
    asked = {
        "models": {encoder.name: encoder.model.fingerprint() for encoder in encoders},
        "data": corpus.hash,
        "measure": to_dict(config),
    }
    done = Path(out) / "results.json"
    if done.exists():
        report = read_json(done)
        if report.get("config") == asked:
            return report
        raise UsageError(f"{out} holds another measurement: name another place.")
    measurement = Measurement(config, corpus, encoders[0].chunk_tokens, cache or Path(out) / "embeddings")
    for encoder in encoders:
        measurement.add(encoder)
    report = {
        "results": measurement.results,
        "samples": measurement.samples,
        "config": asked,
        "environment": environment(measurement.device.type),
    }
    write_json(done, report)
    return report
