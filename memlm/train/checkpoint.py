"""Checkpoints: a folder per step that is whole or not there, nothing in it that would be unpickled.

checkpoints/step-00000500/model.safetensors, optimizer.safetensors, state.json (step, hashes, running figures)

Under FSDP each process writes its shares instead, shard-0000N-*.safetensors. Either is read by any number of processes.
"""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from memlm import __version__
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, check_format, read_json, sha256_file, told, write_json
from memlm.leftovers import remove
from memlm.train.optim import load_optimizer_tensors, parameter_of
from memlm.train.ranks import ALONE, Ranks

FORMAT = 1


def save_checkpoint(
    folder: Path,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    keep: int,
    ranks: Ranks = ALONE,
) -> Path:
    """Write the checkpoint of `step` into `folder` atomically and drop all but the newest `keep`; by all processes."""
    path = folder / f"step-{step:08d}"
    # Generators' states travel as tensors beside the optimiser's.
    optimizer = optimizer | _generators(ranks)
    with ExitStack() as stack:
        scratch = ranks.agreed(lambda: stack.enter_context(atomic_folder(path, replace=True)))
        shared = any(isinstance(tensor, DTensor) for tensor in model.values())
        if shared:
            with ranks.patient():
                _save_shares(model | optimizer, scratch)
        with ranks.together(), told(path):
            if ranks.first:
                for name, tensors in () if shared else (("model", model), ("optimizer", optimizer)):
                    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
                    save_file(tensors, scratch / f"{name}.safetensors")
                hashes = {file.name: sha256_file(file) for file in sorted(scratch.glob("*.safetensors"))}
                about = {"format": FORMAT, "memlm": __version__, "step": step, "sha256": hashes}
                write_json(scratch / "state.json", about | state)
                stack.close()
                for old in list_checkpoints(folder)[:-keep]:
                    remove(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def load_checkpoint(path: Path, ranks: Ranks = ALONE) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint back: its state, and the model's tensors, whole; restores torch's generators.

    Raises:
        WorkError: a file is missing, truncated or changed.
    """
    try:
        state = read_json(path / "state.json")
    except UsageError as error:
        raise _damaged(path, error) from None
    check_format(state, FORMAT, f"the checkpoint {path}")
    try:
        hashes, found = state["sha256"], {file.name for file in path.glob("*.safetensors")}
        if differing := found ^ hashes.keys():
            raise ValueError(f"{min(differing)} is missing, or does not belong to it")
        for name in hashes if ranks.first else ():
            if sha256_file(path / name) != hashes[name]:
                raise ValueError(f"{name} has changed since it was written")
        tensors = _read(path, lambda name: not name[0].isdigit())
        generators = {name: tensors.pop(name) for name in [*tensors] if name.split(".")[0] in ("rng", "rng_cuda")}
    except Exception as error:  # of our own reading, of safetensors, of a state that is no object
        raise _damaged(path, error) from None
    mine = f".{ranks.rank}" if f"rng.{ranks.rank}" in generators else ""  # of more processes than wrote it, the first's
    torch.set_rng_state(generators[f"rng{mine}"])
    on_device = generators.get(f"rng_cuda{mine}")
    if on_device is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(on_device)
    return state, tensors


def load_moments(path: Path, optimizers: list[torch.optim.Optimizer]) -> None:
    """Put back the state of optimisers: of each tensor what this process has of the parameter that it belongs to."""
    try:
        tensors = _read(path, lambda name: name[0].isdigit(), lambda name: parameter_of(optimizers, name))
        load_optimizer_tensors(optimizers, tensors)
    except Exception as error:
        raise _damaged(path, error) from None


def _save_shares(tensors: dict[str, Tensor], folder: Path) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    with told(folder, every=True):
        try:
            save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        except CheckpointException as error:  # raised by all processes: what went wrong in which
            raise next(iter(error.failures.values()))[0] from None


def _read(
    path: Path, wanted: Callable[[str], bool], like: Callable[[str], Tensor | None] = lambda name: None
) -> dict[str, Tensor]:
    """The tensors of these names, whole; or, of the shape of one that they are to be like, shared as it is."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(path))
    tensors = {}
    for name, known in reader.read_metadata().state_dict_metadata.items():
        if not wanted(name):
            continue
        assert isinstance(known, TensorStorageMetadata)
        one = like(name)
        if one is None or one.shape != known.size:
            tensors[name] = torch.empty(known.size, dtype=known.properties.dtype)
        else:
            tensors[name] = torch.empty_like(one, dtype=known.properties.dtype)
    with warnings.catch_warnings(action="ignore"):  # that nothing distributed is used
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def _damaged(path: Path, error: Exception) -> WorkError:
    why = str(error).strip().rstrip(".")
    return WorkError(f"the checkpoint {path} is damaged ({why}): remove it to resume from the one before.")


def _generators(ranks: Ranks) -> dict[str, Tensor]:
    """The states of the CPU's generator, and of the device's if it is used, of each process."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    mine = {"rng": torch.get_rng_state()} | ({"rng_cuda": torch.cuda.get_rng_state()} if used else {})
    return {f"{k}.{rank}" if rank else k: v for rank, one in enumerate(ranks.all(mine)) for k, v in one.items()}
