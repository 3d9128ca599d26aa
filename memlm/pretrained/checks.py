"""What can be wrong with a model's files, or with this machine, found before anything is loaded."""

from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import safe_open

from memlm.errors import UsageError, WorkError, refusing
from memlm.files import read_json, read_object
from memlm.huggingface import CONFIG_MAPPING

_POINTER = b"version https://git-lfs"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_folder(folder: Path) -> None:
    """Every file of a saved model is there and whole.

    UsageError: no config, a missing shard, a truncated file, a pointer in the place of one, pickled weights only, or a
    model that brings code of its own.
    """
    config = read_object(folder / "config.json")
    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING:
        raise UsageError(f"{folder} needs Python code that it brings itself, and memlm runs no code of a model.")
    index, names = folder / "model.safetensors.index.json", ["model.safetensors"]
    if index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
            if not names or any(Path(name).name != name for name in names):
                raise KeyError
        except (KeyError, TypeError, AttributeError):
            raise UsageError(f"{index} tells no weight_map: fetch {folder.name} again.") from None
    elif not (folder / names[0]).is_file():
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        if others:
            raise UsageError(f"{folder} has pickled weights only ({others[0]}): memlm reads safetensors.")
        raise UsageError(f"{folder} holds no weights: there is no model.safetensors in it.")
    for name in names:
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder} is not complete: {name} of {len(names)} files of weights is missing; fetch it again."
            )
        refuse_pointer(folder / name)
        told = refusing(f"{folder / name} is damaged or cut short, or has no header", ": fetch it again")
        with told, safe_open(folder / name, "pt"):  # the header can be read and the file is as long as it says
            pass


def refuse_pointer(path: Path) -> None:
    """Refuse a file that Git LFS keeps elsewhere with a UsageError."""
    with open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise UsageError(f"{path} is a Git LFS pointer and not the file itself: run `git lfs pull` in its folder.")


def weights_bytes(model: torch.nn.Module, precision: str) -> int:
    """Bytes of the weights of a model, which may stand on the meta device."""
    return sum(p.numel() for p in model.parameters()) * DTYPES[precision].itemsize


def activation_bytes(config: Any, tokens: int, rows: int, precision: str) -> int:
    """An upper estimate of what a forward pass of `rows` texts of `tokens` tokens takes, all hidden states kept."""
    text = config.get_text_config()
    width = text.hidden_size
    inner = getattr(text, "intermediate_size", None) or 4 * width
    a_token = width * (text.num_hidden_layers + 8) + 3 * inner + getattr(text, "num_attention_heads", 1) * tokens
    return rows * tokens * a_token * DTYPES[precision].itemsize


def refuse_full_memory(name: str, needed: int, device: str, why: str) -> None:
    """A WorkError where `needed` bytes are more than are free: told before the loading, not by the process' end."""
    free = free_bytes(device)
    if needed > free:
        raise WorkError(
            f"{name} needs {needed / 1e9:.1f} GB of memory ({why}) and {free / 1e9:.1f} GB are free on {device}: "
            "take a smaller model, --precision bf16 or smaller batches."
        )


def free_bytes(device: str) -> int:
    """Memory that could be used on a device now."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
