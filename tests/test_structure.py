"""The structure that docs/architecture.md draws: imports run one way, and models are not asked what they are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from memlm.bench import BENCHMARKS
from memlm.cli import COMMANDS

ROOT = Path(__file__).parent.parent / "memlm"
MODULES = {".".join(("memlm", *path.relative_to(ROOT).with_suffix("").parts)): path for path in ROOT.rglob("*.py")}

# Where code asks of a model, a shape, a reader or a config of ours what it is, and why it may.
ASKED = {
    ("api/own.py", "Generative"): "whether it predicts text at all, with a sentence for who named another model",
    ("evaluate/run.py", "Generative"): "the same",
    ("measure/reading.py", "Generative"): "the same, for a type checker",
    ("bench/parallel.py", "MemoryModel"): "a type checker is told what was just built",
    ("pretrained/soft.py", "BaseEncoderShape"): "the two encoders that a language model of others has",
    ("pretrained/soft.py", "EncoderShape"): "the same",
    ("bench/step.py", "StackConfig"): "every stack of a shape, whatever it is called, is made narrower",
    ("cli/train.py", "Curriculum"): "a preset is a run or several",
    ("train/table.py", "Curriculum"): "the same",
}
ROOMS = "models", "readers", "memory", "decoding", "pretrained", "nn"


@cache
def imports_of(path: Path) -> set[str]:
    """All modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memlm"):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("memlm")}
    return {name for name in found if name in MODULES}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """What cannot be put into an order in which everything comes after what it imports."""
    left = {node: edges - {node} for node, edges in graph.items()}
    while ready := [node for node, edges in left.items() if not edges & left.keys()]:
        for node in ready:
            del left[node]
    return sorted(left)


def room(module: str) -> str:
    """A module's folder; a module beside the folders is by itself."""
    parts = module.split(".")
    return ".".join(parts[:2])


def test_no_module_imports_in_a_circle():
    assert circles({name: imports_of(path) for name, path in MODULES.items()}) == []


def test_no_rooms_import_in_a_circle():
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        graph.setdefault(room(name), set()).update(
            room(other) for other in imports_of(path) if other != "memlm.__init__"
        )
    assert circles(graph) == []


@pytest.mark.parametrize("place", sorted(path.parent for path in ROOT.glob("*/__init__.py")), ids=lambda p: p.name)
def test_a_rooms_reading_order_names_its_files_each_after_those_that_it_needs(place):
    doc = ast.get_docstring(ast.parse((place / "__init__.py").read_text()))
    order = [quoted or listed for quoted, listed in re.findall(r"`([a-z_0-9]+)`|(\w+)\.py +", doc)]
    rows = {"bench": BENCHMARKS, "cli": COMMANDS}.get(place.name, {})  # which name theirs as data
    assert sorted([*order, *rows]) == sorted(path.stem for path in place.glob("*.py") if path.stem != "__init__")
    for n, name in enumerate(order):
        later = {f"memlm.{place.name}.{other}" for other in order[n + 1 :]}
        assert not imports_of(place / f"{name}.py") & later, name


def test_models_are_asked_what_they_can_and_not_what_they_are():
    ours = {
        node.name
        for name, path in MODULES.items()
        if name.split(".")[1] in ROOMS or name == "memlm.train.config"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    asked = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                named = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                asked |= {(path.relative_to(ROOT).as_posix(), name) for name in named & ours}
    asked = {(where, name) for where, name in asked if not where.startswith("nn/") and name not in ("Chunks",)}
    assert asked == ASKED.keys()
