"""Where a number comes from: machine, versions, commit. Every result carries this."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from memlm import __version__

_PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "safetensors", "numpy")


@cache
def commit() -> str:
    """The git commit of this source tree, with `+changed` when it has uncommitted changes, or the version.

    Of a copy without git's folder: what MEMLM_COMMIT says.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return os.environ.get("MEMLM_COMMIT", f"v{__version__}")
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+changed" if _git(root, "status", "--porcelain", "--", "memlm") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"v{__version__}"


def cores() -> int:
    """How many cores this process may use; all there are where the system does not tell (not Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str = "cpu") -> str:
    """One line: processor, cores this process may use, and the GPU when `device` is one."""
    import torch

    text = f"{_processor()}, {cores()} cores, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name()}; {text}" if device.startswith("cuda") else text


def environment(device: str = "cpu") -> dict[str, Any]:
    """Machine, Python, packages and commit as one JSON object."""
    return {
        "memlm": __version__,
        "commit": commit(),
        "machine": machine(device),
        "device": device,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _git(root: Path, *args: str) -> str:
    return subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=True).stdout.strip()


def version(package: str) -> str:
    """The version of an installed package, or `absent`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
