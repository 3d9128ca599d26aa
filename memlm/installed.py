"""What memlm finds on this machine: versions, devices, threads, caches and their sizes, which extras are there."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from memlm.errors import EXTRAS
from memlm.provenance import environment, version
from memlm.wheels import cache_folder


def installed() -> dict[str, Any]:
    """All of it as one JSON object.

    Returns:
        what `environment` tells; `memory_bytes` and `free_bytes` of this machine; `threads` of torch and the variables
        that set them; `gpus`, each with its name and bytes; `caches`, folders with their bytes; `extras`, by name the
        packages with their versions (None: missing) and `install`, the command that brings what is missing.
    """
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    properties = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    memory = psutil.virtual_memory()
    caches = {"downloads": cache_folder(), "Hugging Face": Path(HF_HUB_CACHE)}
    extras: dict[str, dict[str, str | None]] = {}
    for package, extra in EXTRAS.items():
        extras.setdefault(extra, {})[package] = version(package) if find_spec(package) else None
    return {
        **environment("cuda" if torch.cuda.is_available() else "cpu"),
        "memory_bytes": memory.total,
        "free_bytes": memory.available,
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "cuda": torch.version.cuda,
        "gpus": [{"name": one.name, "bytes": one.total_memory} for one in properties],
        "caches": {name: {"path": str(path), "bytes": _bytes(path)} for name, path in caches.items()},
        "extras": {
            extra: {
                "packages": packages,
                "install": None if all(packages.values()) else f"pip install 'memlm[{extra}]'",
            }
            for extra, packages in extras.items()
        },
    }


def lines(told: dict[str, Any]) -> list[str]:
    """The same for people."""
    gpus = [f"{gpu['name']} ({gpu['bytes'] / 2**30:.0f} GiB)" for gpu in told["gpus"]]
    build = f"for CUDA {told['cuda']}" if told["cuda"] else "for CPUs alone"
    set_by = f" (OMP_NUM_THREADS={told['OMP_NUM_THREADS']})" if told["OMP_NUM_THREADS"] else ""
    rows = [
        f"memlm {told['memlm']} ({told['commit']}), Python {told['python']}, {told['system']}",
        "packages: " + ", ".join(f"{name} {number}" for name, number in told["packages"].items()),
        f"machine: {told['machine']}{set_by}; {told['free_bytes'] / 2**30:.1f} of {told['memory_bytes'] / 2**30:.1f} "
        "GiB of memory free",
        f"GPU: {', '.join(gpus) or 'none'} (torch is built {build})",
        *(f"cache: {name}, {one['bytes'] / 1e6:,.1f} MB in {one['path']}" for name, one in told["caches"].items()),
    ]
    for extra, one in told["extras"].items():
        there = ", ".join(f"{name} {number or 'missing'}" for name, number in one["packages"].items())
        rows.append(f"extra {extra}: {there}" + (f"; {one['install']}" if one["install"] else ""))
    return rows


def _bytes(folder: Path) -> int:
    """What files take in a folder, without the links that the hub's cache is full of; 0 where there is none."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())
