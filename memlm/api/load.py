"""A name -> a model behind the public interface."""

from pathlib import Path

from memlm.api.face import Model
from memlm.api.others import OthersModel
from memlm.api.own import OwnModel
from memlm.bank.opening import open_model
from memlm.errors import UsageError
from memlm.loading import is_ours
from memlm.precision import Device, device_of, restored


def load(name: Path | str, *, device: Device = "auto", layer: int = -1, readout: str | None = None) -> "Model":
    """Load a model, frozen.

    Args:
        name: a run or a saved folder of ours; or a model of others: a hub name, a folder, a GGUF file, `smollm2`,
            `minilm`.
        device: `auto` is a GPU where there is one.
        layer: of a model of others, whose hidden states become vectors: 0 the embeddings, -1 the last layer.
        readout: of a model of others: `last`, `mean`, `cls`, `pooled`, or `at:I,J,...`; what its kind is usually read
            by, if not given.

    Raises:
        UsageError: there is no such model, device, layer or readout.
        WorkError: it cannot be fetched, or there is too little memory.
    """
    name = str(name)
    if is_ours(Path(name)):
        if (layer, readout) != (-1, None):
            raise UsageError(f"{name} is a model of ours, whose memories are of one kind: leave layer and readout out.")
        with restored():
            return OwnModel(name, *open_model(name, device))
    from memlm.pretrained.hidden import HiddenReader, views_of
    from memlm.pretrained.opening import open_pretrained

    opened = open_pretrained(name, device=str(device_of(device)))
    views = views_of(opened, (layer,), (readout,) if readout else ())
    return OthersModel(name, HiddenReader(opened, views))
