"""The package's own promises: a version told once, extras that a sentence names, a lock file that is complete."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import memlm
from memlm import errors
from memlm.cli import main
from memlm.errors import not_installed

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    extra: {canonicalize_name(Requirement(line).name) for line in lines}
    for extra, lines in PROJECT["optional-dependencies"].items()
}
NOT_PINNED = {"trackers", "ray"}  # whose tests skip where they are not installed
CORE = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}


def test_the_version_is_told_once():
    assert "version" in PROJECT["dynamic"]
    told = re.findall(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert told[0] == memlm.__version__


def test_whoever_only_encodes_installs_no_more_than_that():
    assert not CORE & {"accelerate", "datasets", "ray", "matplotlib", "jinja2", "sentence-transformers", "lm-eval"}


def test_a_missing_package_is_told_with_the_extra_that_brings_it():
    for package, extra in errors.EXTRAS.items():
        assert canonicalize_name(package) in EXTRAS[extra]
        assert f"pip install 'memlm[{extra}]'" in str(not_installed(ModuleNotFoundError(name=f"{package}.part")))
    brought = {package for packages in EXTRAS.values() for package in packages} - {"memlm"}
    assert brought <= {canonicalize_name(package) for package in errors.EXTRAS}
    assert not_installed(ModuleNotFoundError(name="another")) is None


def test_a_command_that_lacks_a_package_says_so(monkeypatch, capsys):
    """That encoding really does without is seen where only the declared packages are (.ci/wheel.py)."""

    def lacks(argv):
        raise ModuleNotFoundError(name="accelerate")

    monkeypatch.setattr("memlm.cli.train.main", lacks)
    assert main(["train", "slots"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "memlm: this needs accelerate, which is not installed: pip install 'memlm[train]'."
    ]


def test_the_lock_pins_all_that_is_needed_with_hashes():
    lines = (ROOT / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    pinned = {}
    for line in lines:
        if not line.startswith("#"):
            name, version, _ = re.fullmatch(r"(\S+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+) *", line).groups()
            pinned[canonicalize_name(name)] = version
    needed = CORE.union(*(EXTRAS[extra] for extra in EXTRAS.keys() - NOT_PINNED)) - {"memlm", "torch"}
    assert needed <= pinned.keys()
    assert "torch" not in pinned
    assert re.search(r"^torch==\S+$", (ROOT / "requirements-torch.lock").read_text(), re.MULTILINE)
