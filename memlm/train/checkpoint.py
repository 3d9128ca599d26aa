"""Checkpoints: a folder per step that is whole or not there, nothing in it that would be unpickled.

checkpoints/step-00000500/model.safetensors, optimizer.safetensors, state.json (step, hashes, running figures)
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from memlm import __version__
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, check_format, read_json, sha256_file, write_json
from memlm.leftovers import remove

_FILES = ("model.safetensors", "optimizer.safetensors")
FORMAT = 1


def save_checkpoint(
    folder: Path, step: int, model: dict[str, Tensor], optimizer: dict[str, Tensor], state: dict[str, Any], keep: int
) -> Path:
    """Write the checkpoint of `step` into `folder` atomically and drop all but the newest `keep`."""
    path = folder / f"step-{step:08d}"
    with atomic_folder(path, replace=True) as scratch:
        save_file({k: v.detach().cpu().contiguous() for k, v in model.items()}, scratch / _FILES[0])
        # Generators' states travel as tensors beside the optimiser's.
        save_file({**optimizer, **_generators()}, scratch / _FILES[1])
        hashes = {name: sha256_file(scratch / name) for name in _FILES}
        told = {"format": FORMAT, "memlm": __version__, "step": step, "sha256": hashes}
        write_json(scratch / "state.json", told | state)
    for old in list_checkpoints(folder)[:-keep]:
        remove(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Read a checkpoint back: its state, the model's tensors, the optimiser's tensors; restores torch's generators.

    Raises:
        WorkError: a file is missing, truncated or changed.
    """
    try:
        state = read_json(path / "state.json")
    except UsageError as error:
        raise _damaged(path, error) from None
    check_format(state, FORMAT, f"the checkpoint {path}")
    try:
        damaged = [name for name in _FILES if sha256_file(path / name) != state["sha256"][name]]
        if damaged:
            raise ValueError(f"{damaged[0]} has changed since it was written")
        model, optimizer = (load_file(path / name) for name in _FILES)
    except Exception as error:  # of our own reading, of safetensors, of a state that is no object
        raise _damaged(path, error) from None
    torch.set_rng_state(optimizer.pop("rng"))
    on_device = optimizer.pop("rng_cuda", None)
    if on_device is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(on_device)
    return state, model, optimizer


def _damaged(path: Path, error: Exception) -> WorkError:
    why = str(error).strip().rstrip(".")
    return WorkError(f"the checkpoint {path} is damaged ({why}): remove it to resume from the one before.")


def _generators() -> dict[str, Tensor]:
    """The states of the CPU's generator, and of the device's if this process has used it."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"rng": torch.get_rng_state()} | ({"rng_cuda": torch.cuda.get_rng_state()} if used else {})
