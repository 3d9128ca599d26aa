"""The package as a stranger gets it: a wheel, in a fresh environment that holds its declared dependencies alone.

The environment is new and sees, through a .pth file, links to those installed packages that the wheel's core
dependencies need, theirs included: nothing is downloaded twice, and a package that is used but not declared is missing.
What belongs to the extras (accelerate, datasets, matplotlib, ...) therefore is not there.
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def needed(requires: list[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Installed packages that requirements without an extra ask for, and so on."""
    for requirement in map(Requirement, requires):
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found[name] = distribution(name)
            needed(found[name].requires or [], found)
    return found


def link(packages: dict[str, Distribution], folder: Path) -> None:
    """Links to all that packages have in site-packages."""
    for package in packages.values():
        for top in {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(package.locate_file(top))))


with tempfile.TemporaryDirectory() as scratch:
    place = Path(scratch)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT], check=True)
    (wheel,) = place.glob("memlm-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    python = place / "env" / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", wheel], check=True)
    (site,) = (place / "env" / "lib").glob("python*/site-packages")
    (metadata,) = site.glob("memlm-*.dist-info")
    declared = needed(Distribution.at(metadata).requires or [], {})
    (place / "core").mkdir()
    link(declared, place / "core")
    (site / "core.pth").write_text(f"{place / 'core'}\n")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    memlm = python.with_name("memlm")
    subprocess.run([memlm, "--version"], check=True, cwd=place, env=env)
    refused = subprocess.run(
        [memlm, "train", "slots", "--out", "x"], cwd=place, env=env, capture_output=True, text=True
    )
    assert refused.returncode == 2, refused.stderr
    assert "pip install 'memlm[train]'" in refused.stderr, refused.stderr
    tests = [sys.executable, "-m", "pytest", "tests/test_readme.py"]
    subprocess.run(tests, check=True, cwd=ROOT, env=env | {"MEMLM_PYTHON": str(python)})
